package issuance_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// issueOne issues a certificate for a name with a key of its own.
func (c *lab) issueOne(t *testing.T, name string) *issuance.Certificate {
	t.Helper()
	cert, err := c.pipeline.Issue(t.Context(), request(t, "request:"+store.NewID(), name))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (c *lab) reason(t *testing.T, id string) string {
	t.Helper()
	row, err := c.store.CertificateByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if row.Revocation == nil {
		return ""
	}
	return row.Revocation.Reason.String()
}

// events returns the newest audit events of a certificate, newest first, as
// "action outcome", with their details.
func (c *lab) events(t *testing.T, id string) (actions []string, details []map[string]any) {
	t.Helper()
	all, _, err := c.store.AuditTail(t.Context(), 1000, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Subject != id {
			continue
		}
		detail := map[string]any{}
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			t.Fatal(err)
		}
		actions, details = append(actions, e.Action+" "+e.Outcome), append(details, detail)
	}
	return actions, details
}

// TestC8_ReasonRules walks through what may follow what, at the door.
func TestC8_ReasonRules(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		const released = pki.Reason(-1)
		for name, steps := range map[string][]struct {
			reason pki.Reason
			want   fault.Kind // 0: accepted
		}{
			"impossible":            {{7, fault.BadRevocationReason}, {pki.RemoveFromCRL, fault.BadRevocationReason}, {pki.AACompromise, fault.BadRevocationReason}, {11, fault.BadRevocationReason}, {pki.CACompromise, fault.BadRevocationReason}, {released, fault.Conflict}},
			"final":                 {{pki.Superseded, 0}, {pki.Superseded, fault.AlreadyRevoked}, {pki.CertificateHold, fault.AlreadyRevoked}, {pki.PrivilegeWithdrawn, fault.AlreadyRevoked}, {released, fault.Conflict}},
			"upgrade":               {{pki.CessationOfOperation, 0}, {pki.KeyCompromise, 0}, {pki.KeyCompromise, fault.AlreadyRevoked}, {pki.Superseded, fault.AlreadyRevoked}, {released, fault.Conflict}},
			"hold":                  {{pki.CertificateHold, 0}, {pki.CertificateHold, fault.AlreadyRevoked}, {released, 0}, {released, fault.Conflict}, {pki.CertificateHold, 0}, {pki.AffiliationChanged, 0}, {released, fault.Conflict}, {pki.Unspecified, fault.AlreadyRevoked}},
			"hold, then compromise": {{pki.CertificateHold, 0}, {pki.KeyCompromise, 0}, {released, fault.Conflict}},
		} {
			cert := c.issueOne(t, "a.example.test")
			for i, step := range steps {
				r := issuance.Revocation{IssuerID: cert.IssuerID, Serial: cert.Serial, Reason: step.reason, Requester: "uid:0"}
				before := c.reason(t, cert.ID)
				err := error(nil)
				if step.reason == released {
					err = c.pipeline.Release(t.Context(), r)
				} else {
					err = c.pipeline.Revoke(t.Context(), r)
				}
				if (step.want == 0) != (err == nil) || err != nil && !fault.Is(err, step.want) {
					t.Errorf("%s, step %d: %v, want %v", name, i, err, step.want)
				}
				after := c.reason(t, cert.ID)
				wanted := before
				switch {
				case err == nil && step.reason == released:
					wanted = ""
				case err == nil:
					wanted = step.reason.String()
				}
				if after != wanted {
					t.Errorf("%s, step %d: reason %q, want %q", name, i, after, wanted)
				}
			}
		}
		c.holds(t)
	})
}

