package approval_test

import (
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// The same request again finds its certificate for as long as it is kept; a
// renewal with the same CSR later is a new request.
func TestRetransmissionFindsTheSameCertificate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "tls-server", "a.example.test")
		first, err := d.Enrol(t.Context(), k, r)
		noErr(t, err)
		d.advance(9 * time.Minute)
		again, err := d.Enrol(t.Context(), k, r)
		noErr(t, err)
		if again.Serial != first.Serial {
			t.Error("a retransmission got another certificate")
		}
		for name, change := range map[string]func(*approval.Key){
			"another identity":    func(k *approval.Key) { k.Identity = "est_user:device-8" },
			"another endpoint":    func(k *approval.Key) { k.Endpoint = "others" },
			"another transaction": func(k *approval.Key) { k.TransactionID = "simplereenroll" },
		} {
			other := k
			change(&other)
			if cert, err := d.Enrol(t.Context(), other, r); err != nil || cert.Serial == first.Serial {
				t.Errorf("%s got the same certificate, or %v", name, err)
			}
		}
		d.advance(90 * 24 * time.Hour)
		later, err := d.Enrol(t.Context(), k, r)
		noErr(t, err)
		if later.Serial == first.Serial {
			t.Error("a renewal months later got the old certificate")
		}
		d.holds(t)
	})
}

func TestTheSameRequestAtOnceIsOneCertificate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "tls-server", "a.example.test")
		var mu sync.Mutex
		serials := map[pki.Serial]bool{}
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				cert, err := d.Enrol(t.Context(), k, r)
				for fault.Is(err, fault.Pending) {
					cert, err = d.Enrol(t.Context(), k, r)
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				serials[cert.Serial] = true
			})
		}
		all.Wait()
		if len(serials) != 1 {
			t.Errorf("%d certificates, want 1", len(serials))
		}
		d.holds(t)
	})
}

// A one-time password is consumed by the certificate and not by trying; what it
// was spent on is still answered.
func TestEST_E12_SpentCredentialStillAnswersARetransmission(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		noErr(t, st.CreateESTUser(t.Context(), store.ESTUser{Name: "device-7", Digest: []byte{1}, MaxUses: 1, CreatedAt: time.Now()}, store.Event{At: time.Now()}))
		k, r := ask(t, "tls-server", "a.example.test")
		r.Claims = []store.Claim{{Kind: "est_user", ID: "device-7"}}
		d.srv.KeyFails.Store(true)
		_, err := d.Enrol(t.Context(), k, r)
		wantKind(t, err, fault.Unavailable, "")
		if u, err := st.ESTUser(t.Context(), "device-7"); err != nil || u.Uses != 0 {
			t.Fatalf("after a signature that failed: %+v, %v", u, err)
		}
		d.srv.KeyFails.Store(false)
		first, err := d.Enrol(t.Context(), k, r)
		noErr(t, err)
		k.Spent = fault.New(fault.Denied, "used up").Because("est_user_used_up")
		again, err := d.Enrol(t.Context(), k, r)
		if err != nil || again.Serial != first.Serial {
			t.Errorf("the answer again: %v, %v", again, err)
		}
		k2, r2 := ask(t, "tls-server", "b.example.test")
		r2.Claims = r.Claims
		_, err = d.Enrol(t.Context(), k2, r2) // even if nobody noticed that it is spent
		wantKind(t, err, fault.Denied, "est_user_used_up")
		k2.Spent = k.Spent
		_, err = d.Enrol(t.Context(), k2, r2)
		wantKind(t, err, fault.Denied, "est_user_used_up")
		d.holds(t)
	})
}

func TestSCEP_S19_OneTransactionOneCSR(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "tls-server", "a.example.test")
		k.TransactionID, k.OneCSR, k.Keep, r.Protocol = "t-1", true, approval.KeepSCEP, "scep"
		first, err := d.Enrol(t.Context(), k, r)
		noErr(t, err)
		if again, err := d.Enrol(t.Context(), k, r); err != nil || again.Serial != first.Serial {
			t.Errorf("the same message again: %v, %v", again, err)
		}
		k2, r2 := ask(t, "tls-server", "a.example.test")
		k2.TransactionID, k2.OneCSR, k2.Keep, r2.Protocol = "t-1", true, approval.KeepSCEP, "scep"
		_, err = d.Enrol(t.Context(), k2, r2)
		wantKind(t, err, fault.BadCSR, "transaction_reused")

		key, err := pki.HashKey(r.CSR.PublicKey)
		noErr(t, err)
		if cert, _, err := d.Poll(t.Context(), "devices", "t-1", key); err != nil || cert.Serial != first.Serial {
			t.Errorf("poll: %v, %v", cert, err)
		}
		_, _, err = d.Poll(t.Context(), "devices", "t-1", pki.KeyHash{1})
		wantKind(t, err, fault.NotFound, "transaction_unknown")
		d.advance(25 * time.Hour)
		_, _, err = d.Poll(t.Context(), "devices", "t-1", key)
		wantKind(t, err, fault.NotFound, "transaction_unknown")
		if cert, err := d.Enrol(t.Context(), k2, r2); err != nil || cert.Serial == first.Serial {
			t.Errorf("the transaction id after a day: %v, %v", cert, err)
		}
	})
}
