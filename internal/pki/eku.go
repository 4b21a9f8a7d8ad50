package pki

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ekus maps the names that configuration uses to extended key usages.
var ekus = []struct {
	name string
	oid  asn1.ObjectIdentifier
}{
	{"anyExtendedKeyUsage", asn1.ObjectIdentifier{2, 5, 29, 37, 0}},
	{"serverAuth", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}},
	{"clientAuth", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}},
	{"codeSigning", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}},
	{"emailProtection", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}},
	{"ipsecEndSystem", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 5}},
	{"ipsecTunnel", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 6}},
	{"ipsecUser", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 7}},
	{"timeStamping", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}},
	{"OCSPSigning", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}},
	{"ipsecIKE", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}},
	{"cmcCA", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 27}},
	{"cmcRA", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}},
	{"documentSigning", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 36}},
	{"smartcardLogon", asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}},
	{"kerberosClient", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 3, 4}},
	{"kerberosKDC", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 3, 5}},
}

// AnyEKU is anyExtendedKeyUsage (RFC 5280, section 4.2.1.12).
var AnyEKU = asn1.ObjectIdentifier{2, 5, 29, 37, 0}

// ParseEKU returns the extended key usage of the given name ("serverAuth") or
// dotted OID.
func ParseEKU(s string) (asn1.ObjectIdentifier, error) {
	for _, e := range ekus {
		if strings.EqualFold(e.name, s) {
			return slices.Clone(e.oid), nil
		}
	}
	oid, err := ParseOID(s)
	if err != nil {
		return nil, fmt.Errorf("extended key usage %q: want a name such as serverAuth, or an OID", s)
	}
	return oid, nil
}

// EKUName returns the name of an extended key usage, or its OID in dotted form.
func EKUName(oid asn1.ObjectIdentifier) string {
	for _, e := range ekus {
		if e.oid.Equal(oid) {
			return e.name
		}
	}
	return oid.String()
}

// EKUNames returns every name that ParseEKU knows.
func EKUNames() []string {
	names := make([]string, len(ekus))
	for i, e := range ekus {
		names[i] = e.name
	}
	return names
}

// ParseOID reads a dotted object identifier. Arcs are limited to 31 bits, the
// range that encoding/asn1 can hold everywhere.
func ParseOID(s string) (asn1.ObjectIdentifier, error) {
	bad := fmt.Errorf("object identifier %q: want dotted numbers such as 1.3.6.1.4.1.99999.1", clip(s))
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 32 {
		return nil, bad
	}
	oid := make(asn1.ObjectIdentifier, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil || (len(p) > 1 && p[0] == '0') || p[0] == '+' {
			return nil, bad
		}
		oid[i] = int(n)
	}
	if oid[0] > 2 || (oid[0] < 2 && oid[1] > 39) || oid[1] > 1<<31-1-80 {
		return nil, bad
	}
	return oid, nil
}
