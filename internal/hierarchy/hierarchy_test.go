package hierarchy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/test/need"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// key signs for every CA in these tests; names tell them apart.
var key = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

// ca describes a CA to make: limit -1 is no path length.
type ca struct {
	limit  int
	change func(*x509.Certificate)
}

// sign makes a certificate under parent, or a root where parent is nil.
func sign(t testing.TB, template, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	return pkitest.Certify(t, template, parent, key().Public(), key())
}

// build makes a chain from the root down and returns it issuer first. Each CA
// ends a day before the one above.
func build(t testing.TB, down ...ca) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	var parent *x509.Certificate
	for i, d := range down {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: fmt.Sprintf("CA %d", i)},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, -i),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: d.limit, MaxPathLenZero: d.limit == 0,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if d.change != nil {
			d.change(template)
		}
		parent = sign(t, template, parent)
		chain = append([]*x509.Certificate{parent}, chain...)
	}
	return chain
}

// limits is a chain with the given path lengths and nothing special.
func limits(t testing.TB, down ...int) []*x509.Certificate {
	t.Helper()
	cas := make([]ca, len(down))
	for i, l := range down {
		cas[i].limit = l
	}
	return build(t, cas...)
}

// leaf is an end entity that no law objects to.
func leaf(change ...func(*Child)) Child {
	c := Child{
		MaxPathLen: -1, NotBefore: now, NotAfter: now.AddDate(0, 3, 0), RawSubject: []byte{0x30, 0},
		EKU: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// sub is a CA with a path length that no other law objects to.
func sub(limit int) Child {
	return leaf(func(c *Child) { c.CA, c.MaxPathLen, c.EKU, c.RawSubject = true, limit, nil, subject("CN=Sub") })
}

func subject(s string) []byte {
	n, err := pki.ParseName(s)
	if err != nil {
		panic(err)
	}
	der, err := n.DER()
	if err != nil {
		panic(err)
	}
	return der
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).Reason
}

func TestG2_37_PathLengthParentByChild(t *testing.T) {
	t.Parallel()
	for parent := -1; parent <= 3; parent++ {
		chain := limits(t, parent)
		for child := -1; child <= 3; child++ {
			want := "path_length"
			if parent == -1 || child >= 0 && child < parent {
				want = ""
			}
			if got := reason(Check(chain, sub(child))); got != want {
				t.Errorf("path length %d under %d: %q, want %q", child, parent, got, want)
			}
		}
		if err := Check(chain, leaf()); err != nil { // G2-32
			t.Errorf("a leaf under path length %d: %v", parent, err)
		}
	}
}

func TestG2_33_G2_34_PathLengthOverLevels(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		down []int
		c    Child
		want string
	}{
		{[]int{-1, 2, 1}, sub(0), ""},
		{[]int{-1, 2, 1, 0}, sub(0), "path_length"},
		{[]int{-1, 2, 1, 0}, leaf(), ""},
		{[]int{-1, 2, 1}, sub(1), "path_length"},
		{[]int{2, -1}, sub(0), ""}, // an imported chain that lost its limit on the way
		{[]int{2, -1}, sub(1), "path_length"},
		{[]int{1, -1}, sub(0), "path_length"},
		{[]int{1, -1}, leaf(), ""},
		{[]int{0, -1}, leaf(), "path_length"},
		{[]int{3, -1, -1}, sub(1), "path_length"},
		{[]int{3, -1, -1}, sub(0), ""},
	} {
		if got := reason(Check(limits(t, tc.down...), tc.c)); got != tc.want {
			t.Errorf("CA %v path length %d under %v: %q, want %q", tc.c.CA, tc.c.MaxPathLen, tc.down, got, tc.want)
		}
	}
}

func TestG2_38_Depth(t *testing.T) {
	t.Parallel()
	five := limits(t, -1, -1, -1, -1, -1)
	if err := Check(five[1:], sub(-1)); err != nil {
		t.Errorf("the fifth CA: %v", err)
	}
	if err := Check(five, leaf()); err != nil {
		t.Errorf("a leaf under the fifth CA: %v", err)
	}
	if got := reason(Check(five, sub(-1))); got != "max_depth" {
		t.Errorf("the sixth CA: %q", got)
	}
	if err := Check(nil, leaf()); err == nil {
		t.Error("no chain at all was accepted")
	}
}

