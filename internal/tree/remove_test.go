package tree

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFT4_WhatWouldBePendingIsNotInstalled: install and adopt decide by what a node
// does with the row, and say why not.
func TestFT4_WhatWouldBePendingIsNotInstalled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	csr := b.request(t, "web-a")
	mute := authority(csr.RawSubject, 9)
	mute.KeyUsage = x509.KeyUsageCertSign // no cRLSign: nothing that it signs could be revoked
	broken := create(t, mute, b.rootCert, csr.PublicKey, b.rootKey)
	_, err := b.Install(t.Context(), "web-a", Certificate{Chain: pemOf(broken, b.rootCert), NoTranscript: true}, operatorActor)
	refused(t, "install of a CA without cRLSign", err, "key_usage")
	_, err = b.Adopt(t.Context(), "web-a", Adoption{Chain: pemOf(broken, b.rootCert)}, operatorActor)
	refused(t, "adoption of a CA without cRLSign", err, "key_usage")

	_, strangers := newRoot(t, "stranger") // a cross chain that is not of this CA leaves it pending
	b.declared[1].Cross = [][]*x509.Certificate{{strangers}}
	good := b.sign(t, csr, 9)
	for range 2 {
		_, err = b.Install(t.Context(), "web-a", Certificate{Chain: pemOf(good, b.rootCert), NoTranscript: true}, operatorActor)
		refused(t, "install with a cross chain of another CA", err, "issuer_pending")
	}
	if !strings.Contains(fault.Text(err), "chains:") {
		t.Errorf("it does not say why: %v", err)
	}
	if all, err := b.Store.Issuers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("what was refused left %d rows: %v", len(all), err)
	}
}

// TestFT4_Remove: a broken record goes, and its id is used again with the same request
// or with another CA.
func TestFT4_Remove(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.Remove(t.Context(), "nobody", operatorActor)
	refused(t, "nobody", err, "issuer_unknown")
	_, err = b.Remove(t.Context(), "web-a", operatorActor)
	refused(t, "declared only", err, "issuer_unknown")

	csr := b.request(t, "web-a")
	mute := authority(csr.RawSubject, 9)
	mute.KeyUsage = x509.KeyUsageCertSign
	broken := create(t, mute, b.rootCert, csr.PublicKey, b.rootKey)
	b.put(t, ca.NewRecord("root-1", "", ca.OfflineRow, b.rootCert, time.Now()))
	b.put(t, ca.NewRecord("web-a", "root-1", string(ca.Active), broken, time.Now()))
	_, err = b.Remove(t.Context(), "root-1", operatorActor)
	refused(t, "a root with a CA below", err, "issuer_used")
	b.declared[1].Initial = []*x509.Certificate{broken}
	_, err = b.Remove(t.Context(), "web-a", operatorActor)
	refused(t, "one that the configuration brings", err, "issuer_declared")
	b.declared[1].Initial = nil
	b.put(t, ca.NewRecord("web-b", "root-1", string(ca.Active), &x509.Certificate{Raw: []byte("x")}, time.Now()))
	_, err = b.Request(t.Context(), "web-b", RequestOptions{}, operatorActor)
	refused(t, "a request beside a record that cannot be read", err, "issuer_unreadable")
	_, findings, err := b.Look(t.Context())
	if err != nil || !slices.ContainsFunc(findings, func(f Finding) bool {
		return f.About == "web-b" && f.Severity == SeverityError && strings.Contains(f.What, "cannot be read")
	}) {
		t.Errorf("lint beside a record that cannot be read: %+v %v", findings, err)
	}
	if _, err := b.Remove(t.Context(), "web-b", operatorActor); err != nil {
		t.Errorf("a record that cannot be read: %v", err)
	}
	if done, err := b.Remove(t.Context(), "web-a", operatorActor); err != nil || done.Record.ID != "web-a" || len(done.Warnings) > 0 {
		t.Fatalf("%+v %v", done, err)
	}
	mended := b.sign(t, csr, 9)
	in := Certificate{Chain: pemOf(mended), Transcript: b.told(t, csr.Raw, mended.Raw)}
	if _, err := b.Install(t.Context(), "web-a", in, operatorActor); err != nil {
		t.Fatalf("the mended certificate: %v", err)
	}
	if _, err := b.Remove(t.Context(), "web-a", operatorActor); err != nil {
		t.Fatal(err)
	}
	_, cert, keyPEM := b.elsewhere(t)
	b.declared[1].Key += "-2"
	if _, err := b.Adopt(t.Context(), "web-a", Adoption{Chain: pemOf(cert, b.rootCert), Key: keyPEM}, operatorActor); err != nil {
		t.Fatalf("another CA under the id: %v", err)
	}
}

func (b *bench) put(t *testing.T, r store.IssuerRecord) {
	t.Helper()
	if err := b.Store.PutIssuer(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// TestFT16_ARootDeclaredLater: the root came with a chain under the id of its
// fingerprint. Installed under the id that the configuration gives it later, it is one
// CA: one place in the tree, one limit on what is below it.
func TestFT16_ARootDeclaredLater(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	csr := b.request(t, "web-a")
	cert := b.sign(t, csr, 9)
	if _, err := b.Install(t.Context(), "web-a", Certificate{Chain: pemOf(cert, b.rootCert), Transcript: b.told(t, csr.Raw, cert.Raw)}, operatorActor); err != nil {
		t.Fatal(err)
	}
	was := ca.NameOf(nil, b.rootCert)
	for _, again := range []bool{false, true} {
		done, err := b.Install(t.Context(), "root-1", Certificate{Chain: pemOf(b.rootCert), NoTranscript: true}, operatorActor)
		if err != nil || done.Unchanged != again {
			t.Fatalf("%+v %v", done, err)
		}
	}
	places, findings, err := b.Look(t.Context())
	if err != nil || len(places) != 2 || places[0].Record.ID != "root-1" || places[0].Children != 1 || places[1].Root != "root-1" {
		t.Errorf("%+v %v", places, err)
	}
	if slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == SeverityError }) {
		t.Errorf("%+v", findings)
	}
	records, err := b.Store.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set := ca.Build(ca.Inputs{Declared: b.declared, Records: records, Now: time.Now()})
	if c := set.Get("root-1"); c != set.Get(was) || set.Get("web-a").Parent != c {
		t.Errorf("%s and root-1 are two", was)
	}
	b.declared[0].MaxChildren = 1
	second := b.request(t, "web-b")
	other := b.sign(t, second, 9)
	_, err = b.Install(t.Context(), "web-b", Certificate{Chain: pemOf(other), Transcript: b.told(t, second.Raw, other.Raw)}, operatorActor)
	refused(t, "a second CA below a root that may have one", err, "max_children")
	b.declared[0].MaxChildren = 0
	if _, err = b.Install(t.Context(), "web-b", Certificate{Chain: pemOf(other), Transcript: b.told(t, second.Raw, other.Raw)}, operatorActor); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Store.Issuer(t.Context(), "web-b"); err != nil || r.ParentID != "root-1" {
		t.Errorf("it is below %q: %v", r.ParentID, err)
	}
	var out strings.Builder
	if err := b.Export(t.Context(), &out, "root-1", func() {}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"web-a", "web-b"} {
		if !strings.Contains(out.String(), `"id":"`+id+`"`) {
			t.Errorf("the export of root-1 lacks %s", id)
		}
	}
	if strings.Contains(out.String(), was) {
		t.Errorf("the export names %s, which nobody declares elsewhere", was)
	}
}
