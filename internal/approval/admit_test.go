package approval_test

import (
	"context"
	"testing"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// TestFS12_Admit: a new request is admitted or refused, one that comes again is not
// asked about, and the count by which that is decided is of what waits at the
// endpoint alone.
func TestFS12_Admit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		asked, full := 0, false
		k.Admit = func(context.Context) error {
			asked++
			if full {
				return fault.New(fault.RateLimited, "full")
			}
			return nil
		}
		send := func(identity, endpoint, transaction string) error {
			other := k
			other.Identity, other.Endpoint, other.TransactionID = identity, endpoint, transaction
			_, err := d.Enrol(t.Context(), other, r)
			return err
		}
		var first string
		for i, c := range []struct{ identity, endpoint, transaction string }{
			{"key:a", "devices", "1"}, {"key:a", "devices", "2"}, {"key:b", "devices", "1"},
			{"est_user:key:a", "devices", "1"}, {"key:a", "others", "1"},
		} {
			err := send(c.identity, c.endpoint, c.transaction)
			wantKind(t, err, fault.Pending, "approval_pending")
			if i == 0 {
				first = fault.Of(err).Identifier.Value
			}
		}
		full = true
		wantKind(t, send("key:a", "devices", "3"), fault.RateLimited, "")
		wantKind(t, send("key:a", "devices", "1"), fault.Pending, "approval_pending")
		if asked != 6 {
			t.Errorf("asked %d times about 6 new requests", asked)
		}
		count := func(wantAll, wantOwn int) {
			t.Helper()
			all, own, err := st.CountPendingRequests(t.Context(), "devices", "key:", "key:a", d.now())
			noErr(t, err)
			if all != wantAll || own != wantOwn {
				t.Errorf("%d wait, %d of the key; want %d and %d", all, own, wantAll, wantOwn)
			}
		}
		count(3, 2)
		_, err := d.Reject(t.Context(), first, "not ours", person)
		noErr(t, err)
		count(2, 1)
		d.advance(approval.KeepBatch) // nobody decided in time
		count(0, 0)
	})
}
