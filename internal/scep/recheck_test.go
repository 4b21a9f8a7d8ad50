package scep

import (
	"testing"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// wants makes device a profile that a person approves.
func (e *env) wants(t testing.TB) {
	t.Helper()
	cfg := profile.BuiltIn()["device"]
	cfg.Approval = true
	p, err := profile.Compile("device", cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.issuing.Change(func(r *issuance.Rules) { r.Profiles["device"] = p })
}

func (e *env) waits(t testing.TB) string {
	t.Helper()
	all, err := e.approvals.List(t.Context(), store.RequestSearch{Status: store.RequestPending, Limit: 2})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d requests wait, %v", len(all), err)
	}
	return all[0].ID
}

// TestFS7_PolledRenewal: who polls for a renewal hears that its certificate was
// revoked meanwhile.
func TestFS7_PolledRenewal(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d, next := newDevice(t, 0).enrol(t, e, "dev-1"), newDevice(t, 1)
	e.wants(t)
	send := func(typ string, content []byte) rep {
		return d.read(t, e.post(d.wrap(t, e, message{typ: typ, transaction: "renew", content: content})))
	}
	if r := send("17", next.csr(t, "dev-1", "")); r.status != pkiPending {
		t.Fatalf("%+v", r)
	}
	poll := issuerAndSubject(t, e, "dev-1")
	if r := send("20", poll); r.status != pkiPending {
		t.Fatalf("%+v", r)
	}
	row, err := e.pipeline.Lookup(t.Context(), d.cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	r := issuance.Revocation{CertificateID: row.ID, Reason: pki.KeyCompromise, Requester: "uid:0", BlockKey: true}
	if err := e.pipeline.Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantFail(t, send("20", poll), badRequest, "certificate_revoked")
}

func TestFS7_ChallengeDisabled(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(ep *Endpoint) { ep.Secret = "" })
	e.wants(t)
	made, secret, err := e.challenges.Create(t.Context(), credential.NewSCEPChallenge{
		CreatedBy: "uid:0", Binding: pki.Binding{AnyName: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := newDevice(t, 0)
	ask := message{typ: "19", transaction: "t", content: d.csr(t, "dev-1", secret)}
	if r := d.read(t, e.post(d.wrap(t, e, ask))); r.status != pkiPending {
		t.Fatalf("%+v", r)
	}
	if _, err := e.challenges.Disable(t.Context(), made.ID, "uid:0", ""); err != nil {
		t.Fatal(err)
	}
	_, err = e.approvals.Approve(t.Context(), e.waits(t), approval.Actor{Name: "uid:1"})
	if !fault.Is(err, fault.Denied) || fault.Of(err).Reason != "scep_challenge_disabled" {
		t.Errorf("approved: %v", err)
	}
}

// TestFS7_ProofGone: an endpoint that changed while a request waits.
func TestFS7_ProofGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secret string // in the request
		change func(*Endpoint)
		reason string
	}{
		"nothing":                      {testSecret, func(*Endpoint) {}, ""},
		"no challenge of its own":      {testSecret, func(ep *Endpoint) { ep.Secret = "" }, "proof_gone"},
		"nobody is judged by a person": {"", func(ep *Endpoint) { ep.Manual = false }, "proof_gone"},
		"another profile": {testSecret, func(ep *Endpoint) {
			ep.Profiles, ep.DefaultProfile = []string{"waiting"}, "waiting"
		}, "profile_gone"},
		"another name": {testSecret, func(ep *Endpoint) { ep.Name = "other" }, "endpoint_gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var now Endpoint
			e := newEnv(t, func(ep *Endpoint) { ep.Manual = true; now = *ep })
			e.wants(t)
			d := newDevice(t, 0)
			ask := message{typ: "19", transaction: "t", content: d.csr(t, "dev-1", c.secret)}
			r := d.read(t, e.post(d.wrap(t, e, ask)))
			if r.status != pkiPending {
				t.Fatalf("%+v", r)
			}
			c.change(&now)
			if err := e.server.Swap([]Endpoint{now}); err != nil {
				t.Fatal(err)
			}
			_, err := e.approvals.Approve(t.Context(), e.waits(t), approval.Actor{Name: "uid:1"})
			if (err == nil) != (c.reason == "") || err != nil && fault.Of(err).Reason != c.reason {
				t.Errorf("approved: %v, want the reason %q", err, c.reason)
			}
		})
	}
}

// TestFS7_WebhookGone: what one webhook let in does not count where another one, or
// none, judges by now.
func TestFS7_WebhookGone(t *testing.T) {
	t.Parallel()
	for now, want := range map[string]bool{"mdm": true, "other": false, "": false} {
		ep := &endpoint{}
		ep.Webhook = now
		if got := ep.takes(credential.KindWebhook + ":mdm"); got != want {
			t.Errorf("with the webhook %q: %t", now, got)
		}
	}
}
