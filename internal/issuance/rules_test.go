package issuance_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func sqlite(t *testing.T) *store.Store {
	t.Helper()
	return storetest.SQLite(t)
}

// change swaps rules that differ from those in force.
func (c *ca) change(f func(*issuance.Rules)) {
	r := *c.pipeline.Rules()
	r.Issuers = maps.Clone(r.Issuers)
	f(&r)
	c.pipeline.Swap(r)
}

// TestPoolChoosesByHealth: a key that failed is not tried while another one of
// the pool works, and is tried when none does.
func TestPoolChoosesByHealth(t *testing.T) {
	c := newCA(t, sqlite(t), "a-1", "b-1", "c-1")
	from := func(origin, want string) {
		t.Helper()
		cert, err := c.pipeline.Issue(t.Context(), request(t, origin, "a.example.test"))
		if err != nil || cert.IssuerID != want {
			t.Fatalf("%s: %+v, %v; want a certificate of %s", origin, cert, err, want)
		}
	}
	from("request:1", "a-1")
	c.signers[0].ill.Store(true)
	used := c.signers[0].used.Load()
	from("request:2", "b-1")
	if c.signers[0].used.Load() != used {
		t.Error("the key that is ill was tried although another one works")
	}
	c.signers[1].ill.Store(true)
	c.signers[2].ill.Store(true)
	from("request:3", "a-1") // all are: the first is tried, and heals
	c.signers[0].ill.Store(false)
	from("request:4", "a-1")

	// Suspended and former issuers sign nothing, whatever their keys say.
	c.signers[1].ill.Store(false)
	c.pipeline.Suspend(map[string]string{"a-1": "revoked"})
	from("request:5", "b-1")
	c.change(func(r *issuance.Rules) { r.Former = map[string]bool{"b-1": true} })
	from("request:6", "c-1")
	c.pipeline.Suspend(map[string]string{"a-1": "revoked", "c-1": "revoked"})
	_, err := c.pipeline.Issue(t.Context(), request(t, "request:7", "a.example.test"))
	if !fault.Is(err, fault.Unavailable) || fault.Of(err).Reason != "issuer_revoked" {
		t.Errorf("a pool whose issuers are revoked or replaced: %v", err)
	}
	r := request(t, "request:8", "a.example.test")
	r.Issuer = "b-1"
	if _, err := c.pipeline.Issue(t.Context(), r); !fault.Is(err, fault.Denied) || fault.Of(err).Reason != "issuer_replaced" {
		t.Errorf("a former issuer by its own name: %v", err)
	}
	// A node that has not heard of the successor: the order must not fail for good.
	c.pipeline.Suspend(nil)
	r = request(t, "request:9", "a.example.test")
	c.change(func(rules *issuance.Rules) {
		rules.Former = map[string]bool{"a-1": true, "b-1": true, "c-1": true}
		rules.Members = map[string][]string{r.Issuer: {"a-1", "b-1", "c-1"}}
	})
	if _, err := c.pipeline.Issue(t.Context(), r); !fault.Is(err, fault.Unavailable) || fault.Of(err).Reason != "no_issuer" {
		t.Errorf("a pool of former issuers: %v", err)
	}
	c.holds(t)
}

// TestPoolTriesThreeTimes: each attempt has a serial of its own with another
// issuer, three at most.
func TestPoolTriesThreeTimes(t *testing.T) {
	c := newCA(t, sqlite(t), "a-1", "b-1", "c-1", "d-1")
	for _, s := range c.signers {
		s.breaks(func() ([]byte, error) { return nil, errors.New("CKR_DEVICE_ERROR") })
	}
	_, err := c.pipeline.Issue(t.Context(), request(t, "request:1", "a.example.test"))
	if !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
		t.Errorf("all keys fail: %v", err)
	}
	if rows := c.statuses(t); rows["void"] != 3 || c.signers[3].used.Load() != 0 {
		t.Errorf("rows %v, the fourth key was used %d times; want three attempts", rows, c.signers[3].used.Load())
	}
	c.holds(t)
}

