package hierarchy

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// understood are the critical extensions that may stand in a CA's certificate:
// this package or the standard library acts on each of them, or (policies)
// they bind relying parties only.
var understood = []asn1.ObjectIdentifier{
	{2, 5, 29, 15}, {2, 5, 29, 17}, {2, 5, 29, 19}, {2, 5, 29, 30}, {2, 5, 29, 32}, {2, 5, 29, 33},
	{2, 5, 29, 36}, {2, 5, 29, 37}, {2, 5, 29, 54},
}

// VerifyChain checks an issuer's own chain (issuer first, root last) at a time:
// it ends in a self-signed root, each certificate is a CA, signed by the next
// one, current, and within the laws of all above it.
func VerifyChain(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("verify chain: no certificate")
	}
	if len(chain) > MaxDepth {
		return denied("max_depth", "the chain has %d CAs, %d at most are allowed", len(chain), MaxDepth)
	}
	for i, c := range chain {
		if err := verifyAuthority(c, now); err != nil {
			return fmt.Errorf("verify chain: %s: %w", c.Subject, err)
		}
		issuer, above := c, chain[i+1:]
		if len(above) > 0 {
			issuer = above[0]
		}
		if err := verifyLink(c, issuer); err != nil {
			return fmt.Errorf("verify chain: %s: %w", c.Subject, err)
		}
		if len(above) == 0 {
			continue
		}
		child, err := Describe(c)
		if err == nil {
			err = Check(above, child)
		}
		if err != nil {
			return fmt.Errorf("verify chain: %s: %w", c.Subject, err)
		}
	}
	return nil
}

// VerifyPath checks a chain (issuer first, root last) as path validation does, at
// no time in particular: for chains by cross-certificates, whose CAs seldom nest
// in each other's validity.
func VerifyPath(chain []*x509.Certificate) error {
	if len(chain) > MaxDepth {
		return denied("max_depth", "the chain has %d CAs, %d at most are allowed", len(chain), MaxDepth)
	}
	for i, c := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		err := verifyForm(c)
		if err == nil {
			err = verifyLink(c, issuer)
		}
		if limit := pathLen(c); err == nil && limit >= 0 && i > limit {
			err = denied("path_length", "%d CAs follow it, and its path length is %d", i, limit)
		}
		if err == nil && i+1 < len(chain) {
			var child Child
			if child, err = Describe(c); err == nil {
				err = checkNames(chain[i+1:], child)
			}
		}
		if err != nil {
			return fmt.Errorf("verify chain: %s: %w", c.Subject, err)
		}
	}
	return nil
}

func verifyAuthority(c *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(c.NotBefore):
		return fmt.Errorf("not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fmt.Errorf("expired on %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	return verifyForm(c)
}

// verifyForm checks what does not depend on the time.
func verifyForm(c *x509.Certificate) error {
	switch {
	case c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("not the certificate of a CA")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage lacks keyCertSign")
	}
	seen := map[string]bool{}
	for _, e := range c.Extensions {
		if seen[e.Id.String()] {
			return fmt.Errorf("the extension %s twice", e.Id)
		}
		seen[e.Id.String()] = true
		if e.Critical && !slices.ContainsFunc(understood, e.Id.Equal) {
			return fmt.Errorf("the critical extension %s, which is not known", e.Id)
		}
	}
	if value, ok := extension(c, oidNameConstraints); ok {
		if _, err := pki.ParseNameConstraints(value); err != nil {
			return err
		}
	}
	return nil
}

// verifyLink checks names, key identifiers and the signature between a
// certificate and its issuer; for a root, both are the same.
func verifyLink(c, issuer *x509.Certificate) error {
	if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
		if c == issuer {
			return errors.New("the chain does not end in a self-signed root")
		}
		return fmt.Errorf("issued by %s, but %s comes next", c.Issuer, issuer.Subject)
	}
	if len(c.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) {
		return fmt.Errorf("its authority key identifier is not the key identifier of %s", issuer.Subject)
	}
	// CheckSignature refuses SHA-1 and MD5.
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return fmt.Errorf("its signature does not verify with the key of %s: %w", issuer.Subject, err)
	}
	return nil
}

// Describe returns an existing certificate as the Child that it was, so that
// certificates on record can be checked again.
func Describe(c *x509.Certificate) (Child, error) {
	child := Child{
		CA: c.IsCA, MaxPathLen: pathLen(c), NotBefore: c.NotBefore, NotAfter: c.NotAfter, RawSubject: c.RawSubject,
	}
	var err error
	if child.EKU, err = usages(c); err != nil {
		return child, err
	}
	if value, ok := extension(c, oidSAN); ok {
		child.Names, err = pki.ParseSAN(value)
	}
	return child, err
}
