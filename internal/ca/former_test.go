package ca_test

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// TestFT3_AFormerCertificate: an issuing CA is renewed with the same key, and then the
// root revokes the certificate that it had before. For a compromise that holds for the
// key; that it was superseded says nothing. Clients get no chain with it.
func TestFT3_AFormerCertificate(t *testing.T) {
	t.Parallel()
	for reason, revokes := range map[pki.Reason]bool{
		pki.KeyCompromise: true, pki.CACompromise: true, pki.Unspecified: true,
		pki.Superseded: false, pki.CessationOfOperation: false, pki.AffiliationChanged: false,
	} {
		t.Run(reason.String(), func(t *testing.T) {
			t.Parallel()
			h, s := newHierarchy(t), storetest.SQLite(t)
			for _, r := range h.in.Records {
				if err := s.PutIssuer(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			renewed := certify(t, authority("Web", 9, 15), h.root, h.webKey.Public(), h.rootKey)
			row := store.Installation{
				IssuerRecord: ca.NewRecord("web-1", "root-1", "active", renewed, now),
				Replaces:     h.issuing.Raw, ReplacedAt: now,
			}
			if err := s.InstallIssuers(t.Context(), []store.Installation{row}); err != nil {
				t.Fatal(err)
			}
			var err error
			if h.in.Records, err = s.Issuers(t.Context()); err != nil {
				t.Fatal(err)
			}
			set := ca.Build(h.in)
			web := set.Get("web-1")
			if all := web.Certificates(); len(all) != 2 || !all[0].Equal(renewed) || !all[1].Equal(h.issuing) {
				t.Fatalf("%d certificates", len(all))
			}
			if len(web.InForce()) != 1 || len(set.Chains("web")) != 1 {
				t.Errorf("clients get %d certificates, %d chains", len(web.InForce()), len(set.Chains("web")))
			}
			listFor(t, s, h, "root-1", 1, reason, h.issuing.SerialNumber)
			revoked, err := (&ca.Watch{Store: s}).Look(t.Context(), set)
			if got := revoked["web-1"].State == ca.Revoked; err != nil || got != revokes {
				t.Errorf("revoked %v (%+v), want %v: %v", got, revoked, revokes, err)
			}
			if revokes && !strings.Contains(revoked["web-1"].Why, "a former certificate of web-1") {
				t.Errorf("why: %s", revoked["web-1"].Why)
			}
		})
	}
}

// TestFT3_AListSpeaksOfItsOwn: a serial on the list of one root says nothing of the
// certificate with that serial that another root signed for the same CA.
func TestFT3_AListSpeaksOfItsOwn(t *testing.T) {
	t.Parallel()
	h, s := newHierarchy(t), storetest.SQLite(t)
	other := newKey(t)
	otherRoot := certify(t, authority("Other", 1, 20), authority("Other", 1, 20), other.Public(), other)
	cross := certify(t, authority("Web", 77, 10), otherRoot, h.webKey.Public(), other)
	h.in.Declared[0].Cross = [][]*x509.Certificate{{cross, otherRoot}}
	for _, r := range h.in.Records {
		if err := s.PutIssuer(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	list(t, s, h, "root-1", 1, cross.SerialNumber)
	revoked, err := (&ca.Watch{Store: s}).Look(t.Context(), ca.Build(h.in))
	if err != nil || len(revoked) != 0 {
		t.Errorf("%v, %v", revoked, err)
	}
}

// TestFT16_TwoIDs: a root that came with a chain before it was declared is one CA
// under both ids, whether its declaration has its certificate or an operator installs
// it; so is a CA between, which is not self-signed.
func TestFT16_TwoIDs(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	leafKey := newKey(t)
	leaf := certify(t, authority("Leaf CA", 7, 5), h.issuing, leafKey.Public(), h.webKey)
	root, middle := ca.NameOf(nil, h.root), ca.NameOf(nil, h.issuing)
	h.in.Records = []store.IssuerRecord{
		ca.NewRecord(root, "", ca.OfflineRow, h.root, now), ca.NewRecord(middle, root, ca.OfflineRow, h.issuing, now),
		ca.NewRecord("leaf-1", middle, string(ca.Active), leaf, now),
	}
	h.in.Declared = []ca.Declaration{
		{ID: "leaf-1"}, {ID: "root-1", Offline: true, Initial: []*x509.Certificate{h.root}},
		{ID: "middle-1", Offline: true, Initial: []*x509.Certificate{h.issuing}},
	}
	h.in.Keys = map[string]issuer.Signer{"leaf-1": leafKey}
	set := ca.Build(h.in)
	for id, other := range map[string]string{"root-1": root, "middle-1": middle} {
		c := set.Get(id)
		if c != set.Get(other) || c.ID != id || !slices.Equal(c.Aliases, []string{other}) ||
			!c.Installed() || len(set.ChainOf(other)) == 0 {
			t.Errorf("%s and %s: %+v", id, other, c)
		}
	}
	if c := set.Get("leaf-1"); c.Parent != set.Get("middle-1") ||
		c.Parent.Parent != set.Get("root-1") || c.MaySign(now) != nil {
		t.Errorf("leaf-1: %+v", c)
	}
	if len(set.Fresh()) != 2 || set.Fresh()[1].ParentID != root {
		t.Errorf("fresh rows: %+v", set.Fresh())
	}
}

// TestFT6_Why: bad news about a CA is told by name, and one that ends soon says so
// however long ago the set was made.
func TestFT6_Why(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	end := h.issuing.NotAfter
	for name, tt := range map[string]struct {
		change func(h *hierarchy)
		at     time.Time
		want   string // empty: nothing is said
		trust  ca.TrustState
		days   int
	}{
		"all is well":  {func(*hierarchy) {}, now, "", ca.Good, int(end.Sub(now).Hours() / 24)},
		"12 days left": {func(*hierarchy) {}, end.Add(-12*24*time.Hour - time.Hour), "ends on " + end.UTC().Format(time.DateOnly), ca.Good, 12},
		"ended":        {func(*hierarchy) {}, end.Add(time.Hour), "its certificate has expired", ca.Expired, -1},
		"revoked above": {func(h *hierarchy) {
			h.in.Revoked = map[string]ca.Trust{"web-1": {State: ca.Revoked, Why: "root-1 has revoked the certificate of web-1"}}
		}, now, "root-1 has revoked", ca.Revoked, int(end.Sub(now).Hours() / 24)},
		"key lost": {func(h *hierarchy) {
			h.in.Keys, h.in.Lost = nil, map[string]error{"web-1": errors.New("CKR_TOKEN_NOT_PRESENT")}
		}, now, "its key cannot be used: CKR_TOKEN_NOT_PRESENT", ca.Good, int(end.Sub(now).Hours() / 24)},
	} {
		h := &hierarchy{rootKey: h.rootKey, webKey: h.webKey, root: h.root, renewed: h.renewed, issuing: h.issuing, in: h.in}
		tt.change(h)
		c := ca.Build(h.in).Get("web-1")
		got := strings.Join(c.Why(tt.at), "\n")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if days := c.DaysLeft(tt.at); days != tt.days || c.Trust(tt.at).State != tt.trust {
			t.Errorf("%s: %d days, trust %s; want %d, %s", name, days, c.Trust(tt.at).State, tt.days, tt.trust)
		}
	}
	h.in.Records[1].Certificate = []byte("x")
	if got := ca.Build(h.in).Get("web-1").Why(now); len(got) != 1 || !strings.HasPrefix(got[0], "it is not in use: ") {
		t.Errorf("broken: %q", got)
	}
	h.in.Records = h.in.Records[:1]
	if got := ca.Build(h.in).Get("web-1").Why(now); !slices.Equal(got, []string{"it has no certificate yet"}) {
		t.Errorf("declared: %q", got)
	}
}
