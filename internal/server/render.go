package server

import (
	"net/http"
	"strconv"

	"github.com/privyseal/privyseal/internal/fault"
)

// statuses is how plain HTTP (published files, health) answers each kind of
// fault.
var statuses = map[fault.Kind]int{
	fault.Internal:                http.StatusInternalServerError,
	fault.Malformed:               http.StatusBadRequest,
	fault.Unverified:              http.StatusUnauthorized,
	fault.BadNonce:                http.StatusBadRequest,
	fault.BadCSR:                  http.StatusBadRequest,
	fault.BadPublicKey:            http.StatusBadRequest,
	fault.BadAlgorithm:            http.StatusBadRequest,
	fault.RejectedIdentifier:      http.StatusForbidden,
	fault.UnsupportedIdentifier:   http.StatusBadRequest,
	fault.InvalidProfile:          http.StatusBadRequest,
	fault.Denied:                  http.StatusForbidden,
	fault.Unauthenticated:         http.StatusUnauthorized,
	fault.AccountDoesNotExist:     http.StatusBadRequest,
	fault.ExternalAccountRequired: http.StatusForbidden,
	fault.UserActionRequired:      http.StatusForbidden,
	fault.InvalidContact:          http.StatusBadRequest,
	fault.UnsupportedContact:      http.StatusBadRequest,
	fault.NotFound:                http.StatusNotFound,
	fault.MethodNotAllowed:        http.StatusMethodNotAllowed,
	fault.UnsupportedMediaType:    http.StatusUnsupportedMediaType,
	fault.TooLarge:                http.StatusRequestEntityTooLarge,
	fault.NotReady:                http.StatusConflict,
	fault.AlreadyRevoked:          http.StatusConflict,
	fault.BadRevocationReason:     http.StatusBadRequest,
	fault.AlreadyReplaced:         http.StatusConflict,
	fault.Conflict:                http.StatusConflict,
	fault.DNS:                     http.StatusBadRequest,
	fault.Connection:              http.StatusBadRequest,
	fault.TLS:                     http.StatusBadRequest,
	fault.CAA:                     http.StatusForbidden,
	fault.IncorrectResponse:       http.StatusForbidden,
	fault.RateLimited:             http.StatusTooManyRequests,
	fault.Pending:                 http.StatusAccepted,
	fault.Unavailable:             http.StatusServiceUnavailable,
}

// renderText answers a fault in one line of text.
func renderText(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	detail := f.Detail
	if detail == "" || f.Kind == fault.Internal {
		detail = "internal error"
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds()+0.5)))
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, detail, statuses[f.Kind])
}
