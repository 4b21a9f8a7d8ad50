package issuance

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// TestFS6_WhatACredentialHolds: a credential holds its profiles, its subject and its names,
// and each refusal says which of them it was.
func TestFS6_WhatACredentialHolds(t *testing.T) {
	t.Parallel()
	subject := func(s string) *pki.Name {
		n, err := pki.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		return &n
	}
	dns := func(name string) []pki.Identifier { return []pki.Identifier{{Type: pki.DNS, Value: name}} }
	named := Bound{Kind: "est_user", Profiles: []string{"device"}, Binding: pki.Binding{Names: []string{"a.test"}}}
	one := Bound{Kind: "scep_challenge", Binding: pki.Binding{Subject: "CN=router-7", AnyName: true}}
	eab := Bound{Kind: boundEAB, Profiles: []string{"tls-server"}, Binding: pki.Binding{AnyName: true}}
	for name, c := range map[string]struct {
		b       *Bound
		profile string
		subject *pki.Name
		names   []pki.Identifier
		reason  string // "" where it holds
		words   string
	}{
		"none":           {nil, "device", subject("CN=x"), dns("x.test"), "", ""},
		"its own":        {&named, "device", subject("CN=a.test"), dns("a.test"), "", ""},
		"no subject yet": {&named, "device", nil, dns("a.test"), "", ""},
		"another profile": {&named, "tls-server", nil, dns("a.test"), "est_user_wrong_profile",
			`profile "tls-server"`},
		"another name": {&named, "device", nil, dns("b.test"), "est_user_wrong_name", "b.test"},
		"a subject of its own": {&named, "device", subject("CN=dc1"), nil, "est_user_wrong_subject",
			"does not cover the subject"},
		"its subject": {&one, "device", subject("CN=router-7"), dns("any.test"), "", ""},
		"another subject": {&one, "device", subject("CN=router-8"), nil, "scep_challenge_wrong_subject",
			"is for another subject"},
		"EAB":                  {&eab, "tls-server", subject(""), dns("a.test"), "", ""},
		"EAB, another profile": {&eab, "device", nil, nil, "eab_profile", "EAB key"},
	} {
		err := c.b.Check(c.profile, c.subject, c.names)
		switch {
		case c.reason == "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || fault.Of(err).Reason != c.reason || !strings.Contains(fault.Text(err), c.words):
			t.Errorf("%s: %v, want %s and %q", name, err, c.reason, c.words)
		}
	}
}
