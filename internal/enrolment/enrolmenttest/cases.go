package enrolmenttest

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// testCase is one renewal; what is nil is as usual.
type testCase struct {
	name        string // begins with its row
	rules       func(*enrolment.Rules)
	certificate func(*world) *x509.Certificate
	change      func(*world) // after the certificate was issued
	meanwhile   func(*world) // while the renewal waits for a person; nil if it needs none
	reason      string       // of the refusal; empty is a certificate of the same names
}

func other(r issuance.Request) func(*world) *x509.Certificate {
	return func(w *world) *x509.Certificate { return w.issue(r) }
}

// fullWidth is a common name that RFC 5280, section 7.1, takes for device-9.
const fullWidth = "\uff44\uff45\uff56\uff49\uff43\uff45-\uff19"

var cases = slices.Concat(holders, credentials, spellings, waiting)

var holders = []testCase{
	{name: "FS5 renews"},
	{name: "FS5 issuer of another endpoint", certificate: func(w *world) *x509.Certificate {
		w.CA.AddIssuer(w.t, w.Store, w.Now, "ca-b")
		return w.issue(issuance.Request{Issuer: "ca-b"})
	}, reason: "certificate_other_issuer"},
	{name: "FS5 former issuer of this endpoint", certificate: func(w *world) *x509.Certificate {
		w.CA.AddIssuer(w.t, w.Store, w.Now, "ca-b")
		return w.issue(issuance.Request{Issuer: "ca-b", Endpoint: "here"})
	}},
	{
		name: "FS5 former generation of the pool", rules: func(r *enrolment.Rules) { r.Issuer = "pool" },
		change: func(w *world) {
			w.CA.AddIssuer(w.t, w.Store, w.Now, "ca-2")
			w.CA.Change(func(r *issuance.Rules) {
				var pool []*ca.CA
				for _, id := range []string{"ca", "ca-2"} {
					member := *r.CAs.Get(id)
					member.Pool = "pool"
					if id == "ca" {
						member.Stage = ca.Draining
					}
					pool = append(pool, &member)
				}
				r.CAs = ca.NewSet(pool...)
			})
		},
	},
	{name: "FS5 profile that is not offered", certificate: other(issuance.Request{
		Profile: "workload", Names: []pki.Identifier{{Type: pki.URI, Value: "spiffe://a.test/w"}},
	}), reason: "certificate_other_profile"},
	{
		name:   "FS5 revoked",
		change: func(w *world) { w.revoke(w.cert, pki.Superseded) },
		reason: "certificate_revoked",
	},
	{
		name:   "FS5 on hold",
		change: func(w *world) { w.revoke(w.cert, pki.CertificateHold) },
		reason: "certificate_revoked",
	},
	{
		name:   "FS5 compromised key",
		change: func(w *world) { w.compromise(w.key) },
		reason: "certificate_key_compromised",
	},
	{
		name:   "FS5 known key",
		change: func(w *world) { w.know(w.key) },
		reason: "certificate_key_compromised",
	},
	{
		name:   "FS5 compromised new key",
		change: func(w *world) { w.compromise(w.next) },
		reason: "compromised_key",
	},
	{
		name:   "FS5 known new key",
		change: func(w *world) { w.know(w.next) },
		reason: "known_key",
	},
	{
		name:   "FS5 expired",
		change: func(w *world) { w.Sleep(w.cert.NotAfter.Sub(w.Now()) + time.Minute) },
		reason: "certificate_expired",
	},
	{
		name: "FS5 within the grace", rules: func(r *enrolment.Rules) { r.Grace = time.Hour },
		change: func(w *world) { w.Sleep(w.cert.NotAfter.Sub(w.Now()) + time.Minute) },
	},
	{
		name: "FS5 after the grace", rules: func(r *enrolment.Rules) { r.Grace = time.Hour },
		change: func(w *world) { w.Sleep(w.cert.NotAfter.Sub(w.Now()) + 2*time.Hour) }, reason: "certificate_expired",
	},
	{
		name:   "FS5 not yet valid",
		change: func(w *world) { w.Sleep(w.cert.NotBefore.Sub(w.Now()) - time.Minute) },
		reason: "certificate_not_yet_valid",
	},
}

