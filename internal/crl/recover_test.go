package crl_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// A store restored from an old backup lacks revocations, and certificates with
// them. Both are taken over from the lists on disk, and lists go on.
func TestCRL_RecoverAfterAnOldBackup(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		c := newCA(t, s)
		c.config.Shards = 4
		dir := t.TempDir()
		n := c.node(s, dir)
		early, upgraded, held, released := c.revoked(pki.Superseded), c.revoked(pki.Superseded), c.issued(time.Hour*24*90), c.issued(time.Hour*24*90)
		revokedLate, gone, expired := c.issued(time.Hour*24*90), c.issued(time.Hour*24*90), c.issued(90*time.Minute)
		goneHeld := c.issued(time.Hour * 24 * 90)
		n.round(t)
		c.clock.add(time.Hour)
		for _, cert := range []store.Certificate{revokedLate, gone, expired, upgraded} {
			c.revoke(cert, pki.KeyCompromise)
		}
		c.revoke(held, pki.CertificateHold)
		c.revoke(goneHeld, pki.CertificateHold)
		_, err := n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		check(t, err)
		published := n.list(t, c, id)
		storetest.Exec(t, url,
			`DELETE FROM revocations WHERE certificate_id IN ('`+revokedLate.ID+`', '`+expired.ID+`', '`+held.ID+`', '`+gone.ID+`', '`+goneHeld.ID+`')`,
			`UPDATE revocations SET reason = 4 WHERE certificate_id = '`+upgraded.ID+`'`,
			`DELETE FROM certificates WHERE id IN ('`+gone.ID+`', '`+goneHeld.ID+`')`, `DELETE FROM blocked_keys`)
		c.clock.add(time.Hour)
		n = c.node(s, dir)
		_, err = n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		wantReason(t, err, "crl_entries_lost")

		dry, err := n.Recover(t.Context(), id, crl.Recovery{DryRun: true})
		check(t, err)
		if dry.Revoked != 3 || dry.Entered != 1 || dry.Holds != 2 || len(dry.Serials) != 4 {
			t.Errorf("preview: %+v", dry)
		}
		done, err := n.Recover(t.Context(), id, crl.Recovery{Options: crl.Options{Actor: "uid:0"}})
		check(t, err)
		if done.Revoked != 3 || done.Entered != 1 || done.Holds != 2 {
			t.Errorf("recovered: %+v", done)
		}
		if again, err := n.Recover(t.Context(), id, crl.Recovery{Options: crl.Options{Actor: "uid:0"}}); err != nil || again.Revoked+again.Entered != 0 {
			t.Errorf("again: %+v, %v", again, err)
		}
		if again, err := n.Recover(t.Context(), id, crl.Recovery{Holds: true, Options: crl.Options{Actor: "uid:0"}}); err != nil || again.Revoked != 1 || again.Entered != 1 {
			t.Errorf("the hold: %+v, %v", again, err)
		}
		_, err = n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		check(t, err)
		now := n.list(t, c, id)
		for cert, want := range map[*store.Certificate]pki.Reason{
			&early: pki.Superseded, &upgraded: pki.KeyCompromise, &revokedLate: pki.KeyCompromise, &gone: pki.KeyCompromise, &held: pki.CertificateHold, &goneHeld: pki.CertificateHold,
		} {
			if got := has(now, *cert); got != int(want) {
				t.Errorf("serial %s: reason %d, want %d", cert.Serial, got, want)
			}
		}
		if now.Number.Cmp(published.Number) <= 0 || has(now, released) >= 0 {
			t.Errorf("list %d after %d", now.Number, published.Number)
		}
		row, err := s.CertificateBySerial(t.Context(), id, gone.Serial)
		check(t, err)
		if row.Status != "imported" || row.Shard != gone.Shard || !row.NotAfter.Equal(c.cert.NotAfter) || row.DER != nil || row.Revocation == nil {
			t.Errorf("the lost certificate: %+v", row)
		}
		if blocked := storetest.Count(t, url, `SELECT count(*) FROM blocked_keys`); blocked != 3 {
			t.Errorf("%d keys are blocked, want those of the three that are on record", blocked)
		}
		if events := storetest.Count(t, url, `SELECT count(*) FROM audit_events WHERE action = 'certificate.recovered'`); events != 6 {
			t.Errorf("%d events, want 6", events)
		}
	})
}

// The list may come from a file that somebody kept, of this issuer alone.
func TestCRL_RecoverFromAFile(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	c.config.Shards = 4
	n := c.node(c.store, t.TempDir())
	list := func(edit func(*x509.RevocationList)) []byte {
		l := &x509.RevocationList{
			Number: big.NewInt(7), ThisUpdate: c.clock.now(), NextUpdate: c.clock.now().Add(time.Hour),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: pki.NewSerial().Big(), RevocationTime: c.clock.now(), ReasonCode: 1}},
		}
		if edit != nil {
			edit(l)
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, c.cert, c.key.PrivateKey)
		check(t, err)
		return der
	}
	point := func(uri string) func(*x509.RevocationList) {
		value := append([]byte{0x30, byte(len(uri) + 6), 0xa0, byte(len(uri) + 4), 0xa0, byte(len(uri) + 2), 0x86, byte(len(uri))}, uri...)
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: value}}
		}
	}
	damaged := list(nil)
	damaged[len(damaged)-1] ^= 1
	for name, tt := range map[string]struct {
		issuer string
		list   []byte
		reason string
	}{
		"nobody":        {"web-9", nil, ""},
		"an offline CA": {"root", list(nil), "crl_offline"},
		"none imported": {"root", nil, "crl_missing"},
		"nothing here":  {id, nil, "crl_missing"},
		"no list":       {id, []byte("hello"), "crl_form"},
		"damaged":       {id, damaged, "crl_signature"},
		"another CA's":  {id, c.rootList(nil), "crl_signature"},
		"delta": {id, list(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 5}}}
		}), "crl_scope"},
		"no shard of ours": {id, list(point("http://ca.test/crl/web-1/5000.crl")), "crl_scope"},
	} {
		_, err := n.Recover(t.Context(), tt.issuer, crl.Recovery{List: tt.list})
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		wantReason(t, err, tt.reason)
	}
	shard := list(point("http://ca.test/crl/web-1/3.crl"))
	for _, der := range [][]byte{list(nil), shard, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list(nil)})} {
		done, err := n.Recover(t.Context(), id, crl.Recovery{List: der, Options: crl.Options{Actor: "uid:0"}})
		if err != nil || done.Entered != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	parsed, err := x509.ParseRevocationList(shard)
	check(t, err)
	serial := pki.SerialFromBig(parsed.RevokedCertificateEntries[0].SerialNumber)
	row, err := c.store.CertificateBySerial(t.Context(), id, serial)
	check(t, err)
	if row.Shard != 3 {
		t.Errorf("shard %d, want that of the list", row.Shard)
	}
}
