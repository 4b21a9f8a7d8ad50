package verify

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

var (
	oidNoRevAvail = asn1.ObjectIdentifier{2, 5, 29, 56}                  // RFC 9608
	oidNoCheck    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5} // RFC 6960, section 4.2.2.2.1
)

// issuers loads every installed CA with its chain and checks the laws along it.
func (c *check) issuers(ctx context.Context) error {
	rows, err := c.store.Issuers(ctx)
	if err != nil {
		return err
	}
	byID := map[string]store.IssuerRecord{}
	for _, row := range rows {
		byID[row.ID] = row
	}
	for _, row := range rows {
		c.report.Issuers++
		chain, ok := c.chain(byID, row.ID)
		if !ok {
			continue
		}
		c.chains[row.ID] = chain
		v := calaw.Foreign(chain, c.Now)
		if v.Refused != nil {
			c.find(3, "issuer "+row.ID, "%s", v.Refused.Detail)
		}
		for _, f := range v.NotNow {
			c.find(3, "issuer "+row.ID, "%s", f.Detail)
		}
	}
	return nil
}

// chain follows the parents of an issuer up to its root.
func (c *check) chain(byID map[string]store.IssuerRecord, id string) ([]*x509.Certificate, bool) {
	var chain []*x509.Certificate
	for at := id; at != ""; {
		row, ok := byID[at]
		if !ok || len(chain) > len(byID) {
			c.find(3, "issuer "+id, "its chain does not reach a root: %q is missing or its own ancestor", at)
			return nil, false
		}
		cert, err := x509.ParseCertificate(row.Certificate)
		if err != nil {
			c.find(3, "issuer "+at, "its certificate cannot be parsed: %v", err)
			return nil, false
		}
		chain, at = append(chain, cert), row.ParentID
	}
	return chain, true
}

// certificates is invariants 1 to 3, over every row.
func (c *check) certificates(ctx context.Context) error {
	for after := ""; ; {
		rows, next, err := c.store.SearchCertificates(ctx, store.Search{After: after, Limit: page})
		if err != nil {
			return err
		}
		for i := range rows {
			c.certificate(&rows[i])
		}
		c.report.Certificates += len(rows)
		if c.Progress != nil {
			c.Progress(c.report.Certificates)
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

func (c *check) certificate(row *store.Certificate) {
	subject := "certificate " + row.ID
	if row.Status == "imported" {
		c.report.Imported++
		return
	}
	c.intent(row)
	switch row.Status {
	case "issued":
		c.issued(row)
	case "reserved":
		if c.Now.Sub(row.ReservedAt) > reservationAge {
			c.find(1, subject, "its reservation is older than %v and was not settled", reservationAge)
		}
	case "void":
		if row.Revocation == nil {
			c.find(1, subject, "it is void, but not entered as revoked")
		}
	case "abandoned":
		if row.DER != nil {
			c.find(1, subject, "it is abandoned, but has a signature")
		}
	default:
		c.find(1, subject, "its status %q is none that exists", row.Status)
	}
}

// issued checks one certificate against its row and its issuer.
func (c *check) issued(row *store.Certificate) {
	subject := "certificate " + row.ID
	cert, err := x509.ParseCertificate(row.DER)
	if err != nil {
		c.find(3, subject, "it cannot be parsed: %v", err)
		return
	}
	if n := cert.SerialNumber; pki.SerialFromBig(n) != row.Serial || n.Sign() <= 0 || n.BitLen() < 127 ||
		n.BitLen() > 159 {
		c.find(2, subject, "serial %x is not the recorded %s, or not of 127 to 159 bits", n, row.Serial)
	}
	chain, ok := c.chains[row.IssuerID]
	if !ok {
		c.find(3, subject, "its issuer %q is not installed", row.IssuerID)
		return
	}
	if err := pki.CertifiedBy(cert, chain[0]); err != nil {
		c.find(3, subject, "it does not verify to its issuer %s: %v", row.IssuerID, err)
	}
	child, err := hierarchy.Describe(cert)
	if err != nil {
		c.find(3, subject, "its names or usages cannot be read: %v", err)
		return
	}
	if !sameNames(child.Names, row.Names) {
		c.find(3, subject, "its names are not those on record")
	}
	if err := hierarchy.Check(chain, child); err != nil {
		c.find(3, subject, "%v", err)
	}
	c.located(row, cert)
}

// located: whoever holds the certificate can find out whether it is revoked.
func (c *check) located(row *store.Certificate, cert *x509.Certificate) {
	if has(cert, oidNoRevAvail) || has(cert, oidNoCheck) || string(cert.RawSubject) == string(cert.RawIssuer) {
		return
	}
	if len(cert.CRLDistributionPoints) == 0 || len(cert.OCSPServer) == 0 {
		c.find(3, "certificate "+row.ID, "it carries no CRL or no OCSP location")
	}
}

func sameNames(a, b []pki.Identifier) bool {
	if len(a) != len(b) {
		return false
	}
	for _, n := range a {
		if !slices.Contains(b, n) {
			return false
		}
	}
	return true
}

func has(cert *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	_, ok := pki.Extension(cert.Extensions, oid)
	return ok
}
