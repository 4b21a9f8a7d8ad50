package crl_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// entry is one of an offline CA's list.
func (c *ca) entry(serial *big.Int, reason pki.Reason) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: serial, RevocationTime: c.clock.now().Add(-2 * time.Hour),
		ReasonCode: int(reason)}
}

// numbered is a list of the root of that number and with those entries.
func (c *ca) numbered(number int64, entries ...x509.RevocationListEntry) []byte {
	return c.rootList(func(l *x509.RevocationList) {
		l.Number, l.RevokedCertificateEntries = big.NewInt(number), entries
	})
}

// below installs a CA that the root has certified and that ends soon.
func (c *ca) below(life time.Duration) *big.Int {
	c.t.Helper()
	now := c.clock.now()
	cert := issuancetest.Certify(c.t, &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{CommonName: "Former"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             now.AddDate(-1, 0, 0), NotAfter: now.Add(life), KeyUsage: x509.KeyUsageCertSign,
	}, c.root, issuancetest.NewKey(c.t).Public(), c.rootKey)
	check(c.t, c.store.PutIssuer(c.t.Context(), store.IssuerRecord{
		ID: "former-" + cert.NotAfter.Format("150405"), Name: "former", State: "active", ParentID: "root",
		Certificate: cert.Raw,
		NotAfter:    cert.NotAfter, CreatedAt: now,
	}))
	return cert.SerialNumber
}

// recorded is a certificate of the root that is on record.
func (c *ca) recorded(life time.Duration) *big.Int {
	c.t.Helper()
	cert := c.certificate(life)
	cert.IssuerID = "root"
	check(c.t, c.store.Reserve(c.t.Context(), cert, nil, event(c)))
	return cert.Serial.Big()
}

