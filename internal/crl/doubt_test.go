package crl_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// lost is what the full list's status says.
func lost(t *testing.T, n *node) int {
	t.Helper()
	all, err := n.Of(id)
	check(t, err)
	return all[0].Lost
}

// TestFT1_TheListOnDiskIsAWitness: what the newest list on disk revokes and an older
// database does not is revoked for everybody who asks, until it is recovered.
func TestFT1_TheListOnDiskIsAWitness(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		c := newCA(t, s)
		c.config.Shards = 2
		dir := t.TempDir()
		n := c.node(s, dir)
		const long = 90 * 24 * time.Hour
		good, stolen, held, gone := c.issued(long), c.issued(long), c.issued(long), c.issued(long)
		n.round(t)
		c.revoke(stolen, pki.KeyCompromise)
		c.revoke(gone, pki.KeyCompromise)
		c.revoke(held, pki.CertificateHold)
		c.clock.add(time.Hour)
		_, err := n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		check(t, err)
		check(t, n.Compare(t.Context()))
		if s.WitnessVersion() != 0 || lost(t, n) != 0 {
			t.Fatal("a witness is heard though nothing is lost")
		}
		storetest.Exec(t, url, `DELETE FROM revocations`, `DELETE FROM certificates WHERE id = '`+gone.ID+`'`,
			`DELETE FROM crl_chunks`, `DELETE FROM crls`)

		n = c.node(s, dir)
		check(t, n.Compare(t.Context()))
		if got := lost(t, n); got != 3 {
			t.Errorf("%d revocations lost, want 3", got)
		}
		reasons := func(want map[pki.Serial]pki.Reason) {
			t.Helper()
			found, _, err := s.Standings(t.Context(), id, []pki.Serial{good.Serial, stolen.Serial, held.Serial, gone.Serial})
			check(t, err)
			for serial, st := range found {
				if reason, revoked := want[serial]; (st.Revocation != nil) != revoked || revoked && st.Revocation.Reason != reason {
					t.Errorf("serial %s stands as %+v, want %v", serial, st.Revocation, reason)
				}
			}
		}
		all := map[pki.Serial]pki.Reason{stolen.Serial: pki.KeyCompromise, gone.Serial: pki.KeyCompromise, held.Serial: pki.CertificateHold}
		reasons(all)
		row, err := s.CertificateByID(t.Context(), stolen.ID)
		check(t, err)
		if row.Revocation == nil {
			t.Fatal("the row of a revoked certificate says that it is not")
		}
		if blocked, err := s.BlockedKey(t.Context(), pki.KeyHash([]byte(stolen.Serial)[:32])); err != nil || blocked {
			t.Errorf("another key: %v, %v", blocked, err)
		}
		err = s.ReserveFor(t.Context(), c.certificate(long), store.Reservation{Holders: []string{stolen.ID}}, event(c))
		wantReason(t, err, "certificate_revoked")

		n.round(t) // the schedule releases nothing
		reasons(all)
		_, err = n.Recover(t.Context(), id, crl.Recovery{Options: crl.Options{Actor: "uid:0"}})
		check(t, err)
		if got := lost(t, n); got != 1 {
			t.Errorf("%d are lost after crl recover, want the hold", got)
		}
		n.round(t)
		reasons(all)
		_, err = n.Recover(t.Context(), id, crl.Recovery{Holds: true, Options: crl.Options{Actor: "uid:0"}})
		check(t, err)
		n.round(t) // it is due by itself
		if got := lost(t, n); got != 0 {
			t.Errorf("%d are lost after crl recover --holds", got)
		}
		reasons(all)
		if list := n.list(t, c, id); has(list, stolen) != 1 || has(list, held) != 6 || has(list, good) >= 0 {
			t.Errorf("list %d has not what it should", list.Number)
		}
		if _, ok := s.Witnessed(id, stolen.Serial); ok {
			t.Error("the witness is still heard")
		}
	})
}

// TestFT1_AnImportedListIsAWitness: the same for a CA whose key is elsewhere.
func TestFT1_AnImportedListIsAWitness(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		c := newCA(t, s)
		dir := t.TempDir()
		n := c.node(s, dir)
		below := pki.SerialFromBig(c.cert.SerialNumber)
		_, err := n.Import(t.Context(), c.rootList(rootRevokes(c)), crl.Options{Actor: "uid:0"})
		check(t, err)
		storetest.Exec(t, url, `DELETE FROM crl_chunks`, `DELETE FROM crls`)
		n = c.node(s, dir)
		check(t, n.Compare(t.Context()))
		if _, ok := s.Witnessed("root", below); !ok {
			t.Fatal("the list on disk is not heard")
		}
		_, err = n.Recover(t.Context(), "root", crl.Recovery{Options: crl.Options{Actor: "uid:0"}})
		check(t, err)
		if _, ok := s.Witnessed("root", below); ok {
			t.Error("the witness is heard after the list is in the database again")
		}
		if _, _, err := s.LatestCRL(t.Context(), "root", 0); err != nil {
			t.Errorf("the list is not in the database: %v", err)
		}
	})
}

func rootRevokes(c *ca) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		l.RevokedCertificateEntries = []x509.RevocationListEntry{
			{SerialNumber: c.cert.SerialNumber, RevocationTime: c.clock.now(), ReasonCode: 2},
		}
	}
}

// TestFT1_RevokeASerialThatIsNotOnRecord: what was issued after the backup can be
// revoked, and goes on the list.
func TestFT1_RevokeASerialThatIsNotOnRecord(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, _ string, s *store.Store) {
		c := newCA(t, s)
		c.config.Shards = 4
		n := c.node(s, t.TempDir())
		gone, known := c.certificate(24*time.Hour), c.issued(24*time.Hour)
		revoke := func(issuerID string, serial pki.Serial, reason pki.Reason) error {
			_, err := n.RevokeUnknown(t.Context(), issuerID, issuer.Revoked{Serial: serial, Reason: reason}, crl.Options{Actor: "uid:0"})
			return err
		}
		check(t, revoke(id, gone.Serial, pki.KeyCompromise))
		n.round(t)
		if reason := has(n.list(t, c, id), gone); reason != int(pki.KeyCompromise) {
			t.Errorf("it is on the list with reason %d", reason)
		}
		found, _, err := s.Standings(t.Context(), id, []pki.Serial{gone.Serial})
		check(t, err)
		if found[gone.Serial].Revocation == nil {
			t.Error("OCSP has no revocation")
		}
		wantReason(t, revoke("root", gone.Serial, pki.KeyCompromise), "crl_offline")
		for what, err := range map[string]error{
			"on record": revoke(id, known.Serial, pki.KeyCompromise), "twice": revoke(id, gone.Serial, pki.Superseded),
			"a CA's reason": revoke(id, c.certificate(time.Hour).Serial, pki.CACompromise), "no such issuer": revoke("web-9", gone.Serial, 0),
		} {
			if err == nil {
				t.Errorf("%s: taken", what)
			}
		}
	})
}
