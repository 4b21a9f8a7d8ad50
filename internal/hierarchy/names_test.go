package hierarchy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// trees reads subtrees as "dns=example.com;ip=10.0.0.0/8".
func trees(s string) []pki.Subtree {
	var list []pki.Subtree
	for w := range strings.SplitSeq(s, ";") {
		if typ, value, ok := strings.Cut(w, "="); ok {
			list = append(list, pki.Subtree{Type: pki.IdentifierType(typ), Value: value})
		}
	}
	return list
}

// constrained is a root with the given name constraints.
func constrained(t testing.TB, permitted, excluded string) []*x509.Certificate {
	t.Helper()
	value, err := pki.NameConstraints{Permitted: trees(permitted), Excluded: trees(excluded)}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return withConstraints(t, value)
}

func withConstraints(t testing.TB, value []byte) []*x509.Certificate {
	t.Helper()
	return build(t, ca{-1, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidNameConstraints, Critical: true, Value: value}}
	}})
}

// named is a leaf with names "dns=a.example.com;email=…" and a subject.
func named(dn, names string) Child {
	return leaf(func(c *Child) {
		c.RawSubject = subject(dn)
		for _, s := range trees(names) {
			c.Names = append(c.Names, pki.Identifier(s))
		}
	})
}

// TestX9_NameConstraints is the table of all forms. The last column says what
// openssl answers: "same", or why it differs.
func TestX9_NameConstraints(t *testing.T) {
	t.Parallel()
	const same = "same"
	for _, tc := range []struct {
		permitted, excluded string
		dn, names           string
		ok                  bool
		openssl             string
	}{
		{"dns=example.com", "", "", "dns=example.com;dns=a.b.example.com", true, same},
		{"dns=example.com", "", "", "dns=notexample.com", false, same},
		{"dns=example.com", "", "", "dns=a.example.com;dns=example.org", false, same},
		{"dns=example.com", "", "", "dns=*.example.com", true, same},
		{"dns=.example.com", "", "", "dns=example.com", false, same},
		{"dns=.example.com", "", "", "dns=a.example.com", true, same},
		{"dns=a.example.com", "", "", "dns=*.example.com", false, same},
		{"dns=example.com", "", "", "ip=10.0.0.1", true, same},
		{"dns=example.com;dns=example.org", "", "", "dns=a.example.org", true, same},
		{"", "dns=example.com", "", "dns=a.example.com", false, same},
		{"", "dns=example.com", "", "dns=example.org", true, same},
		{"", "dns=secret.example.com", "", "dns=*.example.com", false, "openssl does not expand wildcards"},
		{"", "dns=", "", "dns=example.com", false, same},
		{"dns=example.com", "dns=a.example.com", "", "dns=b.example.com", true, same},
		{"dns=example.com", "dns=a.example.com", "", "dns=x.a.example.com", false, same},
		{"ip=10.0.0.0/8", "", "", "ip=10.1.2.3", true, same},
		{"ip=10.0.0.0/8", "", "", "ip=192.0.2.1", false, same},
		{"ip=10.0.0.0/8", "", "", "ip=2001:db8::1", false, same},
		{"ip=10.0.0.0/8;ip=2001:db8::/32", "", "", "ip=2001:db8::1", true, same},
		{"", "ip=0.0.0.0/0", "", "ip=10.1.2.3", false, same},
		{"", "ip=0.0.0.0/0", "", "ip=2001:db8::1", true, same},
		{"email=example.com", "", "", "email=a@example.com", true, same},
		{"email=example.com", "", "", "email=a@b.example.com", false, same},
		{"email=.example.com", "", "", "email=a@b.example.com", true, same},
		{"email=.example.com", "", "", "email=a@example.com", false, same},
		{"email=a@example.com", "", "", "email=a@example.com", true, same},
		{"email=a@example.com", "", "", "email=A@example.com", false, same},
		{"", "email=a@example.com", "", "email=A@example.com", false, "openssl tells local parts apart by case"},
		{"email=example.com", "", "emailAddress=a@example.org", "dns=a.example.com", false, same},
		{"email=example.com", "", "emailAddress=a@example.com", "dns=a.example.com", true, same},
		{"uri=example.com", "", "", "uri=spiffe://example.com/x", true, same},
		{"uri=example.com", "", "", "uri=https://a.example.com:8443/x", false, same},
		{"uri=.example.com", "", "", "uri=https://a.example.com:8443/x", true, same},
		{"uri=example.com", "", "", "uri=urn:dev:1", false, same},
		{"", "uri=example.com", "", "uri=urn:dev:1", false, same},
		{"uri=example.com", "", "", "uri=https://10.0.0.1/", false, same},
		{"dirname=O=Example,C=CH", "", "CN=a,O=example,C=CH", "", true, same},
		{"dirname=O=Example,C=CH", "", "CN=a,O=Other,C=CH", "", false, same},
		{"dirname=O=Example,C=CH", "", "", "dns=a.example.com", true, same},
		{"dirname=O=Example,C=CH", "", "C=CH", "dns=a.example.com", false, same},
		{"", "dirname=O=Example,C=CH", "CN=a,O=Example,C=CH", "", false, same},
		{"dirname=O=Example,C=CH", "", "", "dirname=CN=x,O=Example,C=CH", true, same},
		{"dirname=O=Example,C=CH", "", "", "dirname=CN=x,C=CH", false, same},
		{"dns=example.com", "", "CN=www.example.org", "", false, same},
		{"dns=example.com", "", "CN=www.example.com", "", true, same},
		{"dns=example.com", "", "CN=Ann", "upn=ann@example.org", true, same},
		{"ip=10.0.0.0/8", "", "CN=192.0.2.1", "", false, "openssl takes no address from a CN"},
		{"dns=example.com", "", "CN=www.example.org", "dns=a.example.com", false, "openssl ignores a CN beside DNS names"},
	} {
		name := fmt.Sprintf("permitted %q excluded %q, subject %q names %q", tc.permitted, tc.excluded, tc.dn, tc.names)
		chain := constrained(t, tc.permitted, tc.excluded)
		c := named(tc.dn, tc.names)
		err := Check(chain, c)
		if (err == nil) != tc.ok || err != nil && reason(err) != "name_constraints" {
			t.Errorf("%s: %v, want allowed %v", name, err, tc.ok)
			continue
		}
		if err != nil && (!fault.Is(err, fault.RejectedIdentifier) || len(fault.Of(err).Sub) == 0) {
			t.Errorf("%s: %v has no sub-fault", name, err)
		}
		verdict := opensslVerdict(t, chain, c)
		if tc.openssl == same && (verdict == "") != tc.ok {
			t.Errorf("%s: openssl says %q, we say %v", name, verdict, err)
		}
		if tc.openssl != same && verdict != "" {
			t.Errorf("%s: the difference has gone, openssl says %q", name, verdict)
		}
	}
}

