package issuance_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// kind is what decides of an order.
type kind struct {
	status, authorization string
	problem               json.RawMessage
	lasts                 time.Duration // the authorization
	asked                 store.RequestStatus
}

// kinds are all that there can be, without certificates.
func kinds() (all []kind) {
	for _, k := range []kind{
		{status: "pending"}, {status: "processing"}, {status: "waiting"},
		{status: "waiting", asked: store.RequestPending},
		{status: "waiting", asked: store.RequestApproved}, {status: "waiting", asked: store.RequestRejected},
		{status: "invalid"}, {status: "invalid", problem: json.RawMessage(`{"reason":"x"}`)},
	} {
		for _, k.authorization = range []string{"pending", "valid", "invalid", "deactivated", "revoked"} {
			for _, k.lasts = range []time.Duration{-time.Hour, time.Hour} {
				all = append(all, k)
			}
		}
	}
	return all
}

// put stores an order of a kind, which lasts for half an hour.
func (k kind) put(t *testing.T, st *store.Store, now time.Time) {
	t.Helper()
	z := store.Authorization{
		ID: store.NewID(), AccountID: "acct", Status: k.authorization, CreatedAt: now, Token: "t",
		Identifier: pki.Identifier{Type: pki.DNS, Value: "a.test"}, Expires: now.Add(k.lasts),
	}
	o := store.Order{
		ID: store.NewID(), AccountID: "acct", Endpoint: "web", Profile: "p", Status: k.status, Error: k.problem,
		Expires: now.Add(30 * time.Minute), CreatedAt: now, AuthorizationIDs: []string{z.ID},
	}
	if err := st.CreateOrder(t.Context(), o, []store.Authorization{z}, nil); err != nil {
		t.Fatal(err)
	}
	if k.asked == "" {
		return
	}
	if err := st.PutRequest(t.Context(), store.Request{
		ID: store.NewID(), Origin: "order:" + o.ID, Endpoint: "web", Identity: o.ID, Status: k.asked,
		CSRDigest: []byte{1}, CSR: []byte{1}, KeyHash: []byte{1}, TemplateDigest: []byte{1},
		CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}, store.Event{At: now, Action: "test", Actor: "test", Subject: "test"}); err != nil {
		t.Fatal(err)
	}
}

// TestFS18_StandingAndSelectionAgree: what is selected by a status has it, and is counted
// by it, whatever has become of the order and its authorizations.
func TestFS18_StandingAndSelectionAgree(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		now := time.Now()
		if _, err := st.CreateAccount(t.Context(), store.Account{
			ID: "acct", Endpoint: "web", Thumbprint: "t", JWK: []byte(`{}`), Status: "valid", CreatedAt: now,
		}, nil, store.Event{At: now, Action: "test", Actor: "test", Subject: "test"}); err != nil {
			t.Fatal(err)
		}
		for _, k := range kinds() {
			k.put(t, st, now)
		}
		for _, at := range []time.Time{now, now.Add(45 * time.Minute), now.Add(2 * time.Hour)} {
			agree(t, st, at)
		}
	})
}

func agree(t *testing.T, st *store.Store, at time.Time) {
	t.Helper()
	selected := func(status string) []store.ACMEOrder {
		found, err := st.Orders(t.Context(), store.ACMEQuery{Status: status, Limit: 1000, Now: at})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	counts, _, err := st.CountACME(t.Context(), "acct", at)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, status := range []string{"pending", "ready", "processing", "valid", "invalid"} {
		found := selected(status)
		for i := range found {
			if got := issuance.StandingOf(&found[i].Order, found[i].Authorizations, at); got.Status != status {
				t.Errorf("selected as %s, is %s: %+v", status, got.Status, found[i])
			}
		}
		if n += len(found); counts[status] != len(found) {
			t.Errorf("%s: %d selected, %d counted", status, len(found), counts[status])
		}
	}
	if all := len(selected("")); all != len(kinds()) || n != all {
		t.Errorf("%d orders, %d of them with a status", all, n)
	}
}
