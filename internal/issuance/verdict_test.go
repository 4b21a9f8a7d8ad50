package issuance

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		row    store.Request
		state  store.RequestStatus
		kind   fault.Kind
		reason string
		waits  bool
	}{
		"waits": {
			store.Request{Status: store.RequestPending},
			store.RequestPending, fault.Pending, "approval_pending", true,
		},
		"in vain": {
			store.Request{Status: store.RequestPending, ExpiresAt: now},
			store.RequestExpired, fault.Denied, "approval_expired", false,
		},
		"rejected": {
			store.Request{Status: store.RequestRejected, Reason: "no"},
			store.RequestRejected, fault.Denied, "approval_rejected", false,
		},
		"expired": {
			store.Request{Status: store.RequestExpired},
			store.RequestExpired, fault.Denied, "approval_expired", false,
		},
		"approved": {
			store.Request{Status: store.RequestApproved},
			store.RequestApproved, fault.Pending, "", false,
		},
		"approved unused": {
			store.Request{Status: store.RequestApproved, ExpiresAt: now},
			store.RequestExpired, fault.Denied, "approval_expired", false,
		},
		"used late": {
			store.Request{Status: store.RequestApproved, ExpiresAt: now, ConsumedAt: &now},
			store.RequestApproved, fault.Pending, "", false,
		},
		"needs nobody": {
			store.Request{Status: store.RequestOpen},
			store.RequestOpen, fault.Pending, "", false,
		},
	} {
		c.row.ID = "r1"
		if c.row.ExpiresAt.IsZero() {
			c.row.ExpiresAt = now.Add(time.Hour)
		}
		v := VerdictOn(&c.row, now)
		err := fmt.Errorf("enrol: %w", v.Fault())
		found, ok := VerdictOf(err)
		if diff := cmp.Diff(v, found); !ok || diff != "" {
			t.Errorf("%s: VerdictOf (-want +got):\n%s", name, diff)
		}
		f := fault.Of(err)
		if v.State != c.state || f.Kind != c.kind || f.Reason != c.reason || IsWaiting(err) != c.waits {
			t.Errorf("%s: %s, %s because %q, waiting %t", name, v.State, f.Kind, f.Reason, IsWaiting(err))
		}
	}
	row := store.Request{Status: store.RequestApproved, CertificateID: "c", ExpiresAt: now}
	if v := VerdictOn(&row, now); v.State != store.RequestIssued || v.Final() {
		t.Errorf("with its certificate: %+v", v)
	}
}
