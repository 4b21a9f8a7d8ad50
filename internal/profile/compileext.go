package profile

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/internal/pki"
)

// Extensions that the CA alone decides about: never copied from a request.
var reserved = []asn1.ObjectIdentifier{
	{2, 5, 29, 9}, {2, 5, 29, 14}, {2, 5, 29, 15}, {2, 5, 29, 17}, {2, 5, 29, 18}, {2, 5, 29, 19},
	{2, 5, 29, 20}, {2, 5, 29, 28}, {2, 5, 29, 30}, {2, 5, 29, 31}, {2, 5, 29, 32}, {2, 5, 29, 33},
	{2, 5, 29, 35}, {2, 5, 29, 36}, {2, 5, 29, 37}, {2, 5, 29, 46}, {2, 5, 29, 54}, {2, 5, 29, 56},
	{1, 3, 6, 1, 5, 5, 7, 1, 1}, {1, 3, 6, 1, 5, 5, 7, 1, 11}, {1, 3, 6, 1, 5, 5, 7, 48, 1, 5},
	{1, 3, 6, 1, 5, 5, 7, 1, 7}, {1, 3, 6, 1, 5, 5, 7, 1, 8}, // RFC 3779 resources
	{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, {1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, // certificate transparency
}

// Extensions that tools put into requests without being asked; they say what
// the CA decides anyway and are dropped without a word (rule A41).
var harmless = []asn1.ObjectIdentifier{
	{2, 5, 29, 14}, {2, 5, 29, 15}, {2, 5, 29, 19}, {2, 5, 29, 35}, {2, 5, 29, 37},
	{2, 16, 840, 1, 113730, 1, 1}, {2, 16, 840, 1, 113730, 1, 13}, // Netscape certificate type, comment
	{1, 2, 840, 113549, 1, 9, 15},     // S/MIME capabilities
	{1, 3, 6, 1, 4, 1, 311, 20, 2},    // Windows template name
	{1, 3, 6, 1, 4, 1, 311, 21, 7},    // Windows template
	{1, 3, 6, 1, 4, 1, 311, 21, 10},   // Windows application policies
	{1, 3, 6, 1, 4, 1, 311, 13, 2, 3}, // Windows version
}

// OIDs with rules of their own.
var (
	oidTLSFeature  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	oidNCs         = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}
)

func has(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(list, oid.Equal)
}

// oids parses a list; each may stand once.
func (b *compiler) oids(
	knob string, texts []string, parse func(string) (asn1.ObjectIdentifier, error),
) []asn1.ObjectIdentifier {
	var list []asn1.ObjectIdentifier
	for _, t := range texts {
		oid, err := parse(t)
		switch {
		case err != nil:
			b.bad("%s: %v", knob, err)
		case has(list, oid):
			b.bad("%s: %q stands there twice", knob, t)
		default:
			list = append(list, oid)
		}
	}
	return list
}

func (b *compiler) usages() {
	c, p := b.c, b.p
	var err error
	p.usage, err = parseKeyUsage(c.KeyUsage)
	b.check(err)
	if len(c.KeyUsage) == 0 {
		p.usage = x509.KeyUsageDigitalSignature
		if c.CA {
			p.usage = caUsage
		}
	}
	p.ekus = b.oids("ext_key_usage", c.ExtKeyUsage, pki.ParseEKU)
	p.policies = b.oids("policies", c.Policies, pki.ParseOID)
	p.noRevAvail, p.ocspNoCheck = c.NoRevAvail, c.OCSPNoCheck
	p.mustStaple = c.MustStaple
	switch {
	case c.CA && p.usage&caUsage != caUsage:
		b.bad("key_usage: a CA needs keyCertSign and cRLSign")
	case !c.CA && p.usage&caUsage != 0:
		b.bad("key_usage: keyCertSign and cRLSign are for CAs")
	}
	if !c.CA && len(p.ekus) == 0 && len(c.ExtKeyUsage) == 0 {
		b.bad("ext_key_usage: at least one is wanted; anyExtendedKeyUsage has to be said")
	}
	if c.NoRevAvail && (c.CA || p.life.max > maxNoRevAvail) {
		b.bad("no_rev_avail: not for CAs, and only with validity.max of at most 10d")
	}
	if c.OCSPNoCheck && (c.CA || !has(p.ekus, oidOCSPSigning)) {
		b.bad("ocsp_nocheck: only with the extended key usage OCSPSigning, and not for CAs")
	}
	if c.MustStaple && (c.CA || c.NoRevAvail || c.OCSPNoCheck) {
		b.bad("must_staple: not for CAs, and not together with no_rev_avail or ocsp_nocheck: there is nothing to " +
			"staple")
	}
}

func (b *compiler) extensions() {
	b.p.dropExts = b.choose("extensions.others", b.c.Extensions.Others, "refuse", "drop")
	b.p.copied = b.oids("extensions.copy", b.c.Extensions.Copy, pki.ParseOID)
	for _, oid := range b.p.copied {
		switch {
		case oid.Equal(oidTLSFeature):
			b.bad("extensions.copy: %s is given by must_staple: true", oid)
		case has(reserved, oid):
			b.bad("extensions.copy: %s is written by the CA alone", oid)
		}
	}
}

// authority compiles what is for CAs only.
func (b *compiler) authority() {
	c := b.c
	if !c.CA {
		if c.PathLen != nil {
			b.bad("path_len: only with ca")
		}
		if c.NameConstraints != nil {
			b.bad("name_constraints: only with ca")
		}
		return
	}
	if c.PathLen != nil {
		b.p.pathLen = *c.PathLen
		if *c.PathLen < 0 || *c.PathLen > 4 {
			b.bad("path_len: want 0 to 4") // hierarchies have five levels of CAs at most
		}
	}
	if c.NameConstraints == nil {
		return
	}
	nc := pki.NameConstraints{Permitted: c.NameConstraints.Permitted.list(),
		Excluded: c.NameConstraints.Excluded.list()}
	value, err := nc.Marshal()
	if err != nil {
		b.bad("name_constraints: %v", err)
		return
	}
	b.p.fixedExtra = append(b.p.fixedExtra, pkix.Extension{Id: oidNCs, Critical: true, Value: value})
}

func (s Subtrees) list() []pki.Subtree {
	var trees []pki.Subtree
	for _, group := range []struct {
		t      pki.IdentifierType
		values []string
	}{{pki.DNS, s.DNS}, {pki.IP, s.IP}, {pki.Email, s.Email}, {pki.URI, s.URI}, {pki.DirName, s.Directory}} {
		for _, v := range group.values {
			trees = append(trees, pki.Subtree{Type: group.t, Value: v})
		}
	}
	return trees
}

// checkCopied reports why a requested extension cannot be copied.
func checkCopied(e pkix.Extension) error {
	var raw asn1.RawValue
	if rest, err := asn1.Unmarshal(e.Value, &raw); err != nil || len(rest) > 0 {
		return fmt.Errorf("the extension %s is not DER", e.Id)
	}
	return nil
}

// statusRequest is the one TLS feature that is given: status_request (RFC 7633,
// section 4.2.3).
const statusRequest = "\x30\x03\x02\x01\x05"
