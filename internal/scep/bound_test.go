package scep

import (
	"strings"
	"testing"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// shaped puts another profile in the place of device.
func (e *env) shaped(t *testing.T, change func(*profile.Config)) {
	t.Helper()
	cfg := profile.BuiltIn()["device"]
	cfg.SAN.DNS.Wildcard, cfg.SAN.UPN = true, &profile.Mailboxes{}
	if change != nil {
		change(&cfg)
	}
	p, err := profile.Compile("device", cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.issuing.Change(func(r *issuance.Rules) { r.Profiles["device"] = p })
}

func (e *env) challenge(t *testing.T, b pki.Binding) string {
	t.Helper()
	_, secret, err := e.challenges.Create(t.Context(), credential.NewSCEPChallenge{Binding: b})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// ask sends a PKCSReq in a transaction of its own.
func (d *device) ask(t *testing.T, e *env, cn, secret string, names ...pki.Identifier) rep {
	t.Helper()
	content := withChallenge(t, d.key, cn, secret, cbasn1.UTF8String, names...)
	return d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: store.NewID(), content: content})))
}

func dns(name string) pki.Identifier { return pki.Identifier{Type: pki.DNS, Value: name} }

// TestFS6_Challenge: a challenge, of its own or of the endpoint, is for the names that
// it is bound to.
func TestFS6_Challenge(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(ep *Endpoint) { ep.Challenge, ep.ChallengeNames = "file:x", []string{"CN=*", "*.seven.test"} })
	e.shaped(t, nil)
	d := newDevice(t, 0)
	host := e.challenge(t, pki.Binding{Names: []string{"router-7", "*.seven.test", "10.7.0.0/16"}})
	exact := e.challenge(t, pki.Binding{Subject: "CN=router-7"})
	for _, c := range []struct {
		secret, cn string
		names      []pki.Identifier
		reason     string // empty is success
	}{
		{host, "Router-7", []pki.Identifier{dns("*.seven.test"), {Type: pki.IP, Value: "10.7.0.1"}}, ""},
		{host, "router-8", nil, "scep_challenge_wrong_subject"},
		{host, "router-7.", nil, "scep_challenge_wrong_subject"},
		{host, "router-7", []pki.Identifier{dns("dc1")}, "scep_challenge_wrong_name"},
		{host, "router-7", []pki.Identifier{dns("*.test")}, "scep_challenge_wrong_name"},
		{host, "router-7", []pki.Identifier{{Type: pki.UPN, Value: "a@seven.test"}}, "scep_challenge_wrong_name"},
		{host, "router-7", []pki.Identifier{{Type: pki.IP, Value: "10.8.0.1"}}, "scep_challenge_wrong_name"},
		{exact, "router-7", []pki.Identifier{dns("router-7")}, ""},
		{exact, "router-7", []pki.Identifier{dns("dc1")}, "scep_challenge_wrong_name"},
		{exact, "router-8", nil, "scep_challenge_wrong_subject"},
		{testSecret, "a.seven.test", nil, ""},
		{testSecret, "dc1", nil, "scep_endpoint_wrong_subject"},
		{testSecret, "a.seven.test", []pki.Identifier{dns("dc1")}, "scep_endpoint_wrong_name"},
	} {
		r := d.ask(t, e, c.cn, c.secret, c.names...)
		if c.reason == "" && r.status != pkiSuccess {
			t.Errorf("%s %v: %+v", c.cn, c.names, r)
		} else if c.reason != "" {
			wantFail(t, r, badRequest, c.reason)
		}
	}
}

// TestFS6_ManualSees: where a person decides, what a challenge does not hold is for
// that person, and not by the challenge.
func TestFS6_ManualSees(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		e := newEnv(t, func(ep *Endpoint) {
			ep.Manual, ep.Challenge, ep.ChallengeNames = true, "file:x", []string{"router-7"}
		})
		e.shaped(t, func(c *profile.Config) { c.Approval = true })
		secret := testSecret
		if own {
			secret = e.challenge(t, pki.Binding{Names: []string{"router-7"}})
		}
		if r := newDevice(t, 0).ask(t, e, "dc1", secret); r.status != pkiPending {
			t.Fatalf("%+v", r)
		}
		row, err := e.store.Request(t.Context(), e.waits(t))
		if err != nil || !strings.HasPrefix(row.Identity, byNobody) {
			t.Errorf("asked by %+v, %v", row, err)
		}
	}
}

// TestFS6_DecidedLater: what waits is held against the binding again when it is decided.
func TestFS6_DecidedLater(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		e := newEnv(t, func(ep *Endpoint) { ep.Challenge, ep.ChallengeNames = "file:x", []string{"CN=*"} })
		e.shaped(t, func(c *profile.Config) { c.Approval = true })
		d, secret, reason := newDevice(t, 0), testSecret, "scep_endpoint_wrong_name"
		if own {
			secret, reason = e.challenge(t, pki.Binding{Subject: "CN=*"}), "scep_challenge_wrong_name"
		}
		wantFail(t, d.ask(t, e, "dc1", secret, dns("dc1")), badRequest, reason)
		if r := d.ask(t, e, "dc1", secret); r.status != pkiPending {
			t.Fatalf("%+v", r)
		}
		e.shaped(t, func(c *profile.Config) { c.Approval, c.Subject.CommonNameInSAN = true, true })
		_, err := e.approvals.Approve(t.Context(), e.waits(t), approval.Actor{Name: "uid:1"})
		if !fault.Is(err, fault.RejectedIdentifier) || fault.Of(err).Reason != reason {
			t.Errorf("approved: %v", err)
		}
	}
}

// TestFS6_OldChallenge: one of before there were bindings has its subject, and any
// other name.
func TestFS6_OldChallenge(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.shaped(t, nil)
	d, secret := newDevice(t, 0), e.challenge(t, pki.Binding{Subject: "CN=router-7", AnyName: true, Old: true})
	if r := d.ask(t, e, "router-7", secret, dns("dc1")); r.status != pkiSuccess {
		t.Errorf("%+v", r)
	}
	wantFail(t, d.ask(t, e, "router-8", secret), badRequest, "scep_challenge_wrong_subject")
	n, err := e.store.CountUnbound(t.Context(), e.now())
	if err != nil || n.SCEPChallenges != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}
