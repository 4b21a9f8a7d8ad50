package ocsp

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	xocsp "golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/test/need"
)

// smallCA is a certificate to ask about; nothing is signed with its key.
func smallCA(t testing.TB) *x509.Certificate {
	t.Helper()
	key := newKey(t, "")
	template := &x509.Certificate{SerialNumber: big.NewInt(7), RawSubject: []byte{0x30, 0}, IsCA: true, BasicConstraintsValid: true}
	return issuancetest.Certify(t, template, template, key.Public(), key)
}

func extension(oid []byte, critical bool, value []byte) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oid) })
			if critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1OctetString(value)
		})
	}
}

func TestOCSP_O3_O4_RequestHashesAndNumber(t *testing.T) {
	t.Parallel()
	ca := smallCA(t)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, absent := range []bool{false, true} {
			r, err := ParseRequest(ask{ca: ca, hash: h, absent: absent, serials: []*big.Int{big.NewInt(0x80ff), big.NewInt(1)}}.der())
			if err != nil {
				t.Fatalf("%v, parameters absent %v: %v", h, absent, err)
			}
			if len(r.CertIDs) != 2 || r.CertIDs[0].Hash != h || r.CertIDs[0].Serial() != "80ff" || r.CertIDs[1].Serial() != "01" ||
				!bytes.Equal(r.CertIDs[0].NameHash, sum(h, ca.RawSubject)) || r.Nonce != nil {
				t.Errorf("%v: %+v", h, r)
			}
		}
	}
	var many []*big.Int
	for i := range MaxCertIDs + 1 {
		many = append(many, big.NewInt(int64(i+1)))
	}
	if _, err := ParseRequest(ask{ca: ca, serials: many[:MaxCertIDs]}.der()); err != nil {
		t.Errorf("%d certificates: %v", MaxCertIDs, err)
	}
	if _, err := ParseRequest(ask{ca: ca, serials: many}.der()); !errors.Is(err, errMalformed) {
		t.Errorf("%d certificates: %v", len(many), err)
	}
}

func TestOCSP_O7_NonceLengths(t *testing.T) {
	t.Parallel()
	ca := smallCA(t)
	for n, good := range map[int]bool{0: false, 1: true, 15: true, 16: true, 32: true, 33: true, 128: true, 129: false} {
		nonce := make([]byte, n)
		r, err := ParseRequest(ask{ca: ca, serials: []*big.Int{big.NewInt(1)}, nonce: nonce}.der())
		if (err == nil) != good || (good && !bytes.Equal(r.Nonce, nonce)) {
			t.Errorf("nonce of %d octets: %v", n, err)
		}
	}
	for name, q := range map[string]ask{
		"not wrapped":   {edit: extension(oidNonce, false, []byte("0123456789abcdef"))},
		"trailing data": {edit: extension(oidNonce, false, []byte{4, 1, 1, 0})},
		"twice":         {nonce: []byte("0123456789abcdef"), edit: extension(oidNonce, false, []byte{4, 1, 1})},
	} {
		q.ca, q.serials = ca, []*big.Int{big.NewInt(1)}
		if _, err := ParseRequest(q.der()); !errors.Is(err, errMalformed) {
			t.Errorf("nonce %s: %v", name, err)
		}
	}
}

func TestOCSP_O12_Extensions(t *testing.T) {
	t.Parallel()
	ca := smallCA(t)
	private := []byte{0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1}
	for name, c := range map[string]struct {
		oid      []byte
		critical bool
		good     bool
	}{
		"unknown":                       {private, false, true},
		"unknown and critical":          {private, true, false},
		"acceptable responses":          {oidAcceptable, true, true},
		"preferred signature algorithm": {oidPreferred, true, true},
	} {
		q := ask{ca: ca, serials: []*big.Int{big.NewInt(1)}, edit: extension(c.oid, c.critical, []byte{0x30, 0})}
		if _, err := ParseRequest(q.der()); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rewrap makes a request whose parts a test chooses.
func rewrap(version, requestor, list, extensions, signature []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, part := range [][]byte{version, requestor, list, extensions} {
				b.AddBytes(part)
			}
		})
		b.AddBytes(signature)
	})
	return b.BytesOrPanic()
}

