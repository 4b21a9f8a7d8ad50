package issuer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/need"
)

// plain hands over n entries with a date and a reason each.
func plain(n int) Entries { return entriesOf(n, false) }

// inOrder is plain with invalidity dates, which the standard library puts before
// the reason.
func inOrder(n int) Entries { return entriesOf(n, true) }

func entriesOf(n int, invalidity bool) Entries {
	since := epoch.Add(-time.Hour)
	reasons := []pki.Reason{pki.Unspecified, pki.KeyCompromise, pki.Superseded, pki.CertificateHold}
	return func(each func(Revoked) error) error {
		for i := range n {
			e := Revoked{Serial: pki.Serial(fmt.Sprintf("7f%038x", i)), At: epoch.Add(time.Duration(i) * time.Second), Reason: reasons[i%4]}
			if invalidity && i%4 == 1 {
				e.InvalidityAt = &since
			}
			if i == 0 {
				e.Serial = "80" // needs a zero octet in front
			}
			if err := each(e); err != nil {
				return err
			}
		}
		return nil
	}
}

func written(t *testing.T, i *Issuer, crl CRL, entries Entries) []byte {
	t.Helper()
	dir := t.TempDir()
	s, err := i.WriteCRL(t.Context(), dir, crl, entries)
	if err != nil {
		t.Fatal(err)
	}
	der, err := io.ReadAll(s.Reader())
	if err != nil || int64(len(der)) != s.Size {
		t.Fatalf("%d octets, want %d: %v", len(der), s.Size, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("the temporary file has a name: %v", left)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return der
}

// The streaming encoder signs the octets that the standard library signs, for
// lists that take one, two, three and four octets of length.
func TestCRL_C1_C2_C13_SameOctetsAsTheStandardLibrary(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	for _, n := range []int{0, 1, 2, 5, 300, 5000} {
		list := &x509.RevocationList{Number: big.NewInt(0x1000), ThisUpdate: epoch, NextUpdate: epoch.AddDate(30, 0, 0)}
		err := plain(n)(func(e Revoked) error {
			x := x509.RevocationListEntry{SerialNumber: e.Serial.Big(), RevocationTime: e.At, ReasonCode: int(e.Reason)}
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want, err := x509.CreateRevocationList(rand.Reader, list, ca.Certificate(), fixedKey(t, elliptic.P256(), 2))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseRevocationList(want)
		if err != nil {
			t.Fatal(err)
		}
		der := written(t, ca, CRL{Number: list.Number, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate}, plain(n))
		got, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.RawTBSRevocationList, parsed.RawTBSRevocationList) {
			t.Errorf("%d entries: not the octets of the standard library", n)
		}
		if err := got.CheckSignatureFrom(ca.Certificate()); err != nil {
			t.Errorf("%d entries: %v", n, err)
		}
	}
}

func TestGoldenCRLExtensions(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	base := CRL{Number: big.NewInt(0x1001), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 7), NextPublish: epoch.AddDate(0, 0, 1)}
	shard, delta, full := base, base, base
	shard.Point = testLocations.List(7)
	delta.Base = big.NewInt(0x1000)
	full.Freshest = testLocations.Delta()
	for name, crl := range map[string]CRL{"crl-shard": shard, "crl-delta": delta, "crl-freshest": full} {
		der := written(t, ca, crl, func(each func(Revoked) error) error {
			if crl.Base == nil {
				return nil
			}
			return each(Revoked{Serial: fixedSerial(0x22), At: epoch, Reason: pki.RemoveFromCRL})
		})
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, list.RawTBSRevocationList, nil)
	}
}

// Ed25519 signs the message itself, which is mapped from the file.
func TestCRL_C13_Ed25519SignsTheFile(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, _ := tree(t, key, newECKey(t, elliptic.P256()))
	der := written(t, root, CRL{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 7)}, inOrder(30_000))
	list, err := x509.ParseRevocationList(der)
	if err != nil || len(list.RevokedCertificateEntries) != 30_000 {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(root.Certificate()); err != nil {
		t.Error(err)
	}
}

func TestCRL_C1_C2_WriteRefuses(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	one := func(entries ...Revoked) Entries {
		return func(each func(Revoked) error) error {
			for _, e := range entries {
				if err := each(e); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, tt := range map[string]struct {
		edit    func(*CRL)
		entries Entries
	}{
		"out of order":           {nil, one(Revoked{Serial: "0b", At: epoch}, Revoked{Serial: "0a", At: epoch})},
		"twice":                  {nil, one(Revoked{Serial: "0a", At: epoch}, Revoked{Serial: "000a", At: epoch})},
		"not hexadecimal":        {nil, one(Revoked{Serial: "xy", At: epoch})},
		"zero":                   {nil, one(Revoked{Serial: "00", At: epoch})},
		"21 octets":              {nil, one(Revoked{Serial: pki.Serial(strings.Repeat("7f", 21)), At: epoch})},
		"reason 7":               {nil, one(Revoked{Serial: "0a", At: epoch, Reason: 7})},
		"removeFromCRL":          {nil, one(Revoked{Serial: "0a", At: epoch, Reason: pki.RemoveFromCRL})},
		"entries fail":           {nil, func(func(Revoked) error) error { return errors.New("the store is away") }},
		"base not below":         {func(c *CRL) { c.Base = c.Number }, one()},
		"delta with freshestCRL": {func(c *CRL) { c.Base, c.Freshest = big.NewInt(0), testLocations.Delta() }, one()},
		"https point":            {func(c *CRL) { c.Point = "https://ca.test/1.crl" }, one()},
	} {
		crl := CRL{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 1)}
		if tt.edit != nil {
			tt.edit(&crl)
		}
		if _, err := ca.WriteCRL(t.Context(), t.TempDir(), crl, tt.entries); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCRL_C4_ShardIsFixedByTheSerial(t *testing.T) {
	t.Parallel()
	l := Locations{CRL: "http://ca.test/crl/web-1.crl", Shards: 16}
	if got := l.Shard("0123"); got != 0x123%16+1 || l.List(got) != "http://ca.test/crl/web-1/4.crl" || l.Delta() != "http://ca.test/crl/web-1-delta.crl" {
		t.Errorf("shard %d at %s, delta %s", got, l.List(got), l.Delta())
	}
	if l.Shards = 0; l.Shard("0123") != 0 || l.List(0) != l.CRL {
		t.Error("without shards, certificates are on the full list")
	}
}

// openssl reads every kind of list.
func TestCRL_OpenSSLReadsAll(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl")
	_, ca := fixedTree(t)
	base := CRL{Number: big.NewInt(0x1001), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 7), NextPublish: epoch.AddDate(0, 0, 1)}
	shard, delta, full := base, base, base
	shard.Point, delta.Base, full.Freshest = testLocations.List(7), big.NewInt(0x1000), testLocations.Delta()
	for want, crl := range map[string]CRL{"Issuing Distribution Point: critical": shard, "Delta CRL Indicator: critical": delta, "Freshest CRL": full} {
		file := filepath.Join(t.TempDir(), "list.crl")
		if err := os.WriteFile(file, written(t, ca, crl, inOrder(4)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(openssl, "crl", "-inform", "DER", "-in", file, "-noout", "-text").CombinedOutput()
		for _, text := range []string{want, "Key Compromise", "Invalidity Date", "Certificate Hold", "CRL Number"} {
			if err != nil || !bytes.Contains(out, []byte(text)) {
				t.Errorf("openssl does not show %q: %v\n%s", text, err, out)
			}
		}
	}
}
