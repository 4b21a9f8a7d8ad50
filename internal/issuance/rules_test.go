package issuance_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
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

// change swaps in what the inputs say after f, and which CAs are revoked.
func (c *lab) change(t *testing.T, f func(*ca.Inputs), revoked ...string) {
	t.Helper()
	if f != nil {
		f(&c.inputs)
	}
	why := map[string]ca.Trust{}
	for _, id := range revoked {
		why[id] = ca.Trust{State: ca.Revoked, Why: "revoked by root"}
	}
	r := *c.pipeline.Rules()
	r.CAs = c.set(t).With(why)
	c.pipeline.Swap(r)
}

// drain moves an issuer on.
func (c *lab) drain(t *testing.T, id string) {
	t.Helper()
	if err := c.store.MoveIssuer(t.Context(), id, "active", "draining"); err != nil {
		t.Fatal(err)
	}
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
	c.change(t, nil, "a-1")
	from("request:5", "b-1")
	c.drain(t, "b-1")
	c.change(t, nil, "a-1")
	from("request:6", "c-1")
	c.change(t, nil, "a-1", "c-1")
	_, err := c.pipeline.Issue(t.Context(), request(t, "request:7", "a.example.test"))
	if !fault.Is(err, fault.Unavailable) || fault.Of(err).Reason != "issuer_revoked" {
		t.Errorf("a pool whose issuers are revoked or replaced: %v", err)
	}
	r := request(t, "request:8", "a.example.test")
	r.Issuer = "b-1"
	if _, err := c.pipeline.Issue(t.Context(), r); !fault.Is(err, fault.Denied) || fault.Of(err).Reason != "issuer_replaced" {
		t.Errorf("a former issuer by its own name: %v", err)
	}
	// Weak ones sign nothing new, and the client is not told why.
	c.change(t, nil)
	rules := *c.pipeline.Rules()
	var all []*ca.CA
	for _, one := range rules.CAs.All() {
		if one.ID == "a-1" {
			weak := *one
			weak.Weak = errors.New("a weak key")
			one = &weak
		}
		all = append(all, one)
	}
	rules.CAs = ca.NewSet(all...)
	c.pipeline.Swap(rules)
	from("request:8b", "c-1")
	r.Issuer = "a-1"
	if _, err := c.pipeline.Issue(t.Context(), r); fault.Of(err).Reason != "issuer_barred" ||
		strings.Contains(fault.Of(err).Detail, "weak") {
		t.Errorf("a weak issuer: %v", err)
	}
	// A node that has not heard of the successor: the order must not fail for good.
	r = request(t, "request:9", "a.example.test")
	c.drain(t, "a-1")
	c.drain(t, "c-1")
	c.change(t, nil)
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
	newTree(t, c, "second", "third", "fourth", "fifth")
	c.change(t, func(in *ca.Inputs) {
		in.Declared = append(in.Declared, ca.Declaration{ID: "waiting"})
	})
	for name, tt := range map[string]struct {
		issuer, profile, protocol string
		kind                      fault.Kind
		reason                    string
	}{
		"leaf of a root":             {"tree-root", "tls-server", "operator", fault.Denied, "root_issuance_forbidden"},
		"CA of a root":               {"tree-root", "issuing-ca", "operator", fault.Denied, "root_issuance_forbidden"},
		"leaf of a middle CA":        {"second", "tls-server", "operator", fault.Denied, "middle_ca_issuance_forbidden"},
		"sixth level":                {"fifth", "issuing-ca", "operator", fault.Denied, "max_depth"},
		"CA below an issuing CA":     {"web-1", "issuing-ca", "operator", fault.Denied, "path_length"},
		"CA without path length":     {"second", "root-ca", "operator", fault.Denied, "path_length"},
		"CA by ACME":                 {"second", "issuing-ca", "acme", fault.Denied, "ca_issuance_forbidden"},
		"CA whose key is elsewhere":  {"root", "tls-server", "operator", fault.NotFound, "issuer_without_key"},
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
	child := newKey(t)
	putIssuer(t, c.store, "sixth", "fifth", sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(60), Subject: pkix.Name{CommonName: "Sixth"}, NotBefore: time.Now(),
		NotAfter: time.Now().Add(time.Hour),
	}, c.pipeline.Rules().CAs.Get("fifth").Certificate(), child.Public(), c.inputs.Keys["fifth"].(*signer).key))
	c.change(t, nil)
	r.Origin = "request:above"
	if _, err := c.pipeline.Issue(t.Context(), r); fault.Of(err) == nil || fault.Of(err).Reason != "middle_ca_issuance_forbidden" {
		t.Errorf("a leaf of a CA that has one below it: %v", err)
	}
	// One tier is for `privyseal dev --tiers 1`.
	c.change(t, func(in *ca.Inputs) {
		in.Declared, in.OneTier = append(in.Declared, ca.Declaration{ID: "tree-root", Locations: c.extra[0].Locations}), true
		in.Keys["tree-root"], c.extra = c.root, nil
	})
	r.Issuer, r.Origin = "tree-root", "request:one-tier"
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
	newTree(t, c, "second")
	c.change(t, nil)
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

// newTree makes CAs one below the other, the first under a new root whose key is
// here too; the last may have none below it.
func newTree(t *testing.T, c *lab, ids ...string) {
	t.Helper()
	var chain []*x509.Certificate
	parent, now, up := newKey(t), time.Now(), ""
	for level, id := range append([]string{"tree-root"}, ids...) {
		key := parent
		if level > 0 {
			key = newKey(t)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(10 + level)), Subject: pkix.Name{CommonName: "Tree " + id}, IsCA: true, BasicConstraintsValid: true,
			MaxPathLen: 5 - level, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(20-level, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if level > 0 && level == len(ids) && len(ids) > 1 {
			template.MaxPathLen, template.MaxPathLenZero = 0, true
		}
		above := template
		if level > 0 {
			above = chain[0]
		}
		cert := sign(t, template, above, key.Public(), parent)
		chain = slices.Insert(chain, 0, cert)
		putIssuer(t, c.store, id, up, cert)
		at := issuer.Locations{CRL: "http://ca.test/crl/" + id + ".crl", OCSP: "http://ca.test/ocsp/" + id}
		if level == 0 {
			c.root = &signer{key: key}
			root, err := issuer.NewOffline(id, chain, c.root, at)
			if err != nil {
				t.Fatal(err)
			}
			c.extra = append(c.extra, ca.Of(root))
		} else {
			c.inputs.Declared = append(c.inputs.Declared, ca.Declaration{ID: id, Locations: at})
			c.inputs.Keys[id] = &signer{key: key}
		}
		parent, up = key, id
	}
}
