package calaw

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/pki"
)

// understood are the critical extensions that may stand in a CA's certificate:
// each is acted on here or where certificates are signed.
var understood = []asn1.ObjectIdentifier{
	oidKeyUsage, {2, 5, 29, 17}, oidBasicConstraints, oidNameConstraints, {2, 5, 29, 32}, {2, 5, 29, 33},
	{2, 5, 29, 36}, {2, 5, 29, 37}, {2, 5, 29, 54},
}

func found(reason, format string, args ...any) *Finding {
	return &Finding{reason, fmt.Sprintf(format, args...)}
}

func detail(err error) string {
	if f := fault.Of(err); f.Detail != "" {
		return f.Detail
	}
	return err.Error()
}

// validate returns why path validation accepts nothing below a chain, whatever the
// time, or nil.
func validate(chain []*x509.Certificate) *Finding {
	switch {
	case len(chain) == 0:
		return found("chain", "there is no certificate in the chain")
	case len(chain) > hierarchy.MaxDepth:
		return found("max_depth", "the chain has %d CAs, %d at most are taken", len(chain), hierarchy.MaxDepth)
	}
	for i, c := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		root := i == len(chain)-1
		if f := validateCA(c, i, root); f != nil {
			return f
		}
		if f := validateLink(c, issuer, root); f != nil {
			return f
		}
		if f := validateBelow(chain, i); f != nil {
			return f
		}
	}
	return nil
}

// validateCA checks a certificate by itself (RFC 5280, section 6.1.4, k, n and o).
// The CA's own usage decides what it may do, not whether it may stand.
func validateCA(c *x509.Certificate, i int, root bool) *Finding {
	_, constrained := pki.Extension(c.Extensions, oidBasicConstraints)
	_, used := pki.Extension(c.Extensions, oidKeyUsage)
	switch {
	case constrained && !c.IsCA:
		return found("not_a_ca", "%s is not a CA's certificate: its basic constraints say CA:FALSE", c.Subject)
	case !constrained && !root:
		return found("not_a_ca",
			"%s is not a CA's certificate: it has no basic constraints, and only a root can do without", c.Subject)
	case used && i > 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return found("key_usage",
			"the key usage of %s lacks keyCertSign: verifiers refuse every certificate below it; "+
				"have that CA certified anew", c.Subject)
	}
	for _, e := range c.Extensions {
		if e.Critical && !slices.ContainsFunc(understood, e.Id.Equal) {
			return found("critical_extension",
				"%s has the critical extension %s, which verifiers that do not know it must refuse, "+
					"and which is not known here: have it certified without", c.Subject, e.Id)
		}
	}
	if value, ok := pki.Extension(c.Extensions, oidNameConstraints); ok {
		if _, err := pki.ParseNameConstraints(value); err != nil {
			return found("name_constraints",
				"the name constraints of %s cannot be read (%v), so that nobody can tell what is allowed "+
					"below it: have it certified anew", c.Subject, err)
		}
	}
	return nil
}

// validateLink checks names, key identifiers and the signature between a
// certificate and its issuer; for a root, both are the same.
func validateLink(c, issuer *x509.Certificate, root bool) *Finding {
	switch {
	case root && !pki.SameName(c.RawIssuer, c.RawSubject):
		return found("chain",
			"the chain ends with %s, which is not self-signed: append the certificates above it, up to the root",
			c.Subject)
	case !pki.SameName(c.RawIssuer, issuer.RawSubject):
		return found("chain",
			"%s was issued by %s, but %s comes next in the chain: order it from the CA up to the root",
			c.Subject, c.Issuer, issuer.Subject)
	case !identifies(c.AuthorityKeyId, issuer.SubjectKeyId):
		return found("chain",
			"the authority key identifier of %s is not the key identifier of %s: "+
				"look for the certificate of the key that signed it",
			c.Subject, issuer.Subject)
	}
	return validateSignature(c, issuer, root)
}

// identifies reports whether a key identifier is that of a CA, as far as both are
// there.
func identifies(id, ca []byte) bool { return len(id) == 0 || len(ca) == 0 || bytes.Equal(id, ca) }

func validateSignature(c, issuer *x509.Certificate, root bool) *Finding {
	err := pki.SignedBy(c, issuer)
	var insecure x509.InsecureAlgorithmError
	weak := errors.As(err, &insecure)
	switch {
	case err == nil:
		return nil
	case root && (weak || c.SignatureAlgorithm == x509.UnknownSignatureAlgorithm):
		return nil // a root is trusted for its key, not for its signature
	case weak:
		return found("weak_signature",
			"%s is signed with %s, which no verifier accepts: have it signed again with SHA-256 or better "+
				"for the same key", c.Subject, c.SignatureAlgorithm)
	}
	return found("chain",
		"the signature on %s does not verify with the key of %s (%v): "+
			"look for the certificate of the key that signed it",
		c.Subject, issuer.Subject, err)
}

// validateBelow checks what a CA allows of those below it: how many they are, and
// their names. Self-issued certificates do not count (section 6.1.4, b and l).
func validateBelow(chain []*x509.Certificate, i int) *Finding {
	ca := chain[i]
	below := 0
	for _, c := range chain[:i] {
		if pki.SameName(c.RawSubject, c.RawIssuer) {
			continue
		}
		below++
		child, err := hierarchy.Describe(c)
		if err == nil {
			err = hierarchy.CheckNames(chain[i:i+1], child)
		}
		if _, constrained := pki.Extension(ca.Extensions, oidNameConstraints); err != nil && constrained {
			return found("name_constraints", "%s may not stand below %s: %s", c.Subject, ca.Subject, detail(err))
		}
	}
	if limit := hierarchy.PathLen(ca); limit >= 0 && below > limit {
		return found("path_length",
			"%d CAs are below %s, and its path length is %d: verifiers refuse what the last of them signs; "+
				"have the CA certified by one further up", below, ca.Subject, limit)
	}
	return nil
}
