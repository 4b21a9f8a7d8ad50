package ocsp

import (
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// TestFT1_AnswersInMemoryHearTheWitness: a kept good is forgotten when a list on disk
// turns out to know better, and one that was
// being signed meanwhile is not kept.
func TestFT1_AnswersInMemoryHearTheWitness(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	stolen := l.issue("a.example.test")
	der := l.ask(stolen).der()
	says := func() string { return read(t, get(h, der).Body.Bytes()).Singles[0].Status }
	if got := says(); got != "good" {
		t.Fatalf("before: %s", got)
	}
	cache := (*h.authorities.Load())[caID].cache
	var kept *entry
	cache.each(func(e *entry) { kept = e })
	if kept == nil {
		t.Fatal("nothing is kept")
	}
	l.store.SetWitness(func(id string, serial pki.Serial) (store.Revocation, bool) {
		return store.Revocation{Reason: pki.KeyCompromise, RevokedAt: l.clock.now()}, id == caID
	})
	eventually(t, func() bool { return says() == "revoked" })
	(*h.authorities.Load())[caID].keep(kept)
	if got := says(); got != "revoked" {
		t.Errorf("after a late answer: %s", got)
	}
	l.store.SetWitness(nil)
	eventually(t, func() bool { return says() == "good" })
}
