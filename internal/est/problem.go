package est

import (
	"net/http"
	"strconv"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// answers has the HTTP status of every fault.Kind. A limit is 503, not 429:
// RFC 7030 knows Retry-After with 202 and 503, and so do its clients.
var answers = [...]int{
	fault.Internal:                http.StatusInternalServerError,
	fault.Malformed:               http.StatusBadRequest,
	fault.Unverified:              http.StatusUnauthorized,
	fault.BadNonce:                http.StatusBadRequest,
	fault.BadCSR:                  http.StatusBadRequest,
	fault.BadPublicKey:            http.StatusBadRequest,
	fault.BadAlgorithm:            http.StatusBadRequest,
	fault.RejectedIdentifier:      http.StatusForbidden,
	fault.UnsupportedIdentifier:   http.StatusBadRequest,
	fault.InvalidProfile:          http.StatusNotFound,
	fault.Denied:                  http.StatusForbidden,
	fault.Unauthenticated:         http.StatusUnauthorized,
	fault.AccountDoesNotExist:     http.StatusForbidden,
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
	fault.RateLimited:             http.StatusServiceUnavailable,
	fault.Pending:                 http.StatusAccepted,
	fault.Unavailable:             http.StatusServiceUnavailable,
}

// status returns the row of a kind; a kind without one is internal.
func status(k fault.Kind) int {
	if int(k) >= len(answers) || answers[k] == 0 {
		return http.StatusInternalServerError
	}
	return answers[k]
}

// refuse says in a line of text what is wrong (RFC 8951, section 5): the detail
// and the stable reason that every protocol gives for the same refusal. What the
// client is not told is in the request's log line.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	text := f.Detail
	switch {
	case f.Kind == fault.Internal:
		text = "the server failed to process the request"
	case text == "":
		text = f.Kind.String()
	}
	if f.Reason != "" && f.Kind != fault.Internal {
		text += " (" + f.Reason + ")"
	}
	for _, sub := range f.Sub {
		text += "\n" + sub.Detail
	}
	h := w.Header()
	if after := retryAfter(f); after > 0 {
		h.Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status(f.Kind))
	_, _ = w.Write([]byte(text + "\n"))
}

// retryAfter is when to come back; kinds that ask for it always say when.
func retryAfter(f *fault.Error) time.Duration {
	if f.RetryAfter > 0 {
		return f.RetryAfter
	}
	switch f.Kind {
	case fault.RateLimited:
		return time.Minute
	case fault.Unavailable, fault.Pending:
		return 5 * time.Second
	}
	return 0
}