func opensslVerdict(t *testing.T, chain []*x509.Certificate, c Child) string {
	t.Helper()
	needOpenSSL(t)
	return openssl(t, chain, certificateOf(t, c, chain[0]))
}

func TestX9_FormsThatCannotBeCompared(t *testing.T) {
	t.Parallel()
	upnTree := []byte{0xa0, 0x18, 6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x14, 2, 3, 0xa0, 10, 0x0c, 8, '@', 'e', 'x', 'a', '.', 'c', 'o', 'm'}
	tree := func(list byte, base []byte) []byte {
		entry := append([]byte{0x30, byte(len(base))}, base...)
		half := append([]byte{list, byte(len(entry))}, entry...)
		return append([]byte{0x30, byte(len(half))}, half...)
	}
	for _, list := range []byte{0xa0, 0xa1} {
		chain := withConstraints(t, tree(list, upnTree))
		for names, ok := range map[string]bool{
			"upn=a@exa.com": false, "hardware-module=1.2.3/0a": false, "permanent-identifier=1": false,
			"dns=a.example.com": true, "email=a@example.com": true,
		} {
			if err := Check(chain, named("", names)); (err == nil) != ok {
				t.Errorf("%s under an otherName subtree (%x): %v", names, list, err)
			}
		}
		// registeredID: no child can have one, so nothing else is concerned.
		if err := Check(withConstraints(t, tree(list, []byte{0x88, 2, 0x2a, 3})), named("CN=x", "upn=a@b")); err != nil {
			t.Errorf("a registeredID subtree: %v", err)
		}
	}
	minimum := []byte{0x30, 0xa, 0xa0, 8, 0x30, 6, 0x82, 1, 'a', 0x80, 1, 1}
	if got := reason(Check([]*x509.Certificate{{Extensions: []pkix.Extension{{Id: oidNameConstraints, Value: minimum}}, MaxPathLen: -1,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)}}, named("", "dns=a"))); got != "name_constraints" {
		t.Errorf("a subtree with a minimum: %q", got)
	}
}