// TestG1_03_G1_19_G2_22_G2_33_G2_38_WhoSignsWhat is what the door refuses whoever asks, with the reason.
func TestG1_03_G1_19_G2_22_G2_33_G2_38_WhoSignsWhat(t *testing.T) {
	c := newCA(t, sqlite(t), "web-1")
	tree := newTree(t, c, "second", "third", "fourth", "fifth")
	c.change(func(r *issuance.Rules) {
		maps.Copy(r.Issuers, tree)
		r.Issuers["waiting"] = nil
		r.ByIssuer = map[string][][]*x509.Certificate{"offline": {tree["fifth"][0].Chain()[4:]}}
	})
	for name, tt := range map[string]struct {
		issuer, profile, protocol string
		kind                      fault.Kind
		reason                    string
	}{
		"leaf of a root":             {"root", "tls-server", "operator", fault.Denied, "root_issuance_forbidden"},
		"CA of a root":               {"root", "issuing-ca", "operator", fault.Denied, "root_issuance_forbidden"},
		"leaf of a middle CA":        {"second", "tls-server", "operator", fault.Denied, "middle_ca_issuance_forbidden"},
		"sixth level":                {"fifth", "issuing-ca", "operator", fault.Denied, "max_depth"},
		"CA below an issuing CA":     {"web-1", "issuing-ca", "operator", fault.Denied, "path_length"},
		"CA without path length":     {"second", "root-ca", "operator", fault.Denied, "path_length"},
		"CA by ACME":                 {"second", "issuing-ca", "acme", fault.Denied, "ca_issuance_forbidden"},
		"CA whose key is elsewhere":  {"offline", "tls-server", "operator", fault.NotFound, "issuer_without_key"},
		"no such CA":                 {"nobody", "tls-server", "operator", fault.NotFound, "issuer_unknown"},
		"CA without its certificate": {"waiting", "tls-server", "operator", fault.Unavailable, "no_issuer"},
	} {
		r := request(t, "request:"+store.NewID(), "a.example.test")
		r.Issuer, r.Profile, r.Protocol = tt.issuer, tt.profile, tt.protocol
		if tt.profile != "tls-server" {
			r = authority(t, r)
		}
		if _, err := c.pipeline.Issue(t.Context(), r); !fault.Is(err, tt.kind) || fault.Of(err).Reason != tt.reason {
			t.Errorf("%s: %v because %q, want %v because %q", name, err, fault.Of(err).Reason, tt.kind, tt.reason)
		}
		if p := c.pipeline.Preview(t.Context(), r); p.Allowed || p.Fault.Reason != tt.reason {
			t.Errorf("%s: the dry run says %+v", name, p)
		}
	}
	if rows := c.statuses(t); len(rows) != 0 {
		t.Errorf("refused, and there are rows %v", rows)
	}

	// Having a CA below makes a CA one that signs no leaves, whatever its path length.
	r := request(t, "request:unlimited", "a.example.test")
	r.Issuer = "fifth"
	if _, err := c.pipeline.Issue(t.Context(), r); err != nil {
		t.Errorf("a leaf of the lowest CA: %v", err)
	}
	c.change(func(rules *issuance.Rules) { rules.Above = map[string]bool{"fifth": true} })
	r.Origin = "request:above"
	if _, err := c.pipeline.Issue(t.Context(), r); fault.Of(err) == nil || fault.Of(err).Reason != "middle_ca_issuance_forbidden" {
		t.Errorf("a leaf of a CA that has one below it: %v", err)
	}
	// One tier is for `privyseal dev --tiers 1`.
	c.change(func(rules *issuance.Rules) { rules.OneTier = true })
	r.Issuer, r.Origin = "root", "request:one-tier"
	if _, err := c.pipeline.Issue(t.Context(), r); err != nil {
		t.Errorf("a leaf of a root with one tier: %v", err)
	}
}

// authority makes a request for a CA's certificate of it.
func authority(t *testing.T, r issuance.Request) issuance.Request {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject := pki.CommonNameOnly("Some CA")
	r.CSR, r.PublicKey, r.Subject = nil, key.Public(), &subject
	return r
}

// TestG2_23_ASecondOperatorApprovesCAs: a CA waits for an operator who is not the one who
// asked, although its profile asks for nobody.
func TestG2_23_ASecondOperatorApprovesCAs(t *testing.T) {
	c := newCA(t, sqlite(t), "web-1")
	tree := newTree(t, c, "second")
	c.change(func(r *issuance.Rules) { maps.Copy(r.Issuers, tree) })
	r := authority(t, request(t, "request:"+store.NewID(), "a.example.test"))
	r.Issuer, r.Profile = "second", "issuing-ca"
	_, err := c.pipeline.Issue(t.Context(), r)
	if !issuance.IsWaiting(err) {
		t.Fatalf("a CA below a middle one: %v", err)
	}
	if rows := c.statuses(t); len(rows) != 0 {
		t.Errorf("nobody approved, and there are rows %v", rows)
	}
}

// newTree makes CAs one below the other, the first under a new root; the last may
// have none below it.
func newTree(t *testing.T, c *ca, ids ...string) map[string][]*issuer.Issuer {
	t.Helper()
	all := map[string][]*issuer.Issuer{}
	var chain []*x509.Certificate
	parent, now := newKey(t), time.Now()
	for level, id := range append([]string{"root"}, ids...) {
		key := parent
		if level > 0 {
			key = newKey(t)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(10 + level)), Subject: pkix.Name{CommonName: "Tree " + id}, IsCA: true, BasicConstraintsValid: true,
			MaxPathLen: 5 - level, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(20-level, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if level > 0 && level == len(ids) && len(ids) > 1 {
			template.MaxPathLen = 0
			template.MaxPathLenZero = true
		}
		above := template
		if level > 0 {
			above = chain[0]
		}
		cert := sign(t, template, above, key.Public(), parent)
		chain = slices.Insert(chain, 0, cert)
		name, up := id, ""
		if level == 0 {
			name = "tree-root"
		} else if up = ids[max(level-2, 0)]; level == 1 {
			up = "tree-root"
		}
		putIssuer(t, c.store, name, up, cert)
		i, err := issuer.NewOffline(name, slices.Clone(chain), &signer{key: key}, issuer.Locations{CRL: "http://ca.test/crl/" + id + ".crl", OCSP: "http://ca.test/ocsp/" + id})
		if err != nil {
			t.Fatal(err)
		}
		all[id], parent = []*issuer.Issuer{i}, key
	}
	return all
}