func TestOCSP_O12_SignedAndNamedRequests(t *testing.T) {
	t.Parallel()
	ca := smallCA(t)
	var single cryptobyte.Builder
	single.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { ask{ca: ca}.certID(b, big.NewInt(9)) })
	})
	list := single.BytesOrPanic()
	v0, v1 := []byte{0xa0, 3, 2, 1, 0}, []byte{0xa0, 3, 2, 1, 1}
	name := []byte{0xa1, 5, 0x82, 3, 'a', '.', 'b'}
	signature := []byte{0xa0, 4, 0x30, 2, 5, 0}
	for what, c := range map[string]struct {
		der  []byte
		good bool
	}{
		"plain":                {rewrap(nil, nil, list, nil, nil), true},
		"version written":      {rewrap(v0, nil, list, nil, nil), true},
		"version 2":            {rewrap(v1, nil, list, nil, nil), false},
		"named":                {rewrap(nil, name, list, nil, nil), true},
		"signed":               {rewrap(nil, name, list, nil, signature), true},
		"empty list":           {rewrap(nil, nil, []byte{0x30, 0}, nil, nil), false},
		"no list":              {rewrap(nil, nil, nil, nil, nil), false},
		"trailing data":        {append(rewrap(nil, nil, list, nil, nil), 0), false},
		"cut off":              {rewrap(nil, nil, list, nil, nil)[:40], false},
		"extensions misplaced": {rewrap(nil, nil, list, []byte{0xa3, 2, 0x30, 0}, nil), false},
		"nothing":              {nil, false},
		"too large":            {make([]byte, MaxRequest+1), false},
	} {
		if _, err := ParseRequest(c.der); (err == nil) != c.good {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What two other programs make of a question, we read.
func TestRequestsOfOthers(t *testing.T) {
	t.Parallel()
	ca, dir := smallCA(t), t.TempDir()
	leaf := &x509.Certificate{Raw: ca.Raw, SerialNumber: ca.SerialNumber, RawSubject: ca.RawSubject, RawIssuer: ca.RawSubject}
	der, err := xocsp.CreateRequest(leaf, ca, &xocsp.RequestOptions{Hash: crypto.SHA384})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseRequest(der); err != nil || r.CertIDs[0].Hash != crypto.SHA384 {
		t.Errorf("x/crypto/ocsp: %+v, %v", r, err)
	}
	need.Program(t, "openssl")
	pem := writePEM(t, dir, "ca.pem", ca)
	out := filepath.Join(dir, "request")
	for _, hash := range []string{"-sha1", "-sha256", "-sha384", "-sha512"} {
		run(t, "openssl", "ocsp", hash, "-issuer", pem, "-serial", "0x1234", "-serial", "7", "-reqout", out)
		der, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseRequest(der)
		if err != nil || len(r.CertIDs) != 2 || r.CertIDs[0].Serial() != "1234" || len(r.Nonce) == 0 {
			t.Errorf("openssl %s: %+v, %v", hash, r, err)
		}
	}
}

func TestOCSP_O2_Paths(t *testing.T) {
	t.Parallel()
	der, err := hex.DecodeString("30fbeffbefbefb") // MPvv+++++w==
	if err != nil {
		t.Fatal(err)
	}
	slashes, err := base64.StdEncoding.DecodeString("MP//MP//MA==")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{
		"MPvv++++w==":                  nil, // another text
		"MPvv+++++w==":                 der,
		"/MPvv+++++w==":                der,
		"//MPvv+++++w==":               der,
		"%2FMPvv+++++w==":              der,
		"MPvv%2B%2B%2B%2B%2Bw%3D%3D":   der,
		"MPvv%2b%2b%2b%2b%2bw%3d%3d":   der,
		"MPvv%20%20%20%20%20w==":       der,
		"MPvv+%2B +%20w==":             der,
		"MPvv+++++w":                   der,
		"MPvv+++++w=":                  der,
		"MP//MP//MA==":                 slashes,
		"MP%2F%2FMP%2F%2FMA%3D%3D":     slashes,
		"MP%2f/MP/%2fMA":               slashes,
		"%4DP//MP//MA==":               slashes,
		"MP//%0AMP//MA==%0D%0A":        nil,
		"":                             nil,
		"/":                            nil,
		"=":                            nil,
		"M":                            nil,
		"MP%2":                         nil,
		"MP%zzMP":                      nil,
		"MP-_MP":                       nil,
		"MP=MP//":                      nil,
		strings.Repeat("A", maxPath+4): nil,
		"MP//MP//MA==?x=1":             nil, // the query is cut off before
	} {
		got, err := DecodePath(nil, path)
		if want == nil {
			if err == nil && (bytes.Equal(got, der) || path == "" || len(path) > maxPath) {
				t.Errorf("%.40q: %x", path, got)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %x, %v; want %x", path, got, err, want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	ca := smallCA(f)
	one := []*big.Int{big.NewInt(1)}
	f.Add(ask{ca: ca, serials: one}.der())
	f.Add(ask{ca: ca, serials: []*big.Int{big.NewInt(1), big.NewInt(-1)}, hash: crypto.SHA1, absent: true}.der())
	f.Add(ask{ca: ca, serials: one, nonce: make([]byte, 32), edit: extension(oidPreferred, true, []byte{0x30, 0})}.der())
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseRequest(der)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		if len(r.CertIDs) == 0 || len(r.CertIDs) > MaxCertIDs || len(r.Nonce) > maxNonce {
			t.Fatalf("beyond the limits: %+v", r)
		}
		for _, c := range r.CertIDs {
			checkOneForm(t, c)
		}
	})
}

func FuzzDecodePath(f *testing.F) {
	for _, s := range []string{"MPvv+++++w==", "//MP%2F%2FMA", "%2B+ %20", "MP%", "=", "A\x00B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		der, err := DecodePath(nil, path)
		if err != nil {
			return
		}
		// Whatever we understood, the plain encoding of it is understood as the same.
		if again, err := DecodePath(nil, base64.StdEncoding.EncodeToString(der)); len(der) > 0 && (err != nil || !bytes.Equal(again, der)) &&
			der[0] != 0xff { // an encoding that begins with slashes loses them
			if base64.StdEncoding.EncodeToString(der)[0] != '/' {
				t.Fatalf("%q gives %x, its encoding %x, %v", path, der, again, err)
			}
		}
	})
}

// checkOneForm holds what the cache rests on (FS3): a CertID whose hash is known
// has the one form that DER gives it, with NULL or without, and its octets read back.
func checkOneForm(t *testing.T, c CertID) {
	t.Helper()
	again, err := parseCertID(c.Raw)
	if err != nil || again.Serial() != c.Serial() || again.Hash != c.Hash {
		t.Fatalf("%x does not read back: %v", c.Raw, err)
	}
	for _, h := range hashOIDs {
		if h.hash != c.Hash {
			continue
		}
		null, absent := encodeCertID(h.oid, true, c), encodeCertID(h.oid, false, c)
		if !bytes.Equal(c.Raw, null) && !bytes.Equal(c.Raw, absent) {
			t.Fatalf("%x is another form of %x", c.Raw, null)
		}
	}
}

func encodeCertID(oid []byte, null bool, c CertID) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oid) })
			if null {
				b.AddASN1NULL()
			}
		})
		b.AddASN1OctetString(c.NameHash)
		b.AddASN1OctetString(c.KeyHash)
		b.AddASN1BigInt(new(big.Int).SetBytes(c.number))
	})
	return b.BytesOrPanic()
}
