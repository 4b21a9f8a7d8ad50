package ocsp

import (
	"bytes"
	"crypto/x509"
	"path/filepath"
	"testing"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// Answers that a delegate signed whose certificate is revoked are given no more,
// and one that was being signed meanwhile is not kept.
func TestFT2_AnswersOfARevokedDelegateAreForgotten(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	cfg := l.delegated().DelegateConfig
	cfg.Dir = filepath.Join(t.TempDir(), "ocsp")
	cfg.Node = "another"
	cfg.Dropped = func(c *x509.Certificate) { l.server.Distrust(caID, c) }
	d := NewDelegate(cfg)
	if err := d.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := d.Responder()
	if err != nil {
		t.Fatal(err)
	}
	h := l.serve(l.policy(), d.Responder)
	der := l.ask(l.issue("a.example.test")).der()
	old := read(t, get(h, der).Body.Bytes())
	late := (*h.authorities.Load())[caID].cache
	var kept *entry
	late.each(func(e *entry) { kept = e })

	serial := pki.SerialFromBig(first.Certificate().SerialNumber)
	if err := l.pipeline.Revoke(t.Context(), issuance.Revocation{IssuerID: caID, Serial: serial,
		Reason: pki.KeyCompromise, Requester: "uid:0", BlockKey: true}); err != nil {
		t.Fatal(err)
	}
	if err := d.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, _ := late.size(); n != 0 {
		t.Error("the answer of the revoked delegate is kept")
	}
	eventually(t, func() bool { return h.fresh(l.clock.now()) })
	(*h.authorities.Load())[caID].keep(kept) // as if it had been signed until now
	if n, _ := late.size(); n != 0 {
		t.Error("an answer of the revoked delegate is kept again")
	}
	next, err := d.Responder()
	if err != nil {
		t.Fatal(err)
	}
	key, now := next.KeyHash(), read(t, get(h, der).Body.Bytes())
	if !bytes.Equal(now.Responder, key[:]) || bytes.Equal(now.Responder, old.Responder) {
		t.Error("the successor does not sign")
	}
}