func TestX3_ValidityNesting(t *testing.T) {
	t.Parallel()
	chain := limits(t, -1, 0)
	end := chain[0].NotAfter
	for name, tc := range map[string]struct {
		c    Child
		want string
	}{
		"leaf ends with its issuer":   {leaf(func(c *Child) { c.NotAfter = end }), ""},
		"leaf a second longer":        {leaf(func(c *Child) { c.NotAfter = end.Add(time.Second) }), "validity_nesting"},
		"leaf begins with its issuer": {leaf(func(c *Child) { c.NotBefore = chain[0].NotBefore }), ""},
		"leaf a second earlier":       {leaf(func(c *Child) { c.NotBefore = chain[0].NotBefore.Add(-time.Second) }), "validity_nesting"},
		"backwards":                   {leaf(func(c *Child) { c.NotAfter = c.NotBefore }), "validity_nesting"},
	} {
		if got := reason(Check(chain, tc.c)); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	root := chain[1:]
	for d, want := range map[time.Duration]string{-time.Second: "", 0: "validity_nesting", time.Second: "validity_nesting"} {
		c := sub(-1)
		c.NotAfter = root[0].NotAfter.Add(d)
		if got := reason(Check(root, c)); got != want {
			t.Errorf("a CA that ends %s after its issuer: %q, want %q", d, got, want)
		}
	}
}

func TestX8_UsageNesting(t *testing.T) {
	t.Parallel()
	with := func(u ...x509.ExtKeyUsage) ca {
		return ca{-1, func(c *x509.Certificate) { c.ExtKeyUsage = u }}
	}
	own := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 7}
	ownCA := ca{-1, func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{own} }}
	server := leaf()
	none := leaf(func(c *Child) { c.EKU = nil })
	private := leaf(func(c *Child) { c.EKU = []asn1.ObjectIdentifier{own} })
	for _, tc := range []struct {
		name  string
		chain []*x509.Certificate
		c     Child
		want  string
	}{
		{"open", limits(t, -1, -1), server, ""},
		{"listed", build(t, ca{limit: -1}, with(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning)), server, ""},
		{"not listed", build(t, ca{limit: -1}, with(x509.ExtKeyUsageClientAuth)), server, "eku_nesting"},
		{"not listed two levels up", build(t, with(x509.ExtKeyUsageClientAuth), ca{limit: -1}), server, "eku_nesting"},
		{"any", build(t, ca{limit: -1}, with(x509.ExtKeyUsageAny)), server, ""},
		{"none under some", build(t, ca{limit: -1}, with(x509.ExtKeyUsageServerAuth)), none, "eku_nesting"},
		{"none under none", limits(t, -1), none, ""},
		{"private OID", build(t, ca{limit: -1}, ownCA), private, ""},
		{"private OID, other leaf", build(t, ca{limit: -1}, ownCA), server, "eku_nesting"},
	} {
		if got := reason(Check(tc.chain, tc.c)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// openssl verifies a leaf under a chain and reports the first error line.
func openssl(t *testing.T, chain []*x509.Certificate, end *x509.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, certs ...*x509.Certificate) string {
		var ders [][]byte
		for _, c := range certs {
			ders = append(ders, c.Raw)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pki.EncodeChain(ders...), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{"verify", "-attime", fmt.Sprint(now.Unix()), "-CAfile", write("root.pem", chain[len(chain)-1])}
	if len(chain) > 1 {
		args = append(args, "-untrusted", write("sub.pem", chain[:len(chain)-1]...))
	}
	out, err := exec.Command("openssl", append(args, write("leaf.pem", end))...).CombinedOutput()
	if err == nil {
		return ""
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.HasPrefix(line, "error ") {
			return line
		}
	}
	return string(out)
}

// certificateOf makes the certificate that the child describes, laws or not.
func certificateOf(t *testing.T, c Child, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(99), RawSubject: c.RawSubject, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		UnknownExtKeyUsage: c.EKU, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if c.CA {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.MaxPathLen, template.MaxPathLenZero = c.MaxPathLen, c.MaxPathLen == 0
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if len(c.Names) > 0 {
		value, err := pki.MarshalSAN(c.Names)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: pki.OIDSubjectAltName, Critical: len(c.RawSubject) == 2, Value: value}}
	}
	return sign(t, template, parent)
}

func needOpenSSL(t *testing.T) {
	t.Helper()
	need.Program(t, "openssl")
}

// TestG2_37_OpenSSL holds the table of path lengths against openssl: what we
// allow must verify, and what only we refuse is the known surplus.
func TestG2_37_OpenSSL(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	for parent := -1; parent <= 2; parent++ {
		chain := limits(t, -1, parent)
		for child := -1; child <= 2; child++ {
			middle := sub(child)
			err := Check(chain, middle)
			below := append([]*x509.Certificate{certificateOf(t, middle, chain[0])}, chain...)
			end := leaf()
			end.Names = []pki.Identifier{{Type: pki.DNS, Value: "a.example.com"}}
			verdict := openssl(t, below, certificateOf(t, end, below[0]))
			if err == nil && verdict != "" {
				t.Errorf("%d under %d: allowed here, but openssl says %s", child, parent, verdict)
			}
			if parent == 0 && (err == nil || !strings.Contains(verdict, "path length")) {
				t.Errorf("%d under %d: %v here, %q there", child, parent, err, verdict)
			}
		}
	}
}
