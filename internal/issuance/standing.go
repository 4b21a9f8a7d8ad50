package issuance

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// Standing is what an ACME order is by now (RFC 8555, section 7.1.6).
type Standing struct {
	Status string // pending, ready, processing, valid or invalid
	// Why it is invalid: the problem document on record or, where there is none, the
	// fault. Both are nil if nothing says why.
	Problem json.RawMessage
	Err     error
}

// StandingOf derives an order's status: a certificate wins over everything, then
// what is stored, then what the authorizations say. store.ACMEQuery selects by the
// same rules.
func StandingOf(o *store.Order, authzs []store.Authorization, now time.Time) Standing {
	switch {
	case o.CertificateID != "":
		return Standing{Status: "valid"}
	case o.Status == "waiting":
		return standingOfWaiting(o)
	case o.Status == "invalid" && o.Error == nil: // with an authorization, which says why
		s := standingByAuthorizations(authzs, now)
		s.Status = "invalid"
		return s
	case o.Status != "pending":
		return Standing{Status: o.Status, Problem: o.Error}
	case !now.Before(o.Expires):
		err := fault.New(fault.Malformed, "the order has expired").Because("order_expired")
		return Standing{Status: "invalid", Err: err}
	}
	return standingByAuthorizations(authzs, now)
}

// standingByAuthorizations is that of an order of which nothing but its
// authorizations decides.
func standingByAuthorizations(authzs []store.Authorization, now time.Time) Standing {
	s := Standing{Status: "ready"}
	for i := range authzs {
		switch a := &authzs[i]; a.StatusAt(now) {
		case "valid":
		case "pending":
			s.Status = "pending"
		case "invalid":
			return Standing{Status: "invalid", Problem: a.Error}
		default:
			return Standing{Status: "invalid", Err: AuthorizationEnded(a, now)}
		}
	}
	return s
}

// standingOfWaiting is that of an order for which a person is, or was, asked: what
// was decided is in the request, and nowhere else.
func standingOfWaiting(o *store.Order) Standing {
	if o.Approval.Undecided() {
		return Standing{Status: "processing"}
	}
	v := Verdict{State: cmp.Or(o.Approval, store.RequestExpired), Reason: o.ApprovalReason}
	return Standing{Status: "invalid", Err: v.Fault()}
}

// AuthorizationEnded is why an authorization is not valid, Denied; nil if it is.
func AuthorizationEnded(a *store.Authorization, now time.Time) error {
	status := a.StatusAt(now)
	if status == "valid" {
		return nil
	}
	return fault.New(fault.Denied, "the authorization of %s is %s: place a new order", a.Name(), status).
		Because("authorization_" + status)
}
