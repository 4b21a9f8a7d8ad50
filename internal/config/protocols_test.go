package config

import (
	"crypto/x509"
	"encoding/asn1"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/strictyaml"
)

// A CA that may not certify responders needs signer: issuer (rule X8).
func TestCheckOCSPSignerBelowTheIssuersUsages(t *testing.T) {
	t.Parallel()
	chain, err := ReadChain(filepath.Join(newLab(t).dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	narrow := *chain[0]
	narrow.Extensions = nil
	for _, e := range chain[0].Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			e.Value = []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1} // serverAuth alone
		}
		narrow.Extensions = append(narrow.Extensions, e)
	}
	mute := *chain[0]
	mute.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for name, c := range map[string]struct {
		ca     *x509.Certificate
		signer string
		want   string
	}{
		"delegated":                       {chain[0], SignerDelegated, ""},
		"issuer":                          {chain[0], SignerIssuer, ""},
		"delegated, usage forbidden":      {&narrow, SignerDelegated, "cannot certify a responder"},
		"issuer, usage forbidden":         {&narrow, SignerIssuer, ""},
		"issuer without digitalSignature": {&mute, SignerIssuer, "lacks digitalSignature"},
	} {
		d := &strictyaml.Document{}
		checkResponder(d, "issuers[0].ocsp", Issuer{ID: "x", OCSP: OCSP{Signer: c.signer}}, []*x509.Certificate{c.ca, chain[1]})
		text := ""
		if err := d.Err(); err != nil {
			text = err.Error()
		}
		if (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

// TestCheckEST changes one thing of dev's EST endpoint and reads what check says.
func TestCheckEST(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ to, key, what string }{
		"label of an operation": {"est:\n      label: cacerts", "endpoints[2].est", "name of an operation"},
		"label of two segments": {"est:\n      label: a/b", "endpoints[2].est.label", "lower-case"},
		"unknown way":           {"est:\n      auth: biometric", "endpoints[2].est", "want one of either, both"},
		"unknown names":         {"est:\n      own_names: some", "endpoints[2].est", "want one of same, serial, any"},
		"unknown key rule":      {"est:\n      renew_key: old", "endpoints[2].est", "want one of any, new, same"},
		"unknown challenge":     {"est:\n      challenge_password: otp", "endpoints[2].est", "want one of binding"},
		"negative grace":        {"est:\n      grace: -1h", "endpoints[2].est", "negative"},
		"missing anchors":       {"est:\n      anchors: gone.pem", "endpoints[2].est", "gone.pem"},
		"anchors that are none": {"est:\n      anchors: root.crl", "endpoints[2].est", "parse chain"},
		"missing rollover":      {"est:\n      rollover: gone.pem", "endpoints[2].est", "gone.pem"},
		"unknown profile":       {"est:\n      accept_profiles: [devise]", "endpoints[2].est.accept_profiles[0]", `did you mean "device"?`},
		"RA without cmcRA":      {"est:\n      ra_profiles: [device]", "endpoints[2].est.ra_profiles[0]", "lacks the extended key usage cmcRA"},
		"account rule":          {"external_account: optional\n    est:\n      label: x", "endpoints[2].external_account", "only ACME"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.change(t, "est:\n      serverkeygen: true", tc.to)
			_, err := Load(l.file())
			if err == nil || !strings.Contains(err.Error(), tc.key) || !strings.Contains(err.Error(), tc.what) {
				t.Errorf("got %v", err)
			}
		})
	}
	l := newLab(t)
	l.write(t, l.read(t)+"profiles:\n  vetted: {approval: true, subject: {fields: [{attribute: CN}]}, ext_key_usage: [clientAuth]}\n")
	l.change(t, "      - device\n    est:", "      - device\n      - vetted\n    est:")
	if _, err := Load(l.file()); err == nil || !strings.Contains(err.Error(), "endpoints[2].est.serverkeygen") {
		t.Errorf("serverkeygen with approval: %v", err)
	}
	l = newLab(t)
	l.change(t, "external_account: optional", "external_account: optional\n    est:\n      label: x")
	if _, err := Load(l.file()); err == nil || !strings.Contains(err.Error(), "only for protocol est") {
		t.Errorf("EST options of an ACME endpoint: %v", err)
	}
	l = newLab(t)
	l.change(t, "est:\n      serverkeygen: true", "est:\n      serverkeygen: true\n      grace: 720h\n      anchors: root.pem\n      rollover: root.pem\n      label: plant-4")
	cfg, err := Load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	c, err := cfg.ESTConfig()
	if err != nil || len(c.Endpoints) != 1 || len(c.Endpoints[0].Anchors) != 1 ||
		len(c.Endpoints[0].Rollover) != 1 || c.Endpoints[0].Grace.Hours() != 720 {
		t.Errorf("%+v %v", c, err)
	}
}

