package issuer

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/profile"
)

// badSigner is a CA key that misbehaves as its sign says.
type badSigner struct {
	crypto.Signer
	sign func(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (s badSigner) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(ctx, digest, opts)
}

// with returns a copy of an issuer with another signer for the same key.
func with(i *Issuer, s Signer) *Issuer {
	c := *i
	c.signer = s
	return &c
}

// A signer that fails, hangs or returns garbage yields no certificate, and the
// error says whether one may exist.
func TestX16_SignerFaults(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	good := ca.signer.(softSigner).Signer
	other := newECKey(t, elliptic.P256())
	leaf := leafTemplate(fixedKey(t, elliptic.P256(), 3).Public())
	for name, c := range map[string]struct {
		sign    func(context.Context, []byte, crypto.SignerOpts) ([]byte, error)
		certain bool
	}{
		"device error": {func(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
			return nil, errors.New("CKR_DEVICE_ERROR")
		}, false},
		"queue full": {func(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
			return nil, fault.Wrap(fault.Unavailable, fmt.Errorf("busy: %w", keys.ErrNotSigned), "busy").After(time.Second)
		}, true},
		"hangs": {func(ctx context.Context, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, false},
		"garbage": {func(context.Context, []byte, crypto.SignerOpts) ([]byte, error) { return []byte("garbage"), nil }, false},
		"nothing": {func(context.Context, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }, false},
		"another key": {func(_ context.Context, d []byte, o crypto.SignerOpts) ([]byte, error) {
			return other.Sign(rand.Reader, d, o)
		}, false},
		"another message": {func(_ context.Context, d []byte, o crypto.SignerOpts) ([]byte, error) {
			d = append([]byte(nil), d...)
			d[0] ^= 1
			return good.Sign(rand.Reader, d, o)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := with(ca, badSigner{good, c.sign})
			d, err := i.Draft(leaf, pki.NewSerial())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if name == "hangs" {
				time.AfterFunc(20*time.Millisecond, cancel)
			}
			defer cancel()
			der, err := i.Sign(ctx, d)
			if err == nil || der != nil || errors.Is(err, ErrUnsigned) != c.certain {
				t.Errorf("Sign: %v, certainly unsigned %v", err, errors.Is(err, ErrUnsigned))
			}
			if name == "queue full" && !fault.Is(err, fault.Unavailable) {
				t.Errorf("the fault of the key is lost: %v", err)
			}
			if name == "hangs" {
				return
			}
			crl := CRL{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 7)}
			if der, err := i.SignCRL(t.Context(), crl); err == nil || der != nil || errors.Is(err, ErrUnsigned) != c.certain {
				t.Errorf("SignCRL: %v", err)
			}
		})
	}
}

func TestSignTakesADraftOnce(t *testing.T) {
	t.Parallel()
	root, ca := fixedTree(t)
	leaf := leafTemplate(fixedKey(t, elliptic.P256(), 3).Public())
	d, err := ca.Draft(leaf, pki.NewSerial())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Sign(t.Context(), d); !errors.Is(err, ErrUnsigned) {
		t.Errorf("another issuer's draft: %v", err)
	}
	if _, err := ca.Sign(t.Context(), nil); !errors.Is(err, ErrUnsigned) {
		t.Errorf("no draft: %v", err)
	}
	if _, err := ca.Sign(t.Context(), &Draft{}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("a draft made by hand: %v", err)
	}
	d.TBS()[0] = 0 // a copy
	if _, err := ca.Sign(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Sign(t.Context(), d); err == nil || errors.Is(err, ErrUnsigned) {
		t.Errorf("second use: %v: want an error that does not say unsigned", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err = ca.Draft(leaf, pki.NewSerial()); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Sign(gone, d); !errors.Is(err, ErrUnsigned) {
		t.Errorf("cancelled before: %v", err)
	}
}

func TestDraftRefuses(t *testing.T) {
	t.Parallel()
	root, ca := fixedTree(t)
	key := fixedKey(t, elliptic.P256(), 3).Public()
	for _, c := range []struct {
		name   string
		issuer *Issuer
		serial pki.Serial
		edit   func(*profile.Template)
		want   string
	}{
		{"X1 zero", ca, "00", nil, "serial"},
		{"X1 none", ca, "", nil, "serial"},
		{"X1 short", ca, "01ffffff", nil, "serial"},
		{"X1 top bit", ca, pki.Serial(strings.Repeat("ff", 20)), nil, "serial"},
		{"X1 21 octets", ca, pki.Serial(strings.Repeat("11", 21)), nil, "serial"},
		{"X3 beyond the issuer", ca, "", func(p *profile.Template) { p.NotAfter = epoch.AddDate(10, 0, 0).Add(time.Second) }, "notAfter"},
		{"X3 before the issuer", ca, "", func(p *profile.Template) { p.NotBefore = epoch.Add(-time.Second) }, "notBefore"},
		{"X3 empty", ca, "", func(p *profile.Template) { p.NotAfter = p.NotBefore }, "notAfter is not after"},
		{"G1-16 CA as long as its issuer", root, "", func(p *profile.Template) {
			*p = *caTemplate(t, "CN=x,O=Example", key, 20, 0)
		}, "notAfter"},
		{"CA without a name", root, "", func(p *profile.Template) { *p = *caTemplate(t, "CN=x", key, 5, 0); p.RawSubject = nil }, "subject"},
		{"noRevAvail on a CA", root, "", func(p *profile.Template) { *p = *caTemplate(t, "CN=x", key, 5, 0); p.NoRevAvail = true }, "noRevAvail"},
		{"X11 key usage replaced", ca, "", func(p *profile.Template) {
			p.Extra = []pkix.Extension{{Id: oidKeyUsage, Value: []byte{3, 2, 2, 4}}}
		}, "2.5.29.15 is there already"},
		{"X11 key identifier replaced", ca, "", func(p *profile.Template) {
			p.Extra = []pkix.Extension{{Id: oidSubjectKeyID, Value: []byte{4, 1, 0}}}
		}, "is there already"},
		{"X11 copied twice", ca, "", func(p *profile.Template) {
			e := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}
			p.Extra = []pkix.Extension{e, e}
		}, "is there already"},
		{"no key", ca, "", func(p *profile.Template) { p.PublicKey = nil }, "public key"},
		{"bad SAN", ca, "", func(p *profile.Template) { p.Names[1].Value = "not an address" }, "subjectAltName"},
		{"X12 encipherment with EC", ca, "", func(p *profile.Template) { p.KeyUsage = x509.KeyUsageKeyEncipherment }, "linter"},
		{"X12 certSign without CA", ca, "", func(p *profile.Template) { p.KeyUsage = caUsage }, "linter"},
	} {
		p := leafTemplate(key)
		if c.edit != nil {
			c.edit(p)
			c.serial = pki.NewSerial()
		}
		_, err := c.issuer.Draft(p, c.serial)
		if !errors.Is(err, ErrUnsigned) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v: want %q", c.name, err, c.want)
		}
		if c.want == "linter" && (fault.Of(err).Kind != fault.BadCSR || fault.Of(err).Reason != "lint") {
			t.Errorf("%s: fault %v", c.name, fault.Of(err))
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	root, ca := fixedTree(t)
	leafKey := fixedKey(t, elliptic.P256(), 3)
	leaf := certify(t, ca, leafTemplate(leafKey.Public()), fixedSerial(0x13))
	chain := ca.Chain()
	for _, c := range []struct {
		name   string
		chain  []*x509.Certificate
		signer Signer
		loc    Locations
		want   string
	}{
		{"no chain", nil, ca.signer, Locations{}, "no certificate"},
		{"root", root.Chain(), root.signer, Locations{}, "self-signed"},
		{"another key", chain, softSigner{leafKey}, Locations{}, "not the one of the certificate"},
		{"leaf", append([]*x509.Certificate{leaf}, chain...), softSigner{leafKey}, Locations{}, "not a CA"},
		{"chain without root", chain[:1], ca.signer, Locations{}, "web-1"},
		{"chain in disorder", []*x509.Certificate{chain[0], chain[0], chain[1]}, ca.signer, Locations{}, "web-1"},
		{"X10 https", chain, ca.signer, Locations{CRL: "https://ca.test/x.crl"}, "want http"},
		{"relative", chain, ca.signer, Locations{OCSP: "/ocsp"}, "absolute"},
		{"not ASCII", chain, ca.signer, Locations{CAIssuers: "http://ca.test/ä"}, "ASCII"},
	} {
		if _, err := New("web-1", c.chain, c.signer, c.loc); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want %q", c.name, err, c.want)
		}
	}
	if i, err := New("web-1", chain, ca.signer, Locations{}); err != nil || i.ID() != "web-1" || i.Locations() != (Locations{}) {
		t.Errorf("no locations: %v", err)
	}
}

func TestG1_50_KeySizes(t *testing.T) {
	t.Parallel()
	short, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SelfSigned("root", nameDER(t, "CN=x"), softSigner{short}); err == nil || !strings.Contains(err.Error(), "3072") {
		t.Errorf("RSA 2048: %v", err)
	}
	if _, err := SelfSigned("root", nameDER(t, "CN=x"), softSigner{newECKey(t, elliptic.P224())}); err == nil {
		t.Error("P-224 was accepted")
	}
}

func TestSelfSignedSignsOnlyItself(t *testing.T) {
	t.Parallel()
	key := newECKey(t, elliptic.P384())
	self, err := SelfSigned("root", nameDER(t, "CN=Root"), softSigner{key})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*profile.Template{
		"leaf":         leafTemplate(key.Public()),
		"another name": caTemplate(t, "CN=Toor", key.Public(), 20, -1),
		"another key":  caTemplate(t, "CN=Root", newECKey(t, elliptic.P384()).Public(), 20, -1),
	} {
		if _, err := self.Draft(p, pki.NewSerial()); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := self.SignCRL(t.Context(), CRL{}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("CRL: %v", err)
	}
}

// A cross-signed CA keeps the key identifier that its certificates elsewhere have.
func TestX6_CrossSignedKeepsItsKeyIdentifier(t *testing.T) {
	t.Parallel()
	root, _ := fixedTree(t)
	p := caTemplate(t, "CN=Foreign,O=Example", newECKey(t, elliptic.P256()).Public(), 5, 0)
	p.Extra = []pkix.Extension{{Id: oidSubjectKeyID, Value: []byte{4, 2, 0xca, 0xfe}}}
	c := certify(t, root, p, pki.NewSerial())
	if fmt.Sprintf("%x", c.SubjectKeyId) != "cafe" {
		t.Errorf("SKI %x", c.SubjectKeyId)
	}
}

// Every type of CA key signs what the standard library verifies (rule X2).
func TestX2_CAKeys(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  crypto.Signer
		want x509.SignatureAlgorithm
	}{
		"P-256":    {newECKey(t, elliptic.P256()), x509.ECDSAWithSHA256},
		"P-384":    {newECKey(t, elliptic.P384()), x509.ECDSAWithSHA384},
		"P-521":    {newECKey(t, elliptic.P521()), x509.ECDSAWithSHA512},
		"RSA 3072": {rsaKey, x509.SHA256WithRSA},
		"Ed25519":  {ed, x509.PureEd25519},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, ca := tree(t, c.key, newECKey(t, elliptic.P256()))
			if got := ca.Certificate().SignatureAlgorithm; got != c.want {
				t.Errorf("algorithm %v", got)
			}
			if err := ca.Certificate().CheckSignatureFrom(root.Certificate()); err != nil {
				t.Error(err)
			}
			der, err := root.SignCRL(t.Context(), CRL{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 180)})
			if err != nil {
				t.Fatal(err)
			}
			crl, err := x509.ParseRevocationList(der)
			if err != nil || crl.CheckSignatureFrom(root.Certificate()) != nil || crl.SignatureAlgorithm != c.want {
				t.Errorf("CRL: %v", err)
			}
		})
	}
}

