package approval_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// E7: the same POST again is pending until it is approved, then gets the
// certificate, always the same one.
func TestEST_E7_PendingUntilApproved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		id := d.waiting(t, k, r)
		if again := d.waiting(t, k, r); again != id {
			t.Errorf("the same request waits as %s and %s", id, again)
		}
		v, err := d.Show(t.Context(), id)
		noErr(t, err)
		if v.State != "pending" || !v.Preview.Allowed || v.Changed || v.Names[0].Value != "a.example.test" || v.Requester != "est_user:device-7" {
			t.Errorf("%+v", v)
		}
		list, err := d.List(t.Context(), store.RequestSearch{Status: "pending", Profile: "asked", Limit: 10})
		if err != nil || len(list) != 1 || list[0].ID != id {
			t.Errorf("%d in the list, %v", len(list), err)
		}
		if v, err = d.Approve(t.Context(), id, person); err != nil || v.State != "issued" || v.DecidedBy != "uid:1000" {
			t.Fatalf("%+v, %v", v, err)
		}
		cert, err := d.Enrol(t.Context(), k, r)
		if err != nil || cert.ID != v.CertificateID {
			t.Errorf("%v, %v; want certificate %s", cert, err, v.CertificateID)
		}
		if n := d.actions(t); n["request.pending"] != 1 || n["request.approved"] != 1 || n["certificate.issued"] != 1 {
			t.Errorf("audit %v", n)
		}
		_, err = d.Approve(t.Context(), id, person)
		wantKind(t, err, fault.Conflict, "request_issued")
		_, err = d.Reject(t.Context(), id, "too late", person)
		wantKind(t, err, fault.Conflict, "request_issued")
		d.holds(t)
	})
}

// What a renewal carries over is in the certificate that a person approved.
func TestFS15_ApprovedRenewal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		printable := []byte{0x30, 0x19, 0x31, 0x17, 0x30, 0x15, 0x06, 0x03, 0x55, 0x04, 0x03, 0x13, 0x0e}
		r.RawSubject, r.Lineage = append(printable, "a.example.test"...), "first"
		id := d.waiting(t, k, r)
		v, err := d.Approve(t.Context(), id, person)
		noErr(t, err)
		row, err := st.CertificateByID(t.Context(), v.CertificateID)
		noErr(t, err)
		cert, err := x509.ParseCertificate(row.DER)
		noErr(t, err)
		if row.Lineage != "first" || !bytes.Equal(cert.RawSubject, r.RawSubject) {
			t.Errorf("line %q, subject %x", row.Lineage, cert.RawSubject)
		}
	})
}

func TestRejectedIsFinalAndSaysWhy(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		id := d.waiting(t, k, r)
		_, err := d.Reject(t.Context(), id, "", person)
		wantKind(t, err, fault.Malformed, "reason")
		_, err = d.Reject(t.Context(), id, strings.Repeat("x", 501), person)
		wantKind(t, err, fault.Malformed, "reason")
		v, err := d.Reject(t.Context(), id, "who is this?", person)
		if err != nil || v.State != "rejected" || v.Reason != "who is this?" {
			t.Fatalf("%+v, %v", v, err)
		}
		_, err = d.Enrol(t.Context(), k, r)
		wantKind(t, err, fault.Denied, "approval_rejected")
		if !strings.Contains(fault.Of(err).Detail, "who is this?") {
			t.Errorf("%v does not say why", err)
		}
		_, err = d.Approve(t.Context(), id, person)
		wantKind(t, err, fault.Conflict, "request_rejected")
		d.holds(t)
	})
}