// TestESTServerProfileFits: an issuer that may not sign cmcRA still gets its EST
// listener a certificate.
func TestESTServerProfileFits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cfg, err := Load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listeners.EST.TLS.Profile != ESTServerProfile || cfg.Listeners.HTTPS.TLS.Profile != ServerProfile {
		t.Errorf("profiles %q %q", cfg.Listeners.EST.TLS.Profile, cfg.Listeners.HTTPS.TLS.Profile)
	}
	l.change(t, "profiles:\n", "profiles:\n") // the file is as it was
	text := strings.Replace(l.read(t), "endpoints:\n", "profiles:\n  est-server:\n    ext_key_usage: [serverAuth, ipsecIKE]\n    san: {dns: {}, min: 1}\nendpoints:\n", 1)
	l.write(t, text)
	cfg, err = Load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listeners.EST.TLS.Profile != ServerProfile {
		t.Errorf("profile %q does not nest in the issuer", cfg.Listeners.EST.TLS.Profile)
	}
}

// TestCheckWebhooks changes one thing of a good webhook.
func TestCheckWebhooks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ from, to, key, what string }{
		"plain http":       {"url: http://127.0.0.1:1/ask", "url: http://mdm.example.org/ask", "webhooks[0]", "want an https URL"},
		"name":             {"- name: mdm", "- name: M D M", "webhooks[0].name", "lower-case"},
		"unknown":          {"webhook: mdm", "webhook: mdn", "endpoints[3].scep.webhook", `did you mean "mdm"?`},
		"key itself":       {"key: file:secrets/mdm", "key: hunter2", "webhooks[0]", "want a reference"},
		"short key":        {"key: file:secrets/mdm", "key: file:secrets/short", "webhooks[0]", "want 32 or more"},
		"missing CA":       {"key: file:secrets/mdm", "key: file:secrets/mdm\n    ca: gone.pem", "webhooks[0]", "gone.pem"},
		"patience":         {"key: file:secrets/mdm", "key: file:secrets/mdm\n    timeout: 1m", "webhooks[0]", "15s at most"},
		"twice the same":   {"  - name: mdm\n", "  - name: mdm\n    url: http://127.0.0.1:1/ask\n    key: file:secrets/mdm\n  - name: mdm\n", "webhooks[1].name", "defined twice"},
		"notify elsewhere": {"notify_url: http://127.0.0.1:1/told", "notify_url: ftp://x", "webhooks[0]", "notify_url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.withWebhook(t, "http://127.0.0.1:1")
			l.change(t, tc.from, tc.to)
			_, err := Load(l.file())
			if err == nil || !strings.Contains(err.Error(), tc.key) || !strings.Contains(err.Error(), tc.what) {
				t.Errorf("got %v", err)
			}
		})
	}
	l := newLab(t)
	l.withWebhook(t, "https://mdm.test")
	l.change(t, "key: file:secrets/mdm", "key: file:secrets/mdm\n    ca: root.pem")
	cfg, err := Load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	digest := cfg.Digest()
	l.change(t, "ca: root.pem", "ca: chain.pem")
	if cfg, err = Load(l.file()); err != nil || cfg.Digest() != digest {
		t.Errorf("%v: the digest depends on a path", err)
	}
}
