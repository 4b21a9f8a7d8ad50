package ceremony

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// facts is what a certificate says, in lines for people, without serial and keys.
func facts(c *x509.Certificate) string {
	var b strings.Builder
	line := func(name string, values ...string) {
		if text := strings.Join(values, ", "); text != "" {
			fmt.Fprintf(&b, "    %-12s %s\n", name, text)
		}
	}
	line("subject", nameOf(c.RawSubject))
	line("issuer", nameOf(c.RawIssuer))
	line("valid", c.NotBefore.UTC().Format(time.RFC3339)+" to "+c.NotAfter.UTC().Format(time.RFC3339))
	line("key", pki.KeyAlgorithm(c.PublicKey))
	if c.IsCA {
		length := "CA, any number of CAs below"
		if c.MaxPathLen > 0 || c.MaxPathLenZero {
			length = fmt.Sprintf("CA, path length %d", c.MaxPathLen)
		}
		line("kind", length)
	} else {
		line("kind", "end entity")
	}
	line("key usage", (&profile.Template{KeyUsage: c.KeyUsage}).KeyUsageNames()...)
	line("may be for", usageNames(c)...)
	for _, p := range c.PolicyIdentifiers {
		line("policy", p.String())
	}
	line("list at", c.CRLDistributionPoints...)
	line("issuer at", c.IssuingCertificateURL...)
	line("OCSP at", c.OCSPServer...)
	if value, ok := pki.Extension(c.Extensions, oidNameConstraints); ok {
		line("constraints", constraintText(value)...)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func usageNames(c *x509.Certificate) []string {
	child, err := hierarchy.Describe(c)
	if err != nil {
		return []string{"cannot be read"}
	}
	names := make([]string, len(child.EKU))
	for i, oid := range child.EKU {
		names[i] = pki.EKUName(oid)
	}
	return names
}

func constraintText(value []byte) []string {
	nc, err := pki.ParseNameConstraints(value)
	if err != nil {
		return []string{"cannot be read"}
	}
	var text []string
	for _, t := range nc.Permitted {
		text = append(text, "only "+subtreeText(t))
	}
	for _, t := range nc.Excluded {
		text = append(text, "not "+subtreeText(t))
	}
	return text
}

func subtreeText(t pki.Subtree) string { return string(t.Type) + ":" + t.Value }

var oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}

// requestFacts is what a request asks for.
func requestFacts(csr *pki.CSR) string {
	text := fmt.Sprintf("    %-12s %s\n    %-12s %s, SHA-256 %s", "subject", csr.Subject, "key",
		pki.KeyAlgorithm(csr.PublicKey), csr.KeyHash)
	for _, e := range csr.Extensions {
		text += fmt.Sprintf("\n    %-12s %s, %x", "asks for", e.Id, e.Value)
	}
	return text
}