func TestC1_C2_SignCRLRefuses(t *testing.T) {
	t.Parallel()
	root, _ := fixedTree(t)
	for name, edit := range map[string]func(*CRL){
		"no number":       func(c *CRL) { c.Number = nil },
		"negative number": func(c *CRL) { c.Number = big.NewInt(-1) },
		"21 octets":       func(c *CRL) { c.Number = new(big.Int).Lsh(big.NewInt(1), 160) },
		"no nextUpdate":   func(c *CRL) { c.NextUpdate = c.ThisUpdate },
		"reason 7":        func(c *CRL) { c.Entries[0].Reason = 7 },
		"removeFromCRL":   func(c *CRL) { c.Entries[0].Reason = pki.RemoveFromCRL },
		"no serial":       func(c *CRL) { c.Entries[0].Serial = "" },
		"twice":           func(c *CRL) { c.Entries = append(c.Entries, c.Entries[0]) },
		"in the future":   func(c *CRL) { c.Entries[0].At = epoch.Add(time.Hour) },
	} {
		c := CRL{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 1), Entries: []Revoked{{Serial: "0a", At: epoch}}}
		edit(&c)
		if _, err := root.SignCRL(t.Context(), c); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestC1_EmptyListHasNoEntries(t *testing.T) {
	t.Parallel()
	root, _ := fixedTree(t)
	der, err := root.SignCRL(t.Context(), CRL{Number: big.NewInt(7), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 180), OnlyCA: true})
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		TBS struct {
			Version    int
			Algorithm  pkix.AlgorithmIdentifier
			Issuer     asn1.RawValue
			ThisUpdate time.Time
			NextUpdate time.Time
			Extensions []pkix.Extension `asn1:"explicit,tag:0"` // nothing may stand before it
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	if string(list.TBS.Issuer.FullBytes) != string(root.Certificate().RawSubject) || list.TBS.Version != 1 || len(list.TBS.Extensions) != 3 {
		t.Errorf("%+v", list.TBS)
	}
}

func TestConcurrentIssue(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	leaf := leafTemplate(fixedKey(t, elliptic.P256(), 3).Public())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				d, err := ca.Draft(leaf, pki.NewSerial())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := ca.Sign(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Must-staple without anything to staple would take a server off the air.
func TestOCSP_O15_MustStapleNeedsAnOCSPLocation(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	dark, err := New("web-1", ca.Chain(), ca.signer, Locations{CRL: testLocations.CRL})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		issuer *Issuer
		edit   func(*profile.Template)
	}{
		"issuer without OCSP": {dark, func(*profile.Template) {}},
		"no revocation":       {ca, func(p *profile.Template) { p.NoRevAvail, p.NotAfter = true, epoch.AddDate(0, 0, 7) }},
		"responder":           {ca, func(p *profile.Template) { p.OCSPNoCheck = true }},
	} {
		p := leafTemplate(fixedKey(t, elliptic.P256(), 3).Public())
		p.MustStaple = true
		c.edit(p)
		if _, err := c.issuer.Draft(p, fixedSerial(0x13)); !fault.Is(err, fault.BadCSR) || fault.Of(err).Reason != "must_staple" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A CA with a key that is too short for a new one still publishes its lists; what
// else it may sign is not decided here.
func TestFR19_ShortKeysSignLists(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), RawSubject: nameDER(t, "CN=Old Root"), IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert := pkitest.Certify(t, template, template, key.Public(), key)
	i, err := NewOffline("old", []*x509.Certificate{cert}, softSigner{key}, Locations{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := i.SignCRL(t.Context(), CRL{Number: big.NewInt(7), ThisUpdate: now, NextUpdate: now.AddDate(0, 1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil || list.CheckSignatureFrom(cert) != nil {
		t.Errorf("the list: %v", err)
	}
}
