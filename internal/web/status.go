package web

import (
	"net/http"

	"github.com/privyseal/privyseal/internal/fault"
)

// statuses has a row for every kind of fault. Kinds that only ACME can raise
// are here too: a request that two protocols share must not meet a hole.
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
	fault.AccountDoesNotExist:     http.StatusNotFound,
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

// Status is how plain HTTP answers a fault of the given kind: what published
// files, the operator API and other front-ends without a protocol of their own
// say. ACME, EST and SCEP have tables of their own.
func Status(k fault.Kind) int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return http.StatusInternalServerError
}
