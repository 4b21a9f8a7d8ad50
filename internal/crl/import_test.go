package crl_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// rootList signs a list of the offline root.
func (c *ca) rootList(edit func(*x509.RevocationList), by ...crypto.Signer) []byte {
	c.t.Helper()
	now := c.clock.now()
	l := &x509.RevocationList{Number: big.NewInt(10), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.AddDate(0, 6, 0)}
	if edit != nil {
		edit(l)
	}
	key := crypto.Signer(c.rootKey)
	if len(by) > 0 {
		key = by[0]
	}
	parent := *c.root
	parent.PublicKey = key.Public()
	der, err := x509.CreateRevocationList(rand.Reader, l, &parent, key)
	check(c.t, err)
	return der
}

func (n *node) take(t *testing.T, der []byte) error {
	t.Helper()
	_, err := n.Import(t.Context(), der, crl.Options{Actor: "uid:0"})
	return err
}

func TestCRL_C14_ImportOfAnOfflineList(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n, other := c.node(c.store, t.TempDir()), c.node(c.store, t.TempDir())
	n.round(t)
	if alarms := strings.Join(n.Alarms(), "\n"); !strings.Contains(alarms, "root: never imported") {
		t.Errorf("alarms: %s", alarms)
	}
	first := c.rootList(nil)
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: first})
	check(t, n.take(t, text))
	if done, err := n.Import(t.Context(), first, crl.Options{}); err != nil || !done.Unchanged {
		t.Errorf("the same list again: %+v, %v", done, err)
	}
	other.round(t)
	for _, node := range []*node{n, other} {
		if l := node.list(t, c, "root"); !bytes.Equal(l.Raw, first) {
			t.Error("the list that is served is not the imported one")
		}
	}
	c.clock.add(time.Hour)
	check(t, n.take(t, c.rootList(func(l *x509.RevocationList) {
		l.Number = big.NewInt(11)
		l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: c.cert.SerialNumber, RevocationTime: c.clock.now(), ReasonCode: 2}}
	})))
	if l := n.list(t, c, "root"); l.Number.Int64() != 11 || len(l.RevokedCertificateEntries) != 1 {
		t.Errorf("list %d with %d entries", l.Number, len(l.RevokedCertificateEntries))
	}
	// Its end comes near: an alarm, once.
	c.clock.add(165 * 24 * time.Hour)
	n.round(t)
	n.round(t)
	if got := strings.Count(n.log.String(), "the list expires soon: sign a new one"); got != 1 {
		t.Errorf("%d alarms in the log:\n%s", got, n.log)
	}
	c.clock.add(30 * 24 * time.Hour)
	n.round(t)
	if !strings.Contains(n.log.String(), "the list has expired") || n.get("root").StatusCode != 200 {
		t.Errorf("after nextUpdate: %d\n%s", n.get("root").StatusCode, n.log)
	}
}

func critical(oid ...int) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier(oid), Critical: true, Value: []byte{0x30, 0}}
}

func TestCRL_C14_ImportRefuses(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	n.round(t)
	check(t, n.take(t, c.rootList(nil)))
	damaged := c.rootList(func(l *x509.RevocationList) { l.Number = big.NewInt(20) })
	damaged[len(damaged)-1] ^= 1
	edited := func(edit func(*x509.RevocationList)) []byte {
		return c.rootList(func(l *x509.RevocationList) {
			l.Number = big.NewInt(20)
			edit(l)
		})
	}
	own, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: c.clock.now(), NextUpdate: c.clock.now().Add(time.Hour),
	}, c.cert, c.key.PrivateKey)
	check(t, err)
	stranger := issuancetest.Certify(t, &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{CommonName: "Stranger"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: c.clock.now(), NotAfter: c.clock.now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}, c.root, c.key.Public(), c.rootKey)
	foreign, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: c.clock.now(), NextUpdate: c.clock.now().Add(time.Hour),
	}, stranger, c.key.PrivateKey)
	check(t, err)
	for name, tt := range map[string]struct {
		list   []byte
		reason string
	}{
		"not a list":        {[]byte("hello"), "crl_form"},
		"PEM of another":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.root.Raw}), "crl_form"},
		"trailing":          {append(c.rootList(nil), 0), "crl_form"},
		"damaged":           {damaged, "crl_signature"},
		"another key":       {c.rootList(func(l *x509.RevocationList) { l.Number = big.NewInt(20) }, issuancetest.NewKey(t)), "crl_signature"},
		"another CA":        {foreign, "crl_issuer"},
		"made here":         {own, "crl_issuer"},
		"same number":       {c.rootList(func(l *x509.RevocationList) { l.NextUpdate = l.NextUpdate.Add(time.Hour) }), "crl_number"},
		"lower number":      {c.rootList(func(l *x509.RevocationList) { l.Number = big.NewInt(9) }), "crl_number"},
		"huge number":       {edited(func(l *x509.RevocationList) { l.Number = new(big.Int).Lsh(big.NewInt(1), 100) }), "crl_number"},
		"future":            {edited(func(l *x509.RevocationList) { l.ThisUpdate = c.clock.now().Add(time.Hour) }), "crl_dates"},
		"expired":           {edited(func(l *x509.RevocationList) { l.NextUpdate = c.clock.now().Add(-time.Minute) }), "crl_dates"},
		"older":             {edited(func(l *x509.RevocationList) { l.ThisUpdate = c.clock.now().Add(-2 * time.Hour) }), "crl_dates"},
		"delta":             {edited(func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical(2, 5, 29, 27)} }), "crl_scope"},
		"partial":           {edited(func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical(2, 5, 29, 28)} }), "crl_scope"},
		"unknown extension": {edited(func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical(1, 2, 3)} }), "crl_scope"},
		"indirect": {edited(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: c.clock.now(), ExtraExtensions: []pkix.Extension{critical(2, 5, 29, 29)}}}
		}), "crl_scope"},
	} {
		err := n.take(t, tt.list)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		wantReason(t, err, tt.reason)
		if l := n.list(t, c, "root"); l.Number.Int64() != 10 {
			t.Errorf("%s: list %d is served", name, l.Number)
		}
	}
	check(t, n.take(t, edited(func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x82, 1, 0xff}}}
	})))
}

// A list may be dated a little ahead of our clock, and no more than that.
func TestCRL_C14_ImportFromTheFuture(t *testing.T) {
	t.Parallel()
	for ahead, taken := range map[time.Duration]bool{5 * time.Minute: true, 5*time.Minute + time.Second: false} {
		c := newCA(t, storetest.SQLite(t))
		n := c.node(c.store, t.TempDir())
		err := n.take(t, c.rootList(func(l *x509.RevocationList) { l.ThisUpdate = c.clock.now().Add(ahead) }))
		if taken {
			check(t, err)
			continue
		}
		if err == nil {
			t.Fatalf("%s ahead: taken", ahead)
		}
		wantReason(t, err, "crl_dates")
	}
}
