package issuance

import (
	"errors"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// Verdict is what a person has decided about a request, or that nobody has yet.
// It is the cause of every fault that a client gets for it, whatever its protocol:
// VerdictOf finds it there.
type Verdict struct {
	Request string // its id
	State   store.RequestStatus
	Reason  string // of a rejection
}

// VerdictOn is the verdict on a request at a time.
func VerdictOn(row *store.Request, now time.Time) Verdict {
	return Verdict{Request: row.ID, State: row.State(now), Reason: row.Reason}
}

// VerdictOf returns the verdict that an error reports, if it reports one.
func VerdictOf(err error) (v Verdict, ok bool) {
	return v, errors.As(err, &v)
}

// IsWaiting reports whether err says that a person has to decide. The id of the
// request is the fault's identifier.
func IsWaiting(err error) bool {
	v, ok := VerdictOf(err)
	return ok && v.State == store.RequestPending
}

// Final reports whether the request never gets a certificate.
func (v Verdict) Final() bool {
	return v.State == store.RequestRejected || v.State == store.RequestExpired
}

// Code is the reason code of the fault, and of what webhooks are told.
func (v Verdict) Code() string { return "approval_" + string(v.State) }

// Error is what the client is told.
func (v Verdict) Error() string {
	switch v.State {
	case store.RequestRejected:
		return "the request was rejected: " + v.Reason
	case store.RequestExpired:
		return "nobody approved the request in time"
	case store.RequestPending:
		return "request " + v.Request + " waits for a person's approval"
	}
	return "the certificate is being issued"
}

// How long a client is asked to wait: for a person, and for a signature.
const (
	whileDeciding = 30 * time.Second
	whileSigning  = time.Second
)

// Fault is what a client is told who has no certificate yet: Denied if that is
// final, Pending with a time to come back if not.
func (v Verdict) Fault() error {
	switch {
	case v.Final():
		return fault.Wrap(fault.Denied, v, v.Error()).Because(v.Code())
	case v.State == store.RequestPending:
		return fault.Wrap(fault.Pending, v, v.Error()).Because(v.Code()).About("request", v.Request).
			After(whileDeciding)
	}
	return fault.Wrap(fault.Pending, v, v.Error()).About("request", v.Request).After(whileSigning)
}