var credentials = []testCase{
	{name: "FS17 account valid", certificate: (*world).account},
	{
		name: "FS17 account deactivated", certificate: (*world).account,
		change: (*world).deactivate, reason: "certificate_account",
	},
	{
		name: "FS17 account revoked (FS18)", certificate: (*world).account,
		change: (*world).revokeAccount, reason: "certificate_account",
	},
	{name: "FS17 account deactivated after a renewal", certificate: (*world).account, change: func(w *world) {
		w.follow()
		w.deactivate()
	}, reason: "certificate_account"},
	{
		name:        "FS17 account unknown",
		certificate: other(issuance.Request{Protocol: "acme", Requester: "account:none"}),
		reason:      "certificate_account",
	},
	{
		name: "FS17 protocol accepted", rules: func(r *enrolment.Rules) { r.Protocols = []string{"est", "acme"} },
		certificate: (*world).account, change: (*world).follow,
	},
	{
		name:        "FS17 protocol not accepted",
		rules:       func(r *enrolment.Rules) { r.Protocols = []string{"est", "scep", "operator"} },
		certificate: (*world).account, reason: "certificate_other_protocol",
	},
	{
		name: "FS17 the server's own", rules: func(r *enrolment.Rules) { r.Protocols = enrolment.Protocols },
		certificate: other(issuance.Request{Protocol: "server", Requester: "server"}),
		reason:      "certificate_other_protocol",
	},
	{name: "FS13 counts by line", change: func(w *world) {
		for range limit.Defaults().Enrolments.Count {
			w.follow() // each time with another certificate, key and spelling
			w.write(0x0c, fullWidth)
		}
	}, reason: "limited"},
	{name: "FS13 another line of the same names", change: func(w *world) {
		for range limit.Defaults().Enrolments.Count {
			w.follow()
		}
		subject := pki.CommonNameOnly("DEVICE-9")
		names := []pki.Identifier{{Type: pki.DNS, Value: "a.test"}, {Type: pki.DNS, Value: "b.test"}}
		w.cert = w.issue(issuance.Request{Subject: &subject, Names: names})
	}, reason: "limited"},
	{name: "FS13 another device", change: func(w *world) {
		for range limit.Defaults().Enrolments.Count {
			w.follow()
		}
		subject := pki.CommonNameOnly("device-8")
		w.cert = w.issue(issuance.Request{Subject: &subject})
		w.csr.RawSubject = w.cert.RawSubject
	}},
}

var spellings = []testCase{
	{name: "FR9 PrintableString and case", change: func(w *world) { w.write(0x13, "DEVICE-9") }},
	{
		name:   "FR9 another subject",
		change: func(w *world) { w.write(0x0c, "device-8") },
		reason: "subject_differs",
	},
	{name: "FR9 names in another order", change: func(w *world) { w.csr.DNSNames = []string{"A.test", "b.test"} }},
	{name: "FR9 no names", change: func(w *world) { w.csr.DNSNames = nil }},
	{
		name:   "FR9 a name less",
		change: func(w *world) { w.csr.DNSNames = []string{"a.test"} },
		reason: "names_differ",
	},
	{
		name:   "FR9 another name",
		change: func(w *world) { w.csr.DNSNames = []string{"a.test", "c.test"} },
		reason: "names_differ",
	},
	{name: "FS15 full width", change: func(w *world) { w.write(0x0c, fullWidth) }},
	{name: "FS15 what the profile adds", certificate: func(w *world) *x509.Certificate {
		w.swapDevice(profile.Field{Attribute: "O", Fixed: "Example"}, profile.Field{Attribute: "CN"})
		return w.issue(issuance.Request{})
	}, change: func(w *world) { w.write(0x0c, "Device-9") }},
	{
		name: "FS15 the profile has changed",
		change: func(w *world) {
			w.swapDevice(profile.Field{Attribute: "O", Fixed: "Example"}, profile.Field{Attribute: "CN"})
		},
		reason: "renewal_profile",
	},
	{name: "FS15 the profile refuses the subject", change: func(w *world) {
		w.swapDevice(profile.Field{Attribute: "CN", Match: []string{"server-*"}})
	}, reason: "subject_value"},
}

var waiting = []testCase{
	{name: "FS7 nothing changed", meanwhile: func(*world) {}},
	{
		name:      "FS7 key compromised",
		meanwhile: func(w *world) { w.revoke(w.cert, pki.KeyCompromise) }, reason: "certificate_revoked",
	},
	{
		name:      "FS7 superseded",
		meanwhile: func(w *world) { w.revoke(w.cert, pki.Superseded) }, reason: "certificate_revoked",
	},
	{
		name:      "FS7 on hold",
		meanwhile: func(w *world) { w.revoke(w.cert, pki.CertificateHold) }, reason: "certificate_revoked",
	},
	{name: "FS7 on hold and released", meanwhile: func(w *world) {
		w.revoke(w.cert, pki.CertificateHold)
		w.must(w.Store.Release(w.t.Context(), w.row(w.cert).ID, w.Now(), store.Event{At: w.Now()}))
	}},
	{
		name:      "FS7 known key",
		meanwhile: func(w *world) { w.know(w.key) }, reason: "certificate_key_compromised",
	},
	{
		name:      "FS7 known new key",
		meanwhile: func(w *world) { w.know(w.next) }, reason: "known_key",
	},
	{
		name: "FS7 account deactivated", certificate: (*world).account,
		meanwhile: (*world).deactivate, reason: "certificate_account",
	},
	{
		name: "FS7 account revoked (FS18)", certificate: (*world).account,
		meanwhile: (*world).revokeAccount, reason: "certificate_account",
	},
	{
		name:      "FS7 expired",
		change:    func(w *world) { w.Sleep(w.cert.NotAfter.Sub(w.Now()) - time.Minute) },
		meanwhile: func(w *world) { w.Sleep(2 * time.Minute) }, reason: "certificate_expired",
	},
}

// swapDevice gives the profile device other fields.
func (w *world) swapDevice(fields ...profile.Field) {
	w.t.Helper()
	cfg := profile.BuiltIn()["device"]
	cfg.Subject.Fields = fields
	p, err := profile.Compile("device", cfg)
	w.must(err)
	w.CA.Change(func(r *issuance.Rules) { r.Profiles["device"] = p })
}
