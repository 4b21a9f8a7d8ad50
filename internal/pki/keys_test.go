package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// rsaOf makes a public key with modulus p·q.
func rsaOf(p, q *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537} }

func prime(t testing.TB, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func nextPrime(p *big.Int) *big.Int {
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(8) {
		q.Add(q, big.NewInt(2))
	}
	return q
}

// roca builds a modulus with the fingerprint of CVE-2017-15361: modulo each
// small prime it is a power of 65537. 65537 itself raised is the simplest one.
func roca(bits int) *rsa.PublicKey {
	n := big.NewInt(1)
	for n.BitLen() < bits {
		n.Mul(n, big.NewInt(65537))
	}
	return &rsa.PublicKey{N: n, E: 65537}
}

func TestX13_CheckKey(t *testing.T) {
	t.Parallel()
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := prime(t, 1024)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	off := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)} //nolint:staticcheck // a point off the curve is wanted
	exponent := func(e int) *rsa.PublicKey { return &rsa.PublicKey{N: good.N, E: e} }
	leaf := DefaultLeafKeys()
	for name, tc := range map[string]struct {
		pub    crypto.PublicKey
		policy KeyPolicy
		reason string
	}{
		"P-256":             {newKey(t).Public(), leaf, ""},
		"P-384":             {p384.Public(), leaf, ""},
		"RSA 2048":          {good.Public(), leaf, ""},
		"ed25519 account":   {ed, AccountKeys(), ""},
		"ed25519 leaf":      {ed, leaf, "key_type"},
		"short ed25519":     {ed[:5], AccountKeys(), "key_invalid"},
		"P-224":             {p224.Public(), AccountKeys(), "key_type"},
		"off the curve":     {off, leaf, "key_invalid"},
		"no curve":          {&ecdsa.PublicKey{}, leaf, "key_type"},
		"nothing":           {nil, leaf, "key_type"},
		"by value":          {*good.Public().(*rsa.PublicKey), leaf, "key_type"},
		"no RSA":            {good.Public(), KeyPolicy{}, "key_type"},
		"no modulus":        {&rsa.PublicKey{E: 65537}, leaf, "key_invalid"},
		"1024 bits":         {rsaOf(prime(t, 512), prime(t, 512)), leaf, "key_size"},
		"too long":          {good.Public(), KeyPolicy{RSAMin: 1024, RSAMax: 1536}, "key_size"},
		"2049 bits":         {&rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Set(good.N), 2048, 1), E: 65537}, leaf, "key_size"},
		"exponent 3":        {exponent(3), leaf, "key_exponent"},
		"exponent even":     {exponent(65538), leaf, "key_exponent"},
		"exponent larger":   {exponent(65539), leaf, ""},
		"even modulus":      {&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}, leaf, "key_weak"},
		"small factor":      {smallFactor(t), leaf, "key_weak"},
		"neighbour primes":  {rsaOf(p, nextPrime(p)), leaf, "key_weak"},
		"square":            {rsaOf(p, p), leaf, "key_weak"},
		"not quite so near": {near(t, p), leaf, "key_weak"},
	} {
		err := CheckKey(tc.pub, tc.policy)
		if (err == nil) != (tc.reason == "") || err != nil && (!fault.Is(err, fault.BadPublicKey) || fault.Of(err).Reason != tc.reason) {
			t.Errorf("%s: %v, want %q", name, err, tc.reason)
		}
	}
	weak := roca(2048)
	if weak.N.BitLen()%8 == 0 {
		if err := CheckKey(weak, leaf); err == nil {
			t.Error("a key with the ROCA fingerprint passed")
		}
	}
}

// smallFactor is a number of 2048 bits that 751 divides.
func smallFactor(t testing.TB) *rsa.PublicKey {
	for {
		if k := rsaOf(big.NewInt(751), prime(t, 2038)); k.N.BitLen() == 2048 {
			return k
		}
	}
}

// near is a product that Fermat finds after some rounds, not the first one.
func near(t testing.TB, p *big.Int) *rsa.PublicKey {
	t.Helper()
	// With q−p about 2·√(2·rounds·√n), the search takes about that many rounds.
	d := new(big.Int).Sqrt(p)
	d.Mul(d, big.NewInt(16))
	q := nextPrime(new(big.Int).Add(p, d.SetBit(d, 0, 0)))
	k := rsaOf(p, q)
	if closePrimes(k.N, 1) || !closePrimes(k.N, fermatRounds) {
		t.Fatal("the example is not what it should be")
	}
	return k
}