// Every entry of the published list is on the next one, as strict as it was,
// unless its certificate has expired or it was a hold.
func TestFT5_AnImportedListCarriesEveryRevocation(t *testing.T) {
	t.Parallel()
	unknown := pki.NewSerial().Big()
	at := func(e x509.RevocationListEntry, hours int) x509.RevocationListEntry {
		e.RevocationTime = e.RevocationTime.Add(time.Duration(hours) * time.Hour)
		return e
	}
	type pair struct{ was, is []x509.RevocationListEntry }
	one := func(e ...x509.RevocationListEntry) []x509.RevocationListEntry { return e }
	for name, tt := range map[string]struct {
		lists func(c *ca) pair
		says  string // of the refusal; taken if empty
	}{
		"a CA that lives is left out": {func(c *ca) pair {
			return pair{was: one(c.entry(c.cert.SerialNumber, pki.CACompromise))}
		}, "is not on the list"},
		"a serial that nobody knows is left out": {func(c *ca) pair { return pair{was: one(c.entry(unknown, pki.Superseded))} }, "is not on the list"},
		"a certificate on record lives":          {func(c *ca) pair { return pair{was: one(c.entry(c.recorded(time.Hour), pki.Superseded))} }, "is not on the list"},
		"a certificate on record has expired": {func(c *ca) pair {
			return pair{was: one(c.entry(c.recorded(-2*time.Hour), pki.KeyCompromise))}
		}, ""},
		"a CA that has expired": {func(c *ca) pair { return pair{was: one(c.entry(c.below(-2*time.Hour), pki.CACompromise))} }, ""},
		"a CA that expires after the list's date": {func(c *ca) pair {
			return pair{was: one(c.entry(c.below(-10*time.Minute), pki.CACompromise))}
		}, "is not on the list"},
		"a hold is released": {func(c *ca) pair { return pair{was: one(c.entry(unknown, pki.CertificateHold))} }, ""},
		"a hold is said to be released": {func(c *ca) pair {
			return pair{one(c.entry(unknown, pki.CertificateHold)), one(c.entry(unknown, pki.RemoveFromCRL))}
		}, ""},
		"what was final is said to be released": {func(c *ca) pair {
			return pair{one(c.entry(unknown, pki.Superseded)), one(c.entry(unknown, pki.RemoveFromCRL))}
		}, "is not on the list"},
		"a compromise becomes a hold": {func(c *ca) pair {
			return pair{one(c.entry(unknown, pki.KeyCompromise)), one(c.entry(unknown, pki.CertificateHold))}
		}, "keyCompromise became certificateHold"},
		"a compromise becomes none": {func(c *ca) pair {
			return pair{one(c.entry(unknown, pki.CACompromise)), one(c.entry(unknown, pki.Unspecified))}
		}, "cACompromise became unspecified"},
		"a later date": {func(c *ca) pair {
			return pair{one(c.entry(unknown, pki.Superseded)), one(at(c.entry(unknown, pki.Superseded), 1))}
		}, "became since"},
		"milder, of one that has expired": {func(c *ca) pair {
			serial := c.recorded(-2 * time.Hour)
			return pair{one(c.entry(serial, pki.KeyCompromise)), one(c.entry(serial, pki.Unspecified))}
		}, ""},
		"twice, and milder once": {func(c *ca) pair {
			return pair{one(c.entry(unknown, pki.KeyCompromise)),
				one(c.entry(unknown, pki.KeyCompromise), c.entry(unknown, pki.CertificateHold))}
		}, "keyCompromise became certificateHold"},
		"stricter": {func(c *ca) pair {
			return pair{one(c.entry(unknown, pki.Superseded)), one(c.entry(unknown, pki.KeyCompromise))}
		}, ""},
		"in another order, and one more": {func(c *ca) pair {
			a, b := c.entry(big.NewInt(7000), pki.Superseded), c.entry(big.NewInt(5), pki.CertificateHold)
			return pair{one(a, b), one(c.entry(unknown, pki.KeyCompromise), b, a)}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCA(t, storetest.SQLite(t))
			n := c.node(c.store, t.TempDir())
			lists := tt.lists(c)
			check(t, n.take(t, c.numbered(10, lists.was...)))
			err := n.take(t, c.numbered(11, lists.is...))
			if tt.says == "" {
				check(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) ||
				!strings.Contains(err.Error(), string(pki.SerialFromBig(lists.was[0].SerialNumber))) {
				t.Fatalf("got %v, want a refusal that says %q", err, tt.says)
			}
			wantReason(t, err, "crl_entries_lost")
			if l := n.list(t, c, "root"); l.Number.Int64() != 10 {
				t.Errorf("list %d is served", l.Number)
			}
			if alarms := strings.Join(n.Alarms(), "\n"); !strings.Contains(alarms, "takes back 1 of the revocations") {
				t.Errorf("alarms: %s", alarms)
			}
			check(t, n.take(t, c.numbered(12, lists.was...)))
			if alarms := n.Alarms(); len(alarms) != 0 {
				t.Errorf("alarms after a whole list: %s", alarms)
			}
		})
	}
}

// An operator who knows better says why; that is in the audit record, and nodes
// that have an older list take the new one over.
func TestFT5_LossesThatAnOperatorAccepts(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n, second, late := c.node(c.store, t.TempDir()), c.node(c.store, t.TempDir()), c.node(c.store, t.TempDir())
	gone, kept := c.entry(big.NewInt(77), pki.KeyCompromise), c.entry(big.NewInt(78), pki.KeyCompromise)
	check(t, n.take(t, c.numbered(10, gone, kept)))
	for _, other := range []*node{second, late} {
		other.round(t)
	}
	milder := kept
	milder.ReasonCode = int(pki.Superseded)
	for _, why := range []string{" \n", strings.Repeat("x", 1001)} {
		_, err := n.Import(t.Context(), c.numbered(11, milder), crl.Options{AcceptLost: why})
		wantReason(t, err, "lost_reason")
	}
	_, err := n.Import(t.Context(), c.numbered(11, milder),
		crl.Options{Actor: "uid:0", AcceptLost: "both expired in 2020"})
	check(t, err)
	second.round(t)
	check(t, n.take(t, c.numbered(12, milder))) // loses nothing more
	late.round(t)
	for node, want := range map[*node]int64{n: 12, second: 11, late: 12} {
		if l := node.list(t, c, "root"); l.Number.Int64() != want || len(node.Alarms()) != 0 {
			t.Errorf("list %d is served, want %d; alarms %v", l.Number, want, node.Alarms())
		}
	}
	second.round(t)
	events, err := c.store.AuditEvents(t.Context(), c.store.Node(), 1, 100)
	check(t, err)
	var got struct {
		Accepted string            `json:"accepted"`
		Lost     map[string]string `json:"lost"`
		Count    int               `json:"lost_count"`
	}
	for _, e := range events {
		if bytes.Contains(e.Detail, []byte(`"accepted"`)) {
			check(t, json.Unmarshal(e.Detail, &got))
		}
	}
	lost := map[string]string{"4d": "it is not on the list", "4e": "keyCompromise became superseded"}
	if diff := cmp.Diff(lost, got.Lost); diff != "" ||
		got.Accepted != "both expired in 2020" || got.Count != 2 {
		t.Errorf("audited: %+v\n%s", got, diff)
	}
	if err := n.take(t, c.numbered(13)); fault.Of(err).Reason != "crl_entries_lost" {
		t.Errorf("what was accepted once is accepted for good: %v", err)
	}
}

// put stores a list as another release, or another program, would.
func (c *ca) put(number int64, der []byte) {
	c.t.Helper()
	l, err := x509.ParseRevocationList(der)
	check(c.t, err)
	sum := sha256.Sum256(der)
	check(c.t, c.store.PutCRL(c.t.Context(), store.CRLRecord{
		IssuerID: "root", Number: number, ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate, SHA256: sum[:],
		Size: int64(len(der)),
	}, number-1, bytes.NewReader(der)))
}

// A list in the database that takes something back is not taken over, and the next
// one is compared with both.
func TestFT5_AListThatIsFetchedCarriesEveryRevocation(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	first, second := c.entry(c.cert.SerialNumber, pki.CACompromise), c.entry(big.NewInt(99), pki.CACompromise)
	check(t, n.take(t, c.numbered(10, first)))
	c.put(11, c.numbered(11, second))
	n.round(t)
	if l := n.list(t, c, "root"); l.Number.Int64() != 10 {
		t.Errorf("list %d is served", l.Number)
	}
	alarms := strings.Join(n.Alarms(), "\n")
	if !strings.Contains(alarms, "list 11 of root takes back 1 of the revocations of list 10") {
		t.Errorf("alarms: %s", alarms)
	}
	for _, entry := range []x509.RevocationListEntry{first, second} {
		wantReason(t, n.take(t, c.numbered(12, entry)), "crl_entries_lost")
	}
	check(t, n.take(t, c.numbered(12, first, second)))
	if l := n.list(t, c, "root"); l.Number.Int64() != 12 || len(n.Alarms()) != 0 {
		t.Errorf("list %d is served, alarms %v", l.Number, n.Alarms())
	}
}

// What no node could read is not stored.
func TestFT5_AnEntryThatCannotBeCompared(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	wantReason(t, n.take(t, c.numbered(10, c.entry(new(big.Int).Lsh(big.NewInt(1), 200), pki.Superseded))), "crl_form")
	check(t, n.take(t, c.numbered(10)))
}