func TestRevocationsAreAudited(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	cert := c.issueOne(t, "a.example.test")
	r := issuance.Revocation{CertificateID: cert.ID, Requester: "uid:7"}
	for _, step := range []pki.Reason{pki.AACompromise, pki.CertificateHold, -1, pki.Superseded, pki.Superseded, pki.KeyCompromise} {
		if r.Reason = step; step == -1 {
			if err := c.pipeline.Release(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			continue
		}
		_ = c.pipeline.Revoke(t.Context(), r) // what is accepted, TestC8_ReasonRules says
	}
	actions, details := c.events(t, cert.ID)
	want := "[certificate.revoked success certificate.revoked success certificate.hold_released success" +
		" certificate.revoked success certificate.not_revoked rejected certificate.issued success certificate.intent pending]"
	if got := fmt.Sprint(actions); got != want {
		t.Fatalf("events\n%s, want\n%s", got, want)
	}
	if d := details[0]; d["reason"] != "keyCompromise" || d["former_reason"] != "superseded" || d["serial"] != string(cert.Serial) {
		t.Errorf("detail of the upgrade: %v", d)
	}
	if d := details[2]; d["former_reason"] != "certificateHold" {
		t.Errorf("detail of the release: %v", d)
	}
}

func TestInvalidityDate(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	cert := c.issueOne(t, "a.example.test")
	r := issuance.Revocation{CertificateID: cert.ID, Reason: pki.KeyCompromise}
	for name, at := range map[string]time.Time{
		"future": time.Now().Add(time.Minute), "before notBefore": cert.NotBefore.Add(-time.Second),
	} {
		r.InvalidityAt = &at
		err := c.pipeline.Revoke(t.Context(), r)
		if !fault.Is(err, fault.Malformed) || fault.Of(err).Reason != "invalidity_date" {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.InvalidityAt = &cert.NotBefore
	if err := c.pipeline.Revoke(t.Context(), r); err != nil {
		t.Error(err)
	}
	if row, err := c.store.CertificateByID(t.Context(), cert.ID); err != nil || !row.Revocation.InvalidityAt.Equal(cert.NotBefore) {
		t.Errorf("%+v, %v", row.Revocation, err)
	}
}

func TestRevokeUnknown(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	for name, r := range map[string]issuance.Revocation{
		"id": {CertificateID: "none"}, "serial": {IssuerID: "web-1", Serial: "77"}, "nothing": {},
	} {
		if err := c.pipeline.Revoke(t.Context(), r); !fault.Is(err, fault.NotFound) {
			t.Errorf("revoke by %s: %v", name, err)
		}
		if err := c.pipeline.Release(t.Context(), r); !fault.Is(err, fault.NotFound) {
			t.Errorf("release by %s: %v", name, err)
		}
	}
}

func (c *lab) selection(m store.Match) issuance.Selection {
	return issuance.Selection{Match: m, Where: "the expression", Requester: "uid:0", RequestID: "r-2"}
}

// TestRevokeMatching revokes in pages, is interrupted, and goes on.
func TestRevokeMatching(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1", "web-2")
		ids := map[string]string{}
		for i := range 12 {
			name := fmt.Sprintf("h%d.%s.test", i, []string{"old", "new"}[i%2])
			ids[name] = c.issueOne(t, name).ID
		}
		sel := c.selection(store.Match{NamePattern: "*.old.test", Reason: pki.Superseded})
		count, first, err := c.pipeline.Selected(t.Context(), sel, 2)
		if err != nil || count != 6 || len(first) != 2 || first[0].ID != ids["h0.old.test"] {
			t.Fatalf("selected %d, %v, %v; want 6 and the first two", count, first, err)
		}
		sel.Limit = 2
		page, err := c.pipeline.RevokeMatching(t.Context(), sel)
		if err != nil || page.Revoked != 2 || page.Next != ids["h2.old.test"] {
			t.Fatalf("first page: %+v, %v", page, err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.pipeline.RevokeMatching(cancelled, sel); err == nil {
			t.Error("a call that was cancelled went on")
		}
		sel.Limit = 0 // without a cursor: what is revoked is not selected
		page, err = c.pipeline.RevokeMatching(t.Context(), sel)
		if err != nil || page.Revoked != 4 || page.Next != "" {
			t.Errorf("the rest: %+v, %v", page, err)
		}
		for name, id := range ids {
			want := ""
			if name[len(name)-8:] == "old.test" {
				want = "superseded"
			}
			if got := c.reason(t, id); got != want {
				t.Errorf("%s: reason %q, want %q", name, got, want)
			}
		}
		actions, details := c.events(t, ids["h4.old.test"])
		if actions[0] != "certificate.revoked success" || details[0]["where"] != "the expression" || details[0]["reason"] != "superseded" {
			t.Errorf("audit event %s %v", actions[0], details[0])
		}
		for _, reason := range []pki.Reason{7, pki.RemoveFromCRL, pki.CACompromise} {
			sel.Match.Reason = reason
			if _, err := c.pipeline.RevokeMatching(t.Context(), sel); !fault.Is(err, fault.BadRevocationReason) {
				t.Errorf("reason %d: %v", reason, err)
			}
			if _, _, err := c.pipeline.Selected(t.Context(), sel, 1); !fault.Is(err, fault.BadRevocationReason) {
				t.Errorf("preview, reason %d: %v", reason, err)
			}
		}
		late := time.Now().Add(time.Hour)
		sel.Match.Reason, sel.InvalidityAt = pki.KeyCompromise, &late
		if _, err := c.pipeline.RevokeMatching(t.Context(), sel); !fault.Is(err, fault.Malformed) {
			t.Errorf("a date in the future: %v", err)
		}
		c.holds(t)
	})
}

// TestX14_SameKey finds every certificate of a compromised key, those that are
// revoked for another reason too.
func TestX14_SameKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		key := newKey(t)
		var certs []*issuance.Certificate
		for i := range 4 {
			r := request(t, fmt.Sprint("request:", i), "a.example.test")
			der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.example.test"}}, key)
			if err != nil {
				t.Fatal(err)
			}
			if r.CSR, err = pki.ParseCSR(t.Context(), der); err != nil {
				t.Fatal(err)
			}
			cert, err := c.pipeline.Issue(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			certs = append(certs, cert)
		}
		other := c.issueOne(t, "a.example.test")
		for i, reason := range []pki.Reason{pki.KeyCompromise, pki.Superseded, pki.CertificateHold} {
			if err := c.pipeline.Revoke(t.Context(), issuance.Revocation{CertificateID: certs[i].ID, Reason: reason,
				BlockKey: true}); err != nil {
				t.Fatal(err)
			}
		}
		hash, err := pki.HashKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		page, err := c.pipeline.RevokeMatching(t.Context(), c.selection(store.Match{Key: hash[:], Reason: pki.KeyCompromise}))
		if err != nil || page.Revoked != 3 {
			t.Errorf("the sweep: %+v, %v; want the other three", page, err)
		}
		for i, cert := range certs {
			if got := c.reason(t, cert.ID); got != "keyCompromise" {
				t.Errorf("certificate %d: %q", i, got)
			}
		}
		if got := c.reason(t, other.ID); got != "" {
			t.Errorf("a certificate with another key is revoked for %s", got)
		}
		c.holds(t)
	})
}

// TestRevokeMatchingAtOnce lets two nodes do the same: each certificate is
// revoked once.
func TestRevokeMatchingAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		for range 30 {
			c.issueOne(t, "a.old.test")
		}
		pipelines := []*issuance.Pipeline{c.pipeline, c.node("node-2")}
		pages := make([]issuance.Page, len(pipelines))
		var both sync.WaitGroup
		for i, p := range pipelines {
			both.Go(func() {
				var err error
				if pages[i], err = p.RevokeMatching(t.Context(), c.selection(store.Match{Name: "a.old.test", Reason: pki.Superseded})); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if n := pages[0].Revoked + pages[1].Revoked; n != 30 {
			t.Errorf("%d revocations of 30 certificates: %+v", n, pages)
		}
		if n, _, err := c.pipeline.Selected(t.Context(), c.selection(store.Match{Reason: pki.Superseded}), 1); err != nil || n != 0 {
			t.Errorf("%d are left, %v", n, err)
		}
	})
}

// TestLookupOutlivesTheConfiguration: an issuer that signs no more is not asked.
func TestLookupOutlivesTheConfiguration(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	cert := c.issueOne(t, "a.example.test")
	c.pipeline.Swap(issuance.Rules{})
	row, err := c.pipeline.Lookup(t.Context(), cert.DER)
	if err != nil || !bytes.Equal(row.DER, cert.DER) {
		t.Fatalf("%v, %v", row, err)
	}
	if err := c.pipeline.Revoke(t.Context(), issuance.Revocation{CertificateID: row.ID, Reason: pki.Superseded}); err != nil {
		t.Error(err)
	}
}

// TestG2_06_ARevokedIssuerSignsNoMore: its pool goes on with the others.
func TestG2_06_ARevokedIssuerSignsNoMore(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1", "web-2")
	before := c.issueOne(t, "a.example.test")
	c.change(t, nil, "web-1")
	if after := c.issueOne(t, "a.example.test"); before.IssuerID != "web-1" || after.IssuerID != "web-2" {
		t.Errorf("issued by %s, then by %s", before.IssuerID, after.IssuerID)
	}
	r := request(t, "request:1", "a.example.test")
	r.Issuer = "web-1"
	used := c.signers[0].used.Load()
	_, err := c.pipeline.Issue(t.Context(), r)
	if f := fault.Of(err); f == nil || f.Kind != fault.Unavailable || f.Reason != "issuer_revoked" {
		t.Errorf("a revoked issuer: %v", err)
	}
	if v := c.pipeline.Preview(t.Context(), r); v.Allowed || v.Fault.Reason != "issuer_revoked" {
		t.Errorf("a dry run: %+v", v)
	}
	if c.signers[0].used.Load() != used {
		t.Error("its key was used")
	}
	// What it has signed can be downloaded and revoked, and it certifies responders.
	if _, err := c.pipeline.Certificate(t.Context(), before.ID); err != nil {
		t.Error(err)
	}
	if err := c.pipeline.Revoke(t.Context(), issuance.Revocation{CertificateID: before.ID, Reason: pki.Superseded}); err != nil {
		t.Error(err)
	}
	name, err := pki.ParseName("CN=Responder")
	if err != nil {
		t.Fatal(err)
	}
	r.Profile, r.Origin, r.CSR, r.PublicKey, r.Subject = "ocsp-signing", "request:2", nil, newKey(t).Public(), &name
	if _, err := c.pipeline.Issue(t.Context(), r); err != nil {
		t.Errorf("a responder's certificate: %v", err)
	}
	c.change(t, nil)
	r = request(t, "request:3", "a.example.test")
	r.Issuer = "web-1"
	if _, err := c.pipeline.Issue(t.Context(), r); err != nil {
		t.Errorf("after the hold: %v", err)
	}
}
