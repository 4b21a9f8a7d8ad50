package issuance_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// narrow adds a CA to the pool that may certify names in a domain alone.
func (c *lab) narrow(t *testing.T, id, domain string) {
	t.Helper()
	key, sg, now := newKey(t), &signer{key: newKey(t)}, time.Now()
	template := func(cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(int64(len(c.signers) + 2)), Subject: pkix.Name{CommonName: cn}, IsCA: true,
			BasicConstraintsValid: true,
			NotBefore:             now.Add(-time.Hour), NotAfter: now.AddDate(20, 0, 0),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	root := sign(t, template("Root above "+domain), template("Root above "+domain), key.Public(), key)
	narrow := template("CA for " + domain)
	narrow.MaxPathLenZero, narrow.NotAfter = true, now.AddDate(10, 0, 0)
	narrow.PermittedDNSDomainsCritical, narrow.PermittedDNSDomains = true, []string{domain}
	cert := sign(t, narrow, root, sg.Public(), key)
	putIssuer(t, c.store, "root-"+domain, "", root)
	putIssuer(t, c.store, id, "root-"+domain, cert)
	c.signers, c.inputs.Keys[id] = append(c.signers, sg), sg
	c.inputs.Declared = append(c.inputs.Declared, ca.Declaration{ID: id, Pool: "pool", Locations: issuer.Locations{
		CRL: "http://ca.test/crl/" + id + ".crl", OCSP: "http://ca.test/ocsp/" + id,
		CAIssuers: "http://ca.test/issuers/" + id + ".cer",
	}})
}

// TestFR16_NamesWithinAPool: the CAs of a pool may have other constraints; the
// first that may certify the names does, and names are refused beforehand only
// if none can.
func TestFR16_NamesWithinAPool(t *testing.T) {
	c := newCA(t, storetest.SQLite(t))
	c.narrow(t, "web-1", "a.test")
	c.narrow(t, "web-2", "b.test")
	c.change(t, nil)
	dns := func(names ...string) []pki.Identifier {
		var ids []pki.Identifier
		for _, n := range names {
			ids = append(ids, pki.Identifier{Type: pki.DNS, Value: n})
		}
		return ids
	}
	for _, tt := range []struct{ name, issuer string }{{"x.a.test", "web-1"}, {"x.b.test", "web-2"}, {"x.c.test", ""}} {
		err := c.pipeline.CheckNames("pool", dns(tt.name))
		v := c.pipeline.Preview(t.Context(), request(t, "request:p"+tt.name, tt.name))
		made, failed := c.pipeline.Issue(t.Context(), request(t, "request:"+tt.name, tt.name))
		if tt.issuer == "" {
			for _, err := range []error{err, v.Fault, failed} {
				if !fault.Is(err, fault.RejectedIdentifier) || fault.Of(err).Reason != "name_constraints" {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
			continue
		}
		if err != nil || failed != nil || !v.Allowed || v.IssuerID != tt.issuer || made.IssuerID != tt.issuer {
			t.Errorf("%s: check %v, preview %v of %s, issued %v; want %s", tt.name, err, v.Fault, v.IssuerID, failed, tt.issuer)
		}
	}
	if err := c.pipeline.CheckNames("pool", dns("x.a.test", "x.b.test")); !fault.Is(err, fault.RejectedIdentifier) {
		t.Errorf("names that no single CA may certify: %v", err)
	}
	// What a CA that signs no more could certify counts for nothing.
	c.change(t, nil, "web-2")
	if err := c.pipeline.CheckNames("pool", dns("x.b.test")); !fault.Is(err, fault.RejectedIdentifier) {
		t.Errorf("a revoked CA is relied on: %v", err)
	}
	c.pipeline.Swap(issuance.Rules{})
	if err := c.pipeline.CheckNames("pool", dns("x.c.test")); err != nil {
		t.Errorf("whether it fits is not known while there is no CA: %v", err)
	}
}
