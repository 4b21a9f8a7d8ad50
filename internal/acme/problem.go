package acme

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// errorURN is the prefix of every problem type (RFC 8555, section 6.7).
const errorURN = "urn:ietf:params:acme:error:"

// answer is how ACME says one kind of fault.
type answer struct {
	typ    string // without errorURN
	status int
}

// answers has a row for every fault.Kind. 409 stands only where clients expect
// it: some read any 409 as "this account exists already" (rule A50).
var answers = [...]answer{
	fault.Internal:                {"serverInternal", http.StatusInternalServerError},
	fault.Malformed:               {"malformed", http.StatusBadRequest},
	fault.Unverified:              {"malformed", http.StatusBadRequest},
	fault.BadNonce:                {"badNonce", http.StatusBadRequest},
	fault.BadCSR:                  {"badCSR", http.StatusBadRequest},
	fault.BadPublicKey:            {"badPublicKey", http.StatusBadRequest},
	fault.BadAlgorithm:            {"badSignatureAlgorithm", http.StatusBadRequest},
	fault.RejectedIdentifier:      {"rejectedIdentifier", http.StatusForbidden},
	fault.UnsupportedIdentifier:   {"unsupportedIdentifier", http.StatusBadRequest},
	fault.InvalidProfile:          {"invalidProfile", http.StatusBadRequest},
	fault.Denied:                  {"unauthorized", http.StatusForbidden},
	fault.Unauthenticated:         {"unauthorized", http.StatusForbidden},
	fault.AccountDoesNotExist:     {"accountDoesNotExist", http.StatusBadRequest},
	fault.ExternalAccountRequired: {"externalAccountRequired", http.StatusForbidden},
	fault.UserActionRequired:      {"userActionRequired", http.StatusForbidden},
	fault.InvalidContact:          {"invalidContact", http.StatusBadRequest},
	fault.UnsupportedContact:      {"unsupportedContact", http.StatusBadRequest},
	fault.NotFound:                {"malformed", http.StatusNotFound},
	fault.MethodNotAllowed:        {"malformed", http.StatusMethodNotAllowed},
	fault.UnsupportedMediaType:    {"malformed", http.StatusUnsupportedMediaType},
	fault.TooLarge:                {"malformed", http.StatusRequestEntityTooLarge},
	fault.NotReady:                {"orderNotReady", http.StatusForbidden},
	fault.AlreadyRevoked:          {"alreadyRevoked", http.StatusBadRequest},
	fault.BadRevocationReason:     {"badRevocationReason", http.StatusBadRequest},
	fault.AlreadyReplaced:         {"alreadyReplaced", http.StatusConflict},
	fault.Conflict:                {"malformed", http.StatusConflict},
	fault.DNS:                     {"dns", http.StatusBadRequest},
	fault.Connection:              {"connection", http.StatusBadRequest},
	fault.TLS:                     {"tls", http.StatusBadRequest},
	fault.CAA:                     {"caa", http.StatusForbidden},
	fault.IncorrectResponse:       {"incorrectResponse", http.StatusForbidden},
	fault.RateLimited:             {"rateLimited", http.StatusTooManyRequests},
	fault.Pending:                 {"serverInternal", http.StatusServiceUnavailable},
	fault.Unavailable:             {"serverInternal", http.StatusServiceUnavailable},
}

// answerTo returns the row of a kind; a kind without one is internal.
func answerTo(k fault.Kind) answer {
	if int(k) >= len(answers) || answers[k].typ == "" {
		return answers[fault.Internal]
	}
	return answers[k]
}

// problem is a problem document (RFC 8555, section 6.7; RFC 7807). Reason is
// ours: the stable code that every protocol gives for the same refusal.
type problem struct {
	Type        string       `json:"type"`
	Detail      string       `json:"detail,omitempty"`
	Status      int          `json:"status,omitempty"`
	Reason      string       `json:"reason,omitempty"`
	Instance    string       `json:"instance,omitempty"`
	Algorithms  []string     `json:"algorithms,omitempty"`
	Identifier  *identifier  `json:"identifier,omitempty"` // subproblems only (section 6.7.1)
	Subproblems []subproblem `json:"subproblems,omitempty"`
}

type subproblem struct {
	Type       string      `json:"type"`
	Detail     string      `json:"detail,omitempty"`
	Reason     string      `json:"reason,omitempty"`
	Identifier *identifier `json:"identifier,omitempty"`
}

type identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// problemOf says a fault as ACME does. What is internal shows no detail.
func problemOf(f *fault.Error) problem {
	a := answerTo(f.Kind)
	p := problem{Type: errorURN + a.typ, Status: a.status, Detail: f.Detail, Reason: f.Reason}
	switch f.Kind {
	case fault.Internal:
		p.Detail = "the server failed to process the request"
		return p
	case fault.BadAlgorithm:
		p.Algorithms = algorithmNames()
	}
	if p.Detail == "" {
		p.Detail = f.Kind.String()
	}
	subs := f.Sub
	if len(subs) == 0 && f.Identifier != (fault.Identifier{}) {
		subs = []*fault.Error{f} // a name may stand in a subproblem only
	}
	for _, sub := range subs {
		p.add(sub)
	}
	return p
}

// add appends a subproblem; when types differ, the whole is "compound".
func (p *problem) add(f *fault.Error) {
	s := subproblem{Type: errorURN + answerTo(f.Kind).typ, Detail: f.Detail, Reason: f.Reason}
	if f.Identifier != (fault.Identifier{}) {
		s.Identifier = &identifier{f.Identifier.Type, f.Identifier.Value}
	}
	if s.Type != p.Type {
		p.Type = errorURN + "compound"
	}
	p.Subproblems = append(p.Subproblems, s)
}

// challengeJSON is the document that a challenge keeps as its error. Whose it is says
// the authorization: a subproblem for the one name would say all of it twice.
func challengeJSON(err error) json.RawMessage {
	f := *fault.Of(err)
	f.Identifier = fault.Identifier{}
	return problemJSON(&f)
}

// problemJSON is the document that a challenge or an order keeps as its error.
func problemJSON(err error) json.RawMessage {
	text, encErr := json.Marshal(problemOf(fault.Of(err)))
	if encErr != nil { // strings and ints only: cannot happen
		return json.RawMessage(`{"type":"` + errorURN + `serverInternal"}`)
	}
	return text
}

// headed is an error that brings a header field with it, such as the Location
// of the account that has a key already.
type headed struct {
	error
	name, value string
}

func (h headed) Unwrap() error { return h.error }

// refuse writes the problem document of err. What the client is not told is in
// the request's log line, where web.Handler puts it.
func (s *Server) refuse(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	p := problemOf(f)
	h := w.Header()
	var with headed
	if errors.As(err, &with) {
		h.Add(with.name, with.value)
	}
	switch f.Kind {
	case fault.RateLimited:
		h.Add("Link", link(s.current().cfg.Website, "help"))
	case fault.UserActionRequired: // RFC 8555, section 7.3.3
		p.Instance = s.current().cfg.TermsOfService
		h.Add("Link", link(p.Instance, "terms-of-service"))
	}
	if after := retryAfter(f); after > 0 {
		h.Set("Retry-After", seconds(after))
	}
	body, _ := json.Marshal(p)
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

// retryAfter is when to come back; kinds that ask for it always say when (A12).
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

// seconds renders a Retry-After, rounded up: zero would mean at once.
func seconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}

// link renders a Link field; rel stands right behind the URL, quoted, because
// one client's pattern wants it there (rule A7).
func link(url, rel string) string { return "<" + url + `>;rel="` + rel + `"` }
