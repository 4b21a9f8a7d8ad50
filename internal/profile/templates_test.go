package profile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// The six templates hold what the tables of the AWS guide say of them, with RSA
// keys as with elliptic curves (G2-36, G2-18).
func TestG2_36_TheSixTemplates(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	authority := "digitalSignature keyCertSign cRLSign"
	for name, want := range map[string]string{
		"RootCACertificate/V1":                     "CA:true path:-1 usage:" + authority + " eku:",
		"SubordinateCACertificate_PathLen0/V1":     "CA:true path:0 usage:" + authority + " eku:",
		"SubordinateCACertificate_PathLen1/V1":     "CA:true path:1 usage:" + authority + " eku:",
		"SubordinateCACertificate_PathLen2/V1":     "CA:true path:2 usage:" + authority + " eku:",
		"SubordinateCACertificate_PathLen3/V1":     "CA:true path:3 usage:" + authority + " eku:",
		"EndEntityCertificate/V1":                  "CA:false path:-1 usage:digitalSignature keyEncipherment eku:serverAuth clientAuth",
		"EndEntityCertificate/V1 with an EC key":   "CA:false path:-1 usage:digitalSignature eku:serverAuth clientAuth",
		"RootCACertificate/V1 with an EC key":      "CA:true path:-1 usage:" + authority + " eku:",
		"SubordinateCACertificate_PathLen4/V1":     "none",
		"SubordinateCACertificate_PathLen0/V2":     "none",
		"SubordinateCACertificate_PathLen0/V1 new": "none",
	} {
		plain, onCurve := strings.CutSuffix(name, " with an EC key")
		config, there := BuiltIn()[plain]
		if !there {
			if want != "none" {
				t.Errorf("%s is missing", name)
			}
			continue
		}
		p, err := Compile(plain, config)
		if err != nil {
			t.Fatal(err)
		}
		subject := pki.Name{{{OID: pki.OIDOrganization, Value: "Example"}}, {{OID: pki.OIDCommonName, Value: "Any name"}}}
		r := Request{PublicKey: key.Public(), Subject: &subject}
		if onCurve {
			r.PublicKey = ec.Public()
		}
		tmpl, err := p.Apply(r, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var ekus []string
		for _, oid := range tmpl.ExtKeyUsage {
			ekus = append(ekus, pki.EKUName(oid))
		}
		got := fmt.Sprintf("CA:%v path:%d usage:%s eku:%s", tmpl.CA, tmpl.MaxPathLen, strings.Join(tmpl.KeyUsageNames(), " "), strings.Join(ekus, " "))
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
