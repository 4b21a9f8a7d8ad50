package est

import (
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFS7_FirstEnrolment: what proved a first enrolment has to hold when a person
// decides.
func TestFS7_FirstEnrolment(t *testing.T) {
	t.Parallel()
	offers := func(auth Auth, profiles ...string) Endpoint {
		return Endpoint{
			Name: "est", Issuer: "ca", Profiles: profiles, Auth: auth, DefaultProfile: profiles[0],
			RAProfiles: []string{"ra"}, AcceptProfiles: []string{"device"}, OwnNames: NamesAny,
		}
	}
	password := func(e *env) *device { return e.withPassword(t, credential.NewESTUser{Name: "u"}) }
	with := func(e *env, name string, d *device) *device {
		d.key = issuancetest.NewKey(t)
		d.cert = e.issue(t, name, newCSR(t, d.key, "holder"))
		return d
	}
	holder := func(e *env) *device { return with(e, "device", e.anonymous()) }
	ra := func(e *env) *device { return with(e, "ra", e.anonymous()) }
	both := func(e *env) *device { return with(e, "device", password(e)) }
	revoke := func(e *env, d *device) { e.revoke(t, e.row(t, d.cert.Raw).ID, pki.KeyCompromise) }
	disable := func(e *env, _ *device) {
		if _, err := e.users.Disable(t.Context(), "u", "uid:0", ""); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(ep ...Endpoint) func(*env, *device) {
		return func(e *env, _ *device) {
			if err := e.server.Swap(Config{Endpoints: ep}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		auth      Auth
		who       func(*env) *device
		meanwhile func(*env, *device)
		reason    string
	}{
		"user disabled": {AuthEither, password, disable, "est_user_disabled"},
		"certificate that logged in": {
			AuthCertificate, holder, revoke, "certificate_revoked",
		},
		"registration authority": {
			AuthCertificate, ra, revoke, "certificate_revoked",
		},
		"no registration authority any more": {
			AuthCertificate, ra,
			func(e *env, _ *device) {
				ep := offers(AuthCertificate, "waiting")
				ep.RAProfiles, ep.AcceptProfiles = nil, []string{"ra"}
				swap(ep)(e, nil)
			}, "certificate_other_profile",
		},
		"both, the certificate":         {AuthBoth, both, revoke, "certificate_revoked"},
		"both, the password":            {AuthBoth, both, disable, "est_user_disabled"},
		"password beside a certificate": {AuthEither, both, revoke, ""},
		"passwords not taken any more":  {AuthEither, password, swap(offers(AuthCertificate, "waiting")), "proof_gone"},
		"certificates not taken any more": {
			AuthEither, holder, swap(offers(AuthBasic, "waiting")), "proof_gone",
		},
		"both wanted by now": {AuthEither, password, swap(offers(AuthBoth, "waiting")), "proof_gone"},
		"profile gone":       {AuthEither, password, swap(offers(AuthEither, "device")), "profile_gone"},
		"endpoint gone":      {AuthEither, password, swap(), "endpoint_gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, offers(c.auth, "waiting"))
			d := c.who(e)
			want(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "new")), http.StatusAccepted)
			all, err := e.approvals.List(t.Context(), store.RequestSearch{Status: store.RequestPending, Limit: 2})
			if err != nil || len(all) != 1 {
				t.Fatalf("%d requests wait, %v", len(all), err)
			}
			c.meanwhile(e, d)
			v, err := e.approvals.Show(t.Context(), all[0].ID)
			if err != nil || v.Preview.Allowed != (c.reason == "") || (len(v.Changes) == 0) != (c.reason == "") {
				t.Errorf("presented: %+v, %v", v, err)
			}
			_, err = e.approvals.Approve(t.Context(), all[0].ID, approval.Actor{Name: "uid:1"})
			if (err == nil) != (c.reason == "") || err != nil && fault.Of(err).Reason != c.reason {
				t.Errorf("approved: %v, want the reason %q", err, c.reason)
			}
		})
	}
}

// TestFS7_Anchor: the certificate of another CA is judged again too.
func TestFS7_Anchor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(*env, *device, Endpoint) error
		reason    string
	}{
		"nothing": {func(*env, *device, Endpoint) error { return nil }, ""},
		"anchor taken out": {func(e *env, _ *device, ep Endpoint) error {
			ep.Anchors = nil
			return e.server.Swap(Config{Endpoints: []Endpoint{ep}})
		}, "certificate_unknown"},
		"another anchor": {func(e *env, _ *device, ep Endpoint) error {
			ep.Anchors = []*x509.Certificate{e.root}
			return e.server.Swap(Config{Endpoints: []Endpoint{ep}})
		}, "certificate_untrusted"},
		"known key": {func(e *env, d *device, _ Endpoint) error {
			hash, err := pki.HashKey(d.key.Public())
			if err != nil {
				return err
			}
			var list pki.KeyList
			err = list.Read(strings.NewReader(hash.String()), pki.KeyListSPKI)
			e.ca.Change(func(r *issuance.Rules) { r.KnownKeys = list })
			return err
		}, "certificate_key_compromised"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			maker := newFactory(t, e)
			ep := Endpoint{
				Name: "est", Issuer: "ca", Profiles: []string{"waiting"}, Auth: AuthCertificate,
				Anchors: []*x509.Certificate{maker.root}, AnchorNames: NamesAny,
			}
			if err := e.server.Swap(Config{Endpoints: []Endpoint{ep}}); err != nil {
				t.Fatal(err)
			}
			d := maker.make("77", nil)
			want(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "new")), http.StatusAccepted)
			all, err := e.approvals.List(t.Context(), store.RequestSearch{Status: store.RequestPending, Limit: 2})
			if err != nil || len(all) != 1 {
				t.Fatalf("%d requests wait, %v", len(all), err)
			}
			if err := c.meanwhile(e, d, ep); err != nil {
				t.Fatal(err)
			}
			_, err = e.approvals.Approve(t.Context(), all[0].ID, approval.Actor{Name: "uid:1"})
			if (err == nil) != (c.reason == "") || err != nil && fault.Of(err).Reason != c.reason {
				t.Errorf("approved: %v, want the reason %q", err, c.reason)
			}
		})
	}
}

func (e *env) row(t testing.TB, der []byte) *store.Certificate {
	t.Helper()
	row, err := e.pipeline.Lookup(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return row
}
