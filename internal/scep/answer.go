package scep

import (
	"net/http"
	"strconv"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// failInfo says why a request failed (RFC 8894, section 3.2.1.4).
type failInfo int

const (
	badAlg failInfo = iota
	badMessageCheck
	badRequest
	badTime
	badCertID

	// pending and none are no failInfos: the first is a status of its own, the
	// second says that no CertRep is made and HTTP tells.
	pending failInfo = -1
	none    failInfo = -2
)

var failInfoNames = [...]string{badAlg: "badAlg", badMessageCheck: "badMessageCheck", badRequest: "badRequest",
	badTime: "badTime", badCertID: "badCertId"}

// answer is how SCEP says one kind of fault: in a CertRep that is HTTP 200, or,
// where none can or may be made, by an HTTP status (rule S5).
type answer struct {
	fail   failInfo
	status int // where there is no CertRep
}

// answers has a row for every fault.Kind. What the server cannot do now is never
// a failInfo: a client takes that as final.
var answers = [...]answer{
	fault.Internal:                {none, http.StatusInternalServerError},
	fault.Malformed:               {badRequest, http.StatusBadRequest},
	fault.Unverified:              {badMessageCheck, http.StatusBadRequest},
	fault.BadNonce:                {badRequest, http.StatusBadRequest},
	fault.BadCSR:                  {badRequest, http.StatusBadRequest},
	fault.BadPublicKey:            {badAlg, http.StatusBadRequest},
	fault.BadAlgorithm:            {badAlg, http.StatusBadRequest},
	fault.RejectedIdentifier:      {badRequest, http.StatusForbidden},
	fault.UnsupportedIdentifier:   {badRequest, http.StatusBadRequest},
	fault.InvalidProfile:          {badRequest, http.StatusBadRequest},
	fault.Denied:                  {badRequest, http.StatusForbidden},
	fault.Unauthenticated:         {badRequest, http.StatusForbidden},
	fault.AccountDoesNotExist:     {badRequest, http.StatusForbidden},
	fault.ExternalAccountRequired: {badRequest, http.StatusForbidden},
	fault.UserActionRequired:      {badRequest, http.StatusForbidden},
	fault.InvalidContact:          {badRequest, http.StatusBadRequest},
	fault.UnsupportedContact:      {badRequest, http.StatusBadRequest},
	fault.NotFound:                {badCertID, http.StatusNotFound},
	fault.MethodNotAllowed:        {badRequest, http.StatusMethodNotAllowed},
	fault.UnsupportedMediaType:    {badRequest, http.StatusUnsupportedMediaType},
	fault.TooLarge:                {badRequest, http.StatusRequestEntityTooLarge},
	fault.NotReady:                {badRequest, http.StatusConflict},
	fault.AlreadyRevoked:          {badRequest, http.StatusConflict},
	fault.BadRevocationReason:     {badRequest, http.StatusBadRequest},
	fault.AlreadyReplaced:         {badRequest, http.StatusConflict},
	fault.Conflict:                {badRequest, http.StatusConflict},
	fault.DNS:                     {badRequest, http.StatusBadRequest},
	fault.Connection:              {badRequest, http.StatusBadRequest},
	fault.TLS:                     {badRequest, http.StatusBadRequest},
	fault.CAA:                     {badRequest, http.StatusForbidden},
	fault.IncorrectResponse:       {badRequest, http.StatusForbidden},
	fault.RateLimited:             {none, http.StatusServiceUnavailable},
	fault.Pending:                 {pending, http.StatusServiceUnavailable},
	fault.Unavailable:             {none, http.StatusServiceUnavailable},
}

func answerTo(k fault.Kind) answer {
	if int(k) < len(answers) {
		return answers[k]
	}
	return answers[fault.Internal]
}

// failInfoText is what a client is told in words (RFC 8894, section 3.2.1.4.2).
func failInfoText(f *fault.Error) string {
	text := f.Detail
	if text == "" {
		text = f.Kind.String()
	}
	if f.Reason != "" {
		text += " [" + f.Reason + "]"
	}
	return text
}

// refuse answers by HTTP what cannot be answered by a CertRep. What the client is
// not told is in the request's log line.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	text := failInfoText(f)
	if f.Kind == fault.Internal {
		text = "the server failed to process the request"
	}
	status := answerTo(f.Kind).status
	if after := retryAfter(f); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}

// retryAfter is when to come back; 503 always says when.
func retryAfter(f *fault.Error) time.Duration {
	if f.RetryAfter > 0 || answerTo(f.Kind).status != http.StatusServiceUnavailable {
		return f.RetryAfter
	}
	return 5 * time.Second
}