func TestNobodyApprovesTheirOwnRequest(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		_, r := ask(t, "asked", "a.example.test")
		r.Protocol, r.Requester, r.Origin = "operator", "uid:1000", "request:"+store.NewID()
		_, err := d.srv.Pipeline.Issue(t.Context(), r)
		wantKind(t, err, fault.Pending, "approval_pending")
		id := fault.Of(err).Identifier.Value
		if r.Origin != "request:"+id {
			t.Errorf("request %s of origin %s", id, r.Origin)
		}
		_, err = d.Approve(t.Context(), id, person)
		wantKind(t, err, fault.Denied, "own_request")
		v, err := d.Approve(t.Context(), id, approval.Actor{Name: "uid:1001"})
		if err != nil || v.State != "issued" {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func TestExpiredRequests(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		id := d.waiting(t, k, r)
		d.advance(issuance.ApprovalLife + time.Minute)
		_, err := d.Approve(t.Context(), id, person)
		wantKind(t, err, fault.Conflict, "request_expired")
		noErr(t, d.Sweep(t.Context()))
		if v, err := d.Show(t.Context(), id); err != nil || v.State != "expired" || v.Status != store.RequestExpired {
			t.Errorf("%+v, %v", v, err)
		}
		if n := d.actions(t); n["request.expired"] != 1 {
			t.Errorf("audit %v", n)
		}
		if next := d.waiting(t, k, r); next == id { // the client asks again: a new request
			t.Error("the expired request came back")
		}
		purged, err := st.Purge(t.Context(), d.now().Add(time.Hour), 100)
		if err != nil || purged.Requests != 0 { // the expired one gave way, the new one waits
			t.Errorf("%+v, %v", purged, err)
		}
	})
}

// What is approved is the template that the person saw.
func TestApprovalIsOfOneTemplate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		id := d.waiting(t, k, r)
		d.advance(time.Hour) // time alone changes nothing
		shorter := func(c *profile.Config) { c.Validity.Default = profile.Duration(24 * time.Hour) }
		d.setProfile(t, shorter)
		if v, err := d.Show(t.Context(), id); err != nil || !v.Changed {
			t.Errorf("%+v, %v", v, err)
		}
		_, err := d.Approve(t.Context(), id, person)
		wantKind(t, err, fault.Conflict, "template_changed")
		d.srv.KeyFails.Store(true) // approved, but not issued at once
		v, err := d.Approve(t.Context(), id, person)
		if err != nil || v.State != "approved" {
			t.Fatalf("%+v, %v", v, err)
		}
		d.srv.KeyFails.Store(false)
		d.setProfile(t, func(*profile.Config) {})
		_, err = d.Enrol(t.Context(), k, r)
		wantKind(t, err, fault.Denied, "approval_stale")
		d.advance(time.Minute)
		noErr(t, d.Sweep(t.Context())) // nobody can use this approval any more
		if v, err := d.Show(t.Context(), id); err != nil || v.State != "rejected" || v.DecidedBy != "server" {
			t.Errorf("%+v, %v", v, err)
		}
		d.holds(t)
	})
}

// The one who decides is told which names have changed.
func TestChangedNamesAreShown(t *testing.T) {
	t.Parallel()
	st := storetest.SQLite(t)
	d := newFixture(t, st)
	k, r := ask(t, "asked", "a.example.test")
	id := d.waiting(t, k, r)
	were := []pki.Identifier{{Type: pki.DNS, Value: "b.example.test"}, {Type: pki.DNS, Value: "c.example.test"}}
	noErr(t, st.RenewTemplate(t.Context(), id, make([]byte, 32), "CN=b.example.test", were))
	v, err := d.Show(t.Context(), id)
	noErr(t, err)
	want := []string{
		`the subject would be "` + v.Preview.Template.Subject + `" and was "CN=b.example.test"`,
		"the names would be [dns:a.example.test] and were [dns:b.example.test dns:c.example.test]",
		"what would be signed now is not what the request came for",
	}
	if !v.Changed || !slices.Equal(v.Changes, want) {
		t.Errorf("%t, %q", v.Changed, v.Changes)
	}
}

// An approval outlives a key that is away: it is given back and used later.
func TestApprovedWhileTheKeyIsAway(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		id := d.waiting(t, k, r)
		d.srv.KeyFails.Store(true)
		if v, err := d.Approve(t.Context(), id, person); err != nil || v.State != "approved" || v.ConsumedAt != nil {
			t.Fatalf("%+v, %v", v, err)
		}
		d.srv.KeyFails.Store(false)
		d.advance(time.Minute)
		noErr(t, d.Sweep(t.Context()))
		if v, err := d.Show(t.Context(), id); err != nil || v.State != "issued" || v.ConsumedAt == nil {
			t.Errorf("%+v, %v", v, err)
		}
		d.holds(t)
	})
}

func TestAnUnusedApprovalCanBeTakenBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		id := d.waiting(t, k, r)
		d.srv.KeyFails.Store(true)
		_, err := d.Approve(t.Context(), id, person)
		noErr(t, err)
		_, err = d.Reject(t.Context(), id, "a mistake", person)
		noErr(t, err)
		d.srv.KeyFails.Store(false)
		_, err = d.Enrol(t.Context(), k, r)
		wantKind(t, err, fault.Denied, "approval_rejected")
	})
}

// Everything that a request asked for comes back after the approval.
func TestApprovalKeepsTheWholeRequest(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		_, r := ask(t, "asked", "a.example.test")
		subject, err := pki.ParseName("CN=b.example.test")
		noErr(t, err)
		r.PublicKey, r.CSR, r.Subject = r.CSR.PublicKey, nil, &subject
		r.Names = []pki.Identifier{{Type: pki.DNS, Value: "b.example.test"}}
		r.NotAfter = d.now().Add(48 * time.Hour).UTC().Truncate(time.Second)
		r.Origin, r.Protocol, r.Evidence = "request:"+store.NewID(), "operator", []byte(`{"method":"word"}`)
		_, err = d.srv.Pipeline.Issue(t.Context(), r)
		wantKind(t, err, fault.Pending, "approval_pending")
		v, err := d.Approve(t.Context(), fault.Of(err).Identifier.Value, person)
		noErr(t, err)
		cert, err := st.CertificateByID(t.Context(), v.CertificateID)
		if err != nil || cert.Subject != "CN=b.example.test" || cert.Names[0].Value != "b.example.test" || !cert.NotAfter.Equal(r.NotAfter) || cert.Requester != r.Requester {
			t.Errorf("%+v, %v", cert, err)
		}
	})
}

func TestManyApproversOneCertificate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newFixture(t, st)
		k, r := ask(t, "asked", "a.example.test")
		id := d.waiting(t, k, r)
		var approved, rejected atomic.Int64
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = d.Approve(t.Context(), id, person)
				} else {
					_, err = d.Reject(t.Context(), id, "no", person)
				}
				switch {
				case err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Denied):
					t.Error(err)
				case err == nil && i%2 == 0:
					approved.Add(1)
				case err == nil:
					rejected.Add(1)
				}
			})
		}
		all.Wait()
		v, err := d.Show(t.Context(), id)
		noErr(t, err)
		switch n := d.actions(t); {
		case v.State == "issued" && n["certificate.issued"] == 1 && n["request.approved"] == 1:
		case v.State == "rejected" && n["certificate.issued"] == 0:
		default:
			t.Errorf("%s after %d approvals and %d rejections; audit %v", v.State, approved.Load(), rejected.Load(), n)
		}
		d.holds(t)
	})
}

func TestListRefusesAnUnknownStatus(t *testing.T) {
	d := newFixture(t, storetest.SQLite(t))
	_, err := d.List(t.Context(), store.RequestSearch{Status: "lost", Limit: 1})
	wantKind(t, err, fault.Malformed, "status")
	_, err = d.Show(t.Context(), "none")
	wantKind(t, err, fault.NotFound, "request_unknown")
}

// TestFS7_ApprovedAndThenRefused: what ceases to hold between the approval and the
// signature is refused for good, because nobody would come to ask again.
func TestFS7_ApprovedAndThenRefused(t *testing.T) {
	t.Parallel()
	d := newFixture(t, storetest.SQLite(t))
	calls := 0
	d.Recheck("est", func(context.Context, *store.Request, issuance.Request) error {
		if calls++; calls == 1 { // when it is shown to the one who approves
			return nil
		}
		return fault.New(fault.Denied, "client certificate: it was revoked").Because("certificate_revoked")
	})
	k, r := ask(t, "asked", "a.test")
	id := d.waiting(t, k, r)
	_, err := d.Approve(t.Context(), id, person)
	wantKind(t, err, fault.Denied, "certificate_revoked")
	v, err := d.Show(t.Context(), id)
	noErr(t, err)
	if v.State != store.RequestRejected || v.CertificateID != "" {
		t.Errorf("%+v", v)
	}
	d.holds(t)
}
