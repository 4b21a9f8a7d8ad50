package approval_test

import (
	"encoding/pem"
	"log/slog"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/verify"
)

// fixture is a CA whose profile "asked" wants a person, with a clock that a test
// moves.
type fixture struct {
	*approval.Queue
	srv   *admintest.Server
	store *store.Store
	ahead atomic.Int64
}

func (d *fixture) now() time.Time             { return time.Now().Add(time.Duration(d.ahead.Load())) }
func (d *fixture) advance(span time.Duration) { d.ahead.Add(int64(span)) }

func newFixture(t *testing.T, st *store.Store) *fixture {
	t.Helper()
	d := &fixture{srv: admintest.Start(t, st, "web-a-1"), store: st}
	rules := *d.srv.Pipeline.Rules()
	d.srv.Pipeline = issuance.New(issuance.Config{Store: st, Node: "node-2", Now: d.now, Log: slog.New(slog.DiscardHandler)})
	d.srv.Pipeline.Swap(rules)
	d.setProfile(t, func(*profile.Config) {})
	d.Queue = approval.New(st, d.srv.Pipeline, d.now, slog.New(slog.DiscardHandler))
	return d
}

// setProfile compiles "asked" anew.
func (d *fixture) setProfile(t *testing.T, change func(*profile.Config)) {
	t.Helper()
	cfg := profile.BuiltIn()["tls-server"]
	cfg.Approval = true
	change(&cfg)
	p, err := profile.Compile("asked", cfg)
	if err != nil {
		t.Fatal(err)
	}
	rules := *d.srv.Pipeline.Rules()
	rules.Profiles = maps.Clone(rules.Profiles)
	rules.Profiles["asked"] = p
	d.srv.Pipeline.Swap(rules)
}

func (d *fixture) holds(t *testing.T) {
	t.Helper()
	report, err := verify.CheckCA(t.Context(), d.store, verify.Config{Now: d.now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("CheckCA: %s", f)
	}
}

// ask is a request of a device, with the key by which it is recognised.
func ask(t *testing.T, profileName, name string) (approval.Key, issuance.Request) {
	t.Helper()
	block, _ := pem.Decode([]byte(admintest.CSR(t, name)))
	csr, err := pki.ParseCSR(t.Context(), block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return approval.Key{Endpoint: "devices", Identity: "est_user:device-7", CSR: csr.Raw, TransactionID: "simpleenroll", Keep: approval.KeepEST},
		issuance.Request{
			Endpoint: "devices", Protocol: "est", Profile: profileName, Issuer: "web-a-1", CSR: csr,
			Requester: "est_user:device-7", RequestID: "r-1",
		}
}

func wantKind(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	if !fault.Is(err, kind) || fault.Of(err).Reason != reason {
		t.Errorf("got %v because %q, want %s because %q", err, fault.Of(err).Reason, kind, reason)
	}
}

func noErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var person = approval.Actor{Name: "uid:1000", RequestID: "r-2"}

// waiting asks for something that a person has to decide and returns its id.
func (d *fixture) waiting(t *testing.T, k approval.Key, r issuance.Request) string {
	t.Helper()
	_, err := d.Enrol(t.Context(), k, r)
	wantKind(t, err, fault.Pending, "approval_pending")
	if f := fault.Of(err); f.RetryAfter <= 0 || f.Identifier.Type != "request" {
		t.Fatalf("%+v does not say when to come again, or for which request", f)
	}
	return fault.Of(err).Identifier.Value
}

func (d *fixture) actions(t *testing.T) map[string]int {
	t.Helper()
	events, _, err := d.store.AuditTail(t.Context(), 500, "")
	noErr(t, err)
	n := map[string]int{}
	for _, e := range events {
		n[e.Action]++
	}
	return n
}