func TestKeyAlgorithm(t *testing.T) {
	t.Parallel()
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	for want, pub := range map[string]crypto.PublicKey{
		"ec-p256": newKey(t).Public(), "ed25519": ed, "rsa-2048": rsaOf(prime(t, 1024), prime(t, 1024)), "unknown": "x",
	} {
		if got := KeyAlgorithm(pub); got != want {
			t.Errorf("%T: %s, want %s", pub, got, want)
		}
	}
	if KeyAlgorithm(&ecdsa.PublicKey{}) != "unknown" || KeyAlgorithm(&rsa.PublicKey{}) != "unknown" {
		t.Error("keys without content are not unknown")
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := EncodeChain(der, der)
	chain, err := ParseChain(append([]byte("subject: x\n"), text...))
	if err != nil || len(chain) != 2 {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}
	if len(Fingerprint(der)) != 64 {
		t.Error("fingerprint")
	}
	for name, in := range map[string]string{
		"nothing":           "",
		"no PEM":            "hello",
		"tail":              string(text) + "tail",
		"a key":             string(text) + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"not a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if _, err := ParseChain([]byte(in)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestEKUNames(t *testing.T) {
	t.Parallel()
	for _, n := range EKUNames() {
		oid, err := ParseEKU(n)
		if err != nil || EKUName(oid) != n {
			t.Errorf("%s: %v %v", n, oid, err)
		}
	}
	if oid, err := ParseEKU("1.2.3"); err != nil || EKUName(oid) != "1.2.3" {
		t.Errorf("%v %v", oid, err)
	}
	if _, err := ParseEKU("everything"); err == nil {
		t.Error("a name that nobody knows was taken")
	}
}

func TestNameConstraints(t *testing.T) {
	t.Parallel()
	nc := NameConstraints{
		Permitted: []Subtree{{DNS, "example.com"}, {DNS, ".a"}, {IP, "10.0.0.0/8"}, {IP, "2001:db8::/32"}, {DirName, "O=x,C=CH"}},
		Excluded:  []Subtree{{DNS, ""}, {Email, "a@b"}, {Email, ".b"}, {URI, "c"}, {IP, "0.0.0.0/0"}, {DirName, ""}},
	}
	der, err := nc.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseNameConstraints(der); err != nil || !reflect.DeepEqual(*back, nc) {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []NameConstraints{
		{}, {Permitted: []Subtree{{DNS, "*.x"}}}, {Permitted: []Subtree{{IP, "10.0.0.1/8"}}}, {Excluded: []Subtree{{Email, "@"}}},
		{Excluded: []Subtree{{URI, ""}}}, {Excluded: []Subtree{{UPN, "a@b"}}}, {Excluded: []Subtree{{OtherForm, "x"}}}, {Permitted: []Subtree{{DirName, "x"}}},
	} {
		if _, err := bad.Marshal(); err == nil {
			t.Errorf("%v was written", bad)
		}
	}
	for name, in := range map[string]string{
		"empty":      "\x30\x00",
		"empty list": "\x30\x02\xa0\x00",
		"trailing":   "\x30\x07\xa0\x05\x30\x03\x82\x01a\x00",
		"minimum":    "\x30\x0a\xa0\x08\x30\x06\x82\x01a\x80\x01\x01",
		"mask":       "\x30\x0e\xa0\x0c\x30\x0a\x87\x08\x0a\x00\x00\x00\xff\x00\xff\x00",
		"short IP":   "\x30\x0a\xa0\x08\x30\x06\x87\x04\x0a\x00\x00\x00",
		"bad DNS":    "\x30\x07\xa0\x05\x30\x03\x82\x01*",
		"beyond":     "\x30\x07\xa0\x05\x30\x03\x82\x01\xe4",
		"bad name":   "\x30\x08\xa0\x06\x30\x04\xa4\x02\x31\x00",
	} {
		if nc, err := ParseNameConstraints([]byte(in)); err == nil {
			t.Errorf("%s: %v", name, nc)
		}
	}
	other, err := ParseNameConstraints([]byte("\x30\x0a\xa0\x08\x30\x06\xa0\x04\x06\x02\x2a\x03"))
	if err != nil || other.Permitted[0] != (Subtree{OtherForm, "otherName 1.2.3"}) {
		t.Errorf("%v, %v", other, err)
	}
}

func FuzzParseNameConstraints(f *testing.F) {
	der, err := NameConstraints{Permitted: []Subtree{{DNS, "a"}, {IP, "10.0.0.0/8"}, {DirName, "O=x"}}, Excluded: []Subtree{{URI, ".b"}}}.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		nc, err := ParseNameConstraints(der)
		if err != nil {
			return
		}
		for _, s := range append(nc.Permitted, nc.Excluded...) {
			if s.Type == OtherForm {
				return
			}
		}
		again, err := nc.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseNameConstraints(again); err != nil || !reflect.DeepEqual(back, nc) {
			t.Fatalf("%v comes back as %v, %v", nc, back, err)
		}
	})
}

func BenchmarkCheckKey(b *testing.B) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for name, pub := range map[string]crypto.PublicKey{"ec-p256": newKey(b).Public(), "rsa-2048": r.Public()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := CheckKey(pub, DefaultLeafKeys()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