func TestX9_EveryLevelCounts(t *testing.T) {
	t.Parallel()
	nc := func(permitted string) func(*x509.Certificate) {
		value, err := pki.NameConstraints{Permitted: trees(permitted)}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidNameConstraints, Critical: true, Value: value}}
		}
	}
	chain := build(t, ca{-1, nc("dns=example.com")}, ca{-1, nc("dns=a.example.com;dns=example.org")})
	for name, ok := range map[string]bool{"x.a.example.com": true, "b.example.com": false, "x.example.org": false} {
		if err := Check(chain, named("", "dns="+name)); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A CA's own subject is under its issuers' constraints, its CN is no host.
	dir := constrained(t, "dirname=O=Example;dns=example.com", "")
	good := sub(0)
	good.RawSubject = subject("CN=ca.example.org,O=Example")
	if err := Check(dir, good); err != nil {
		t.Errorf("a CA within the directory: %v", err)
	}
	if got := reason(Check(dir, sub(0))); got != "name_constraints" {
		t.Errorf("a CA outside the directory: %q", got)
	}
}

// genHost draws short names over few labels, so that subtrees often match.
func genHost() *rapid.Generator[string] {
	label := rapid.SampledFrom([]string{"a", "b", "ab", "example", "com"})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(label, 2, 4).Draw(t, "labels"), ".")
	})
}

// genSubtree draws a subtree of a form that the standard library knows as well.
func genSubtree() *rapid.Generator[pki.Subtree] {
	return rapid.Custom(func(t *rapid.T) pki.Subtree {
		dot := rapid.SampledFrom([]string{"", "."}).Draw(t, "dot")
		switch rapid.IntRange(0, 3).Draw(t, "form") {
		case 0:
			return pki.Subtree{Type: pki.DNS, Value: genHost().Draw(t, "host")}
		case 1:
			bits := rapid.SampledFrom([]int{0, 8, 16}).Draw(t, "bits")
			return pki.Subtree{Type: pki.IP, Value: map[int]string{0: "0.0.0.0/0", 8: "10.0.0.0/8", 16: "10.1.0.0/16"}[bits]}
		case 2:
			return pki.Subtree{Type: pki.Email, Value: dot + genHost().Draw(t, "host")}
		default:
			return pki.Subtree{Type: pki.URI, Value: dot + genHost().Draw(t, "host")}
		}
	})
}

func genName() *rapid.Generator[pki.Identifier] {
	return rapid.Custom(func(t *rapid.T) pki.Identifier {
		host := genHost().Draw(t, "host")
		switch rapid.IntRange(0, 3).Draw(t, "form") {
		case 0:
			return pki.Identifier{Type: pki.DNS, Value: host}
		case 1:
			return pki.Identifier{Type: pki.IP, Value: rapid.SampledFrom([]string{"10.1.0.1", "10.2.0.1", "192.0.2.1"}).Draw(t, "ip")}
		case 2:
			return pki.Identifier{Type: pki.Email, Value: "ann@" + host}
		default:
			return pki.Identifier{Type: pki.URI, Value: "spiffe://" + host + "/x"}
		}
	})
}

