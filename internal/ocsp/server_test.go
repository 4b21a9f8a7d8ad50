package ocsp

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestOCSP_O6_O10_RevocationIsSeen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l := newLab(t, s, "")
		d := l.delegated()
		h := l.serve(l.policy(), d.Responder)
		c := l.issue("a.example.test")
		der := l.ask(c).der()
		first := read(t, get(h, der).Body.Bytes())
		if first.Singles[0].Status != "good" || first.Certs != 1 {
			t.Fatalf("before: %+v", first)
		}
		again := post(h, der)
		if st := h.Stats()[0]; st.Hits != 1 || st.Signed != 1 {
			t.Errorf("the second answer did not come from memory: %+v", st)
		}
		if again.Code != 200 {
			t.Errorf("HTTP %d", again.Code)
		}
		l.revoke(c, pki.KeyCompromise)
		began := time.Now()
		eventually(t, func() bool { return read(t, get(h, der).Body.Bytes()).Singles[0].Status == "revoked" })
		if took := time.Since(began); took > time.Second {
			t.Errorf("seen after %v", took)
		}
		after := read(t, get(h, der).Body.Bytes()).Singles[0]
		if after.Reason != 1 {
			t.Errorf("reason %d", after.Reason)
		}
		l.holds()
	})
}
