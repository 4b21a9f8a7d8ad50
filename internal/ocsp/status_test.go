package ocsp

import (
	"math/big"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// Good is what was issued and is not revoked: a reservation, also one that came to
// nothing and whose revocation is not there, is not.
func TestOCSP_O8_StandOfARecord(t *testing.T) {
	t.Parallel()
	revoked := &store.Revocation{Reason: pki.KeyCompromise}
	for _, tt := range []struct {
		status     string
		revocation *store.Revocation
		want       CertStatus
	}{
		{"issued", nil, Good},
		{"issued", revoked, Revoked},
		{"imported", nil, Good},
		{"imported", revoked, Revoked},
		{"void", nil, Unknown},
		{"void", revoked, Revoked},
		{"reserved", nil, Unknown},
		{"reserved", revoked, Unknown},
		{"abandoned", nil, Unknown},
		{"", nil, Unknown},
	} {
		if got := stand("01", store.Standing{Status: tt.status, Revocation: tt.revocation}); got.status != tt.want {
			t.Errorf("%q, revoked %t: status %v, want %v", tt.status, tt.revocation != nil, got.status, tt.want)
		}
	}
}

// A list of an offline CA that lies in the future says nothing of now.
func TestOfflineCA_AListFromTheFuture(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	key := &signer{Signer: newKey(t, "")}
	r, err := issuer.NewResponder(l.root, respond(t, l.root, l.rootKey, key), key)
	if err != nil {
		t.Fatal(err)
	}
	h := l.serveAll(Authority{"root", Answers{l.policy(), func() (*issuer.Responder, error) { return r, nil }}})
	answer := func() parsed {
		t.Helper()
		return read(t, getPath(h, "/ocsp/root/"+pathOf(ask{ca: l.root,
			serials: []*big.Int{big.NewInt(0x1002)}}.der())).Body.Bytes())
	}
	from := l.clock.now().Add(time.Minute).Truncate(time.Second)
	l.publish(1, from, from.Add(3*time.Hour))
	if got := answer(); got.Status != int(TryLater) {
		t.Errorf("with a list from the future: %+v", got)
	}
	l.clock.jump(2 * time.Minute)
	eventually(t, func() bool { return h.fresh(l.clock.now()) })
	if got := answer(); got.Status != int(Successful) || got.Singles[0].Status != "good" {
		t.Errorf("when its time has come: %+v", got)
	}
}
