package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestIssuerRequests(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		if _, err := s.IssuerRequest(t.Context(), "web"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v", err)
		}
		for _, csr := range []string{"one", "two"} {
			r := store.IssuerRequest{IssuerID: "web", CSR: []byte(csr), RequestedBy: "uid:0", CreatedAt: time.Now()}
			if err := s.PutIssuerRequest(t.Context(), r, store.Event{At: time.Now(), Action: "issuer.requested"}); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := s.IssuerRequest(t.Context(), "web"); err != nil || string(r.CSR) != "two" {
			t.Errorf("%+v %v", r, err)
		}
	})
}

func TestInstallIssuers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		at := func(id, parent, cert, replaces string) store.Installation {
			i := store.Installation{IssuerRecord: store.IssuerRecord{
				ID: id, Name: id, State: "active", ParentID: parent, Certificate: []byte(cert), NotAfter: time.Now(), CreatedAt: time.Now(),
			}}
			if replaces != "" {
				i.Replaces, i.ReplacedAt = []byte(replaces), time.Now()
			}
			return i
		}
		steps := []struct {
			all  []store.Installation
			want bool
		}{
			{[]store.Installation{at("root", "", "r", ""), at("web", "root", "w1", "")}, true},
			{[]store.Installation{at("other", "", "o", ""), at("web", "root", "w9", "")}, false}, // one is there
			{[]store.Installation{at("web", "root", "w2", "w1")}, true},                          // renewed
			{[]store.Installation{at("web", "root", "w3", "w1")}, false},                         // renewed by somebody else meanwhile
			{[]store.Installation{at("gone", "root", "w3", "w1")}, false},                        // nothing to replace
		}
		for i, step := range steps {
			if err := s.InstallIssuers(t.Context(), step.all, store.Event{At: time.Now()}); (err == nil) != step.want || err != nil && !fault.Is(err, fault.Conflict) {
				t.Errorf("step %d: %v", i, err)
			}
		}
		if n, err := s.Children(t.Context(), "root", "cross"); err != nil || n != 1 {
			t.Errorf("%d children: %v", n, err)
		}
		room := at("third", "root", "t", "")
		room.Siblings = []string{"cross", "root"}
		for most, want := range map[int]string{1: "max_children", 2: ""} {
			room.Room = most
			err := s.InstallIssuers(t.Context(), []store.Installation{room})
			if want == "" && err != nil || want != "" && (err == nil || fault.Of(err).Reason != want) {
				t.Errorf("room for %d: %v, want %q", most, err, want)
			}
			_ = s.RemoveIssuer(t.Context(), "third", []byte("t")) // if it is there
		}
		if r, err := s.Issuer(t.Context(), "web"); err != nil || len(r.Former) != 1 || string(r.Former[0]) != "w1" {
			t.Errorf("what web had before: %q, want w1 once: %v", r.Former, err)
		}
		if _, err := s.Issuer(t.Context(), "other"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a part of a lost installation was kept: %v", err)
		}
	})
}

// TestFT4_RemoveIssuer: an id is free again where nothing was ever signed under it.
func TestFT4_RemoveIssuer(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		now := time.Now()
		put := func(id, parent string, lastCRL int64) {
			t.Helper()
			r := store.IssuerRecord{ID: id, Name: id, State: "active", ParentID: parent, Certificate: []byte(id),
				LastCRLNumber: lastCRL, CreatedAt: now}
			noErr(t, s.PutIssuer(t.Context(), r))
		}
		put("root", "", 0)
		put("broken", "root", 0)
		put("listing", "root", 7)
		put("issuing", "root", 0)
		c := newCertificate("order:1", "a.test")
		c.IssuerID = "issuing"
		noErr(t, s.Reserve(t.Context(), c, nil, event("x")))
		for id, reason := range map[string]string{"root": "issuer_used", "listing": "issuer_used", "issuing": "issuer_used"} {
			err := s.RemoveIssuer(t.Context(), id, []byte(id), event("issuer.removed"))
			if !fault.Is(err, fault.Conflict) || fault.Of(err).Reason != reason {
				t.Errorf("%s: %v, want %s", id, err, reason)
			}
		}
		err := s.RemoveIssuer(t.Context(), "broken", []byte("other"), event("issuer.removed"))
		if fault.Of(err).Reason != "issuer_changed" {
			t.Errorf("another certificate by now: %v", err)
		}
		noErr(t, s.InstallIssuers(t.Context(), []store.Installation{{
			IssuerRecord: store.IssuerRecord{ID: "broken", ParentID: "root", Certificate: []byte("b2")},
			Replaces:     []byte("broken"), ReplacedAt: now,
		}}))
		noErr(t, s.RemoveIssuer(t.Context(), "broken", []byte("b2"), event("issuer.removed")))
		events, _, err := s.AuditTail(t.Context(), 10, "")
		if err != nil || events[0].Action != "issuer.removed" || events[1].Action == "issuer.removed" {
			t.Errorf("audit record: %+v %v", events, err)
		}
		put("broken", "root", 0)
		if r, err := s.Issuer(t.Context(), "broken"); err != nil || len(r.Former) != 0 {
			t.Errorf("the id used again remembers %q: %v", r.Former, err)
		}
	})
}

func TestImportCertificates(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		now := time.Now().UTC().Truncate(time.Second)
		revoked := &store.Revocation{Reason: pki.KeyCompromise, RevokedAt: now, Requester: "uid:0"}
		certs := []store.Certificate{
			{ID: store.NewID(), IssuerID: "old", Serial: "1000", Subject: "CN=a", NotAfter: now.AddDate(1, 0, 0), ReservedAt: now,
				Names: []pki.Identifier{{Type: pki.DNS, Value: "a.example.test"}}, DER: []byte("a"), KeyHash: []byte("key")},
			{ID: store.NewID(), IssuerID: "old", Serial: "1001", Subject: "CN=b", NotAfter: now.AddDate(1, 0, 0), ReservedAt: now, Revocation: revoked, KeyHash: []byte("other")},
		}
		for _, want := range []int{2, 0} {
			if n, err := s.ImportCertificates(t.Context(), certs, store.Event{At: now}); err != nil || n != want {
				t.Fatalf("%d new, want %d: %v", n, want, err)
			}
			for i := range certs { // the same ones again, under ids of their own
				certs[i].ID = store.NewID()
			}
		}
		found, _, err := s.SearchCertificates(t.Context(), store.Search{Name: "*.example.test"})
		if err != nil || len(found) != 1 || found[0].Status != "imported" || found[0].Revocation != nil {
			t.Errorf("%+v %v", found, err)
		}
		if live, err := s.LiveCertificates(t.Context(), now); err != nil || len(live) != 1 || live["old"] != 2 {
			t.Errorf("live: %v %v", live, err)
		}
		if live, err := s.LiveCertificates(t.Context(), now.AddDate(2, 0, 0)); err != nil || len(live) != 0 {
			t.Errorf("live in two years: %v %v", live, err)
		}
		if found, err := s.CertificatesByProfile(t.Context(), []string{"", "none"}); err != nil || len(found) != 2 {
			t.Errorf("%d certificates without a profile: %v", len(found), err)
		}
		c, err := s.CertificateBySerial(t.Context(), "old", "1001")
		if err != nil || c.Revocation == nil || c.Revocation.Reason != pki.KeyCompromise || c.Revocation.Seq != 1 {
			t.Errorf("%+v %v", c, err)
		}
	})
}
