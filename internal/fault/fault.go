// Package fault holds the one error type that travels from any floor to the
// edge of a protocol. A fault names what went wrong (Kind), what the client may
// be told (Detail) and what the log needs (Err). A plain error that reaches an
// edge is Internal: logged, its text hidden from the client.
//
// Renderers (ACME problem documents, EST text, SCEP failInfo, RFC 9457) each
// keep one table with a row for every Kind; a test ranges over Kinds.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Kind is the class of a fault; each protocol answers one Kind in one way.
type Kind uint8

// The kinds. Where a comment names a rule, conformance rule ids are meant.
const (
	Internal                Kind = iota // nothing the client can mend; detail hidden
	Malformed                           // the request cannot be understood
	Unverified                          // the message's own signature does not verify
	BadNonce                            // A5
	BadCSR                              // A41
	BadPublicKey                        // A16, X13
	BadAlgorithm                        // A16: signature algorithm not accepted
	RejectedIdentifier                  // A32: refused by policy
	UnsupportedIdentifier               // A32: identifier type not known
	InvalidProfile                      // A65
	Denied                              // authenticated, but not allowed
	Unauthenticated                     // nobody we know
	AccountDoesNotExist                 // A18, A23
	ExternalAccountRequired             // A26
	UserActionRequired                  // A24
	InvalidContact                      // A25
	UnsupportedContact                  // A25
	NotFound                            // no such thing
	MethodNotAllowed                    // A10
	UnsupportedMediaType                // A13
	TooLarge                            // body over the limit
	NotReady                            // A40: orderNotReady
	AlreadyRevoked                      // A47
	BadRevocationReason                 // A47
	AlreadyReplaced                     // A64
	Conflict                            // A30 and every lost compare-and-swap
	DNS                                 // A56: lookup failed
	Connection                          // A54: could not connect
	TLS                                 // A57: handshake failed
	CAA                                 // A59
	IncorrectResponse                   // A52: the challenge's answer is wrong
	RateLimited                         // A50
	Pending                             // waits for a person or for work in progress
	Unavailable                         // HSM, database or audit is away; try later
	kinds                               // number of kinds
)

var kindNames = [kinds]string{
	Internal: "internal", Malformed: "malformed", Unverified: "unverified", BadNonce: "bad_nonce",
	BadCSR: "bad_csr", BadPublicKey: "bad_public_key", BadAlgorithm: "bad_algorithm",
	RejectedIdentifier: "rejected_identifier", UnsupportedIdentifier: "unsupported_identifier",
	InvalidProfile: "invalid_profile", Denied: "denied", Unauthenticated: "unauthenticated",
	AccountDoesNotExist: "account_does_not_exist", ExternalAccountRequired: "external_account_required",
	UserActionRequired: "user_action_required", InvalidContact: "invalid_contact",
	UnsupportedContact: "unsupported_contact", NotFound: "not_found", MethodNotAllowed: "method_not_allowed",
	UnsupportedMediaType: "unsupported_media_type", TooLarge: "too_large", NotReady: "not_ready",
	AlreadyRevoked: "already_revoked", BadRevocationReason: "bad_revocation_reason",
	AlreadyReplaced: "already_replaced", Conflict: "conflict", DNS: "dns", Connection: "connection", TLS: "tls",
	CAA: "caa", IncorrectResponse: "incorrect_response", RateLimited: "rate_limited", Pending: "pending",
	Unavailable: "unavailable",
}

// String returns the kind's name in snake case, as logs and metrics carry it.
func (k Kind) String() string {
	if k >= kinds {
		return "unknown"
	}
	return kindNames[k]
}

// Kinds returns every kind, for tests that range over renderers.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Identifier is the name that a fault is about, in ACME's terms (type "dns",
// "ip", …). The zero value means none.
type Identifier struct{ Type, Value string }

// Error is a fault.
type Error struct {
	Kind       Kind
	Reason     string        // stable code in snake case, such as "path_length"; may be empty
	Detail     string        // one sentence for the client
	Identifier Identifier    // what it is about, if a name
	Sub        []*Error      // one for each bad name (RFC 8555, section 6.7.1)
	RetryAfter time.Duration // when to try again; 0 is unsaid
	Err        error         // for the log; never shown to the client
}

// New returns a fault of the given kind whose detail is formatted. A %w verb
// keeps the wrapped error for errors.Is, but its text becomes part of the
// detail: wrap only what the client may read.
func New(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Detail: err.Error(), Err: errors.Unwrap(err)}
}

// Wrap returns a fault of the given kind: detail is for the client, err for the
// log. The detail shows nothing of err.
func Wrap(kind Kind, err error, detail string) *Error {
	return &Error{Kind: kind, Detail: detail, Err: err}
}

// Error returns the text for the log: kind, detail and the hidden cause.
func (e *Error) Error() string {
	s := e.Kind.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil && e.Err.Error() != e.Detail {
		s += " (" + e.Err.Error() + ")"
	}
	return s
}

// Unwrap returns the hidden cause.
func (e *Error) Unwrap() error { return e.Err }

// Because returns a copy of e with the given reason code.
func (e *Error) Because(reason string) *Error {
	c := *e
	c.Reason = reason
	return &c
}

// About returns a copy of e that names the identifier concerned.
func (e *Error) About(typ, value string) *Error {
	c := *e
	c.Identifier = Identifier{typ, value}
	return &c
}

// After returns a copy of e that asks the client to come back after d.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Of returns the fault in err's chain, or an Internal one around err. Of(nil)
// is nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Err: err}
}

// Is reports whether err's fault is of the given kind.
func Is(err error, kind Kind) bool {
	return err != nil && Of(err).Kind == kind
}

// Distinct returns the faults of a list that a client could tell apart, each once, in
// order.
func Distinct(list []*Error) []*Error {
	type shown struct {
		kind           Kind
		detail, reason string
		identifier     Identifier
	}
	seen := make(map[shown]bool, len(list))
	var out []*Error
	for _, e := range list {
		key := shown{e.Kind, e.Detail, e.Reason, e.Identifier}
		if !seen[key] {
			seen[key] = true
			out = append(out, e)
		}
	}
	return out
}

// Text is what may be shown of err: a fault's own detail, or the error's text.
func Text(err error) string {
	if f := Of(err); f.Detail != "" {
		return f.Detail
	}
	return fmt.Sprint(err)
}

// Cause strips the operation and the path of a file error, for callers that name
// the file themselves.
func Cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
