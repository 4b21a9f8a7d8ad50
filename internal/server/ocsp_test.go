package server

import (
	"crypto/x509"
	"encoding/asn1"
	"path/filepath"
	"strings"
	"testing"
)

// A CA that may not certify responders needs signer: issuer (rule X8).
func TestCheckOCSPSignerBelowTheIssuersUsages(t *testing.T) {
	t.Parallel()
	chain, err := readChain(filepath.Join(newLab(t).dir, "chain.pem"))
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
		"delegated":                       {chain[0], signerDelegated, ""},
		"issuer":                          {chain[0], signerIssuer, ""},
		"delegated, usage forbidden":      {&narrow, signerDelegated, "cannot certify a responder"},
		"issuer, usage forbidden":         {&narrow, signerIssuer, ""},
		"issuer without digitalSignature": {&mute, signerIssuer, "lacks digitalSignature"},
	} {
		d := &document{}
		checkResponder(d, "issuers[0].ocsp", Issuer{ID: "x", OCSP: OCSP{Signer: c.signer}}, []*x509.Certificate{c.ca, chain[1]})
		text := ""
		if err := d.err(); err != nil {
			text = err.Error()
		}
		if (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}