// TestX9_AgreesWithX509 draws constraints and names and compares the verdict
// with the standard library's, in the forms that it knows.
func TestX9_AgreesWithX509(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		nc := pki.NameConstraints{
			Permitted: rapid.SliceOfN(genSubtree(), 0, 3).Draw(rt, "permitted"),
			Excluded:  rapid.SliceOfN(genSubtree(), 0, 2).Draw(rt, "excluded"),
		}
		if len(nc.Permitted)+len(nc.Excluded) == 0 {
			return
		}
		value, err := nc.Marshal()
		if err != nil {
			rt.Fatal(err)
		}
		chain := withConstraints(t, value)
		c := leaf(func(c *Child) { c.Names = rapid.SliceOfN(genName(), 1, 3).Draw(rt, "names") })
		if hostTakenForDomain(&nc, c.Names) {
			return
		}
		end := certificateOf(t, c, chain[0])
		roots := x509.NewCertPool()
		roots.AddCert(chain[0])
		_, verifyErr := end.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err := Check(chain, c); (err == nil) != (verifyErr == nil) {
			rt.Fatalf("we say %v, the standard library says %v", err, verifyErr)
		}
	})
}

// hostTakenForDomain reports whether a URI or email constraint without a leading
// dot, which names one host (RFC 5280, section 4.2.1.10), meets a name on a host
// below it: the standard library then takes the constraint for a whole domain.
func hostTakenForDomain(nc *pki.NameConstraints, names []pki.Identifier) bool {
	for _, tree := range append(slices.Clone(nc.Permitted), nc.Excluded...) {
		for _, id := range names {
			if tree.Type == id.Type && !strings.HasPrefix(tree.Value, ".") && strings.HasSuffix(hostOf(id), "."+tree.Value) {
				return true
			}
		}
	}
	return false
}

// hostOf returns the host of a URI or an email address, "" of other names.
func hostOf(id pki.Identifier) string {
	switch id.Type {
	case pki.URI:
		if u, err := url.Parse(id.Value); err == nil {
			return u.Hostname()
		}
	case pki.Email:
		_, host, _ := strings.Cut(id.Value, "@")
		return host
	}
	return ""
}

// TestX9_Laws draws names and checks what must hold whatever they are.
func TestX9_Laws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		id := genName().Draw(rt, "name")
		tree := genSubtree().Draw(rt, "tree")
		inside := violates(&pki.NameConstraints{Permitted: []pki.Subtree{tree}}, id) == ""
		outside := violates(&pki.NameConstraints{Excluded: []pki.Subtree{tree}}, id) == ""
		both := violates(&pki.NameConstraints{Permitted: []pki.Subtree{tree}, Excluded: []pki.Subtree{tree}}, id) == ""
		if tree.Type != id.Type && !(inside && outside && both) {
			rt.Fatalf("%v speaks about %v", tree, id)
		}
		if tree.Type == id.Type && (inside == outside || both) {
			rt.Fatalf("%v and %v: permitted %v, excluded %v, both %v", tree, id, inside, !outside, both)
		}
	})
}

// TestFR17_ANameIsRefusedOnce, also if it is the common name too.
func TestFR17_ANameIsRefusedOnce(t *testing.T) {
	t.Parallel()
	err := CheckNames(constrained(t, "dns=in.example", ""), named("CN=a.example.com", "dns=a.example.com"))
	if f := fault.Of(err); f == nil || len(f.Sub) != 1 || f.Identifier.Value != "a.example.com" {
		t.Errorf("%+v", f)
	}
}
