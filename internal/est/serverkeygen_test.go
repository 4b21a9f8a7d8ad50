package est

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
)

// parts reads an answer of serverkeygen: the key's part, then the certificate.
func parts(t *testing.T, r *response) (keyType string, key []byte, cert *x509.Certificate) {
	t.Helper()
	want(t, r, 200)
	typ, params, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil || typ != "multipart/mixed" {
		t.Fatalf("content type %q", r.header.Get("Content-Type"))
	}
	if strings.Count(string(r.body), "\n") != strings.Count(string(r.body), "\r\n") {
		t.Error("a line does not end with CRLF (rule E18)")
	}
	m := multipart.NewReader(strings.NewReader(string(r.body)), params["boundary"])
	var types []string
	var ders [][]byte
	for {
		p, err := m.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(p)
		der, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil || p.Header.Get("Content-Transfer-Encoding") != "base64" {
			t.Fatalf("part %v: %v", p.Header, err)
		}
		types, ders = append(types, p.Header.Get("Content-Type")), append(ders, der)
	}
	if len(types) != 2 || types[1] != "application/pkcs7-mime; smime-type=certs-only" {
		t.Fatalf("parts %v", types)
	}
	s, err := cms.ParseSignedData(ders[1], cms.Limits{})
	if err != nil || len(s.Certificates) != 1 {
		t.Fatal(err)
	}
	return types[0], ders[0], s.Certificates[0]
}

func TestEST_E18_ServerKeygen(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "u"})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, like := range map[string]crypto.Signer{"P-256": issuancetest.NewKey(t), "RSA": rsaKey} {
		csr := newCSR(t, like, "d", forged(), withDNS("d.test")) // its signature means nothing
		typ, der, cert := parts(t, d.post(t, "/serverkeygen", csr))
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil || typ != "application/pkcs8" {
			t.Fatalf("%s: %s %v", name, typ, err)
		}
		public := key.(crypto.Signer).Public()
		if !cert.PublicKey.(publicKey).Equal(public) || like.Public().(publicKey).Equal(public) || len(cert.DNSNames) != 1 {
			t.Errorf("%s: key and certificate do not fit", name)
		}
		if _, again, _ := parts(t, d.post(t, "/serverkeygen", csr)); string(again) == string(der) {
			t.Errorf("%s: the same key again", name)
		}
	}
	refused(t, e.anonymous().post(t, "/serverkeygen", newCSR(t, issuancetest.NewKey(t), "d")), 401, "password_required")
}

// TestEST_E18_CipherStrength: a P-384 key does not leave under a 128-bit cipher.
func TestEST_E18_CipherStrength(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "u"})
	like, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr := newCSR(t, like, "d")
	d.tls = func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	refused(t, d.post(t, "/serverkeygen", csr), 403, "cipher_strength")
	d.tls = func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	}
	parts(t, d.post(t, "/serverkeygen", csr))
}

// TestEST_E18_EncryptedKey goes to the key of the client certificate, signed by
// the server; what cannot be encrypted is not sent at all.
func TestEST_E18_EncryptedKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{e: e, key: key}
	d.cert = e.issue(t, "device", newCSR(t, key, "d"))
	capable := func(oids ...asn1.ObjectIdentifier) csrOption {
		var list [][]asn1.ObjectIdentifier
		for _, o := range oids {
			list = append(list, []asn1.ObjectIdentifier{o})
		}
		return withAttribute(oidCapabilities, list)
	}
	for name, options := range map[string][]csrOption{
		"default": nil, "GCM": {capable(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46})},
		"OAEP": {capable(asn1.ObjectIdentifier{1, 2, 3}, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, oidOAEP)},
	} {
		options = append(options, withAttribute(oidAsymDecryptKeyID, d.cert.SubjectKeyId))
		typ, der, cert := parts(t, d.post(t, "/serverkeygen", newCSR(t, issuancetest.NewKey(t), "d", options...)))
		if typ != "application/pkcs7-mime; smime-type=server-generated-key" {
			t.Errorf("%s: type %q", name, typ)
		}
		env, err := cms.ParseEnvelopedData(der, cms.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		plain, err := env.Decrypt(d.cert, key, cms.Policy{})
		if err != nil || !env.Type.Equal(cms.OIDSignedData) {
			t.Fatalf("%s: %v %v", name, env.Type, err)
		}
		info := marshal(t, struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue
		}{cms.OIDSignedData, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: plain}})
		s, err := cms.ParseSignedData(info, cms.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Verify(t.Context(), cms.Policy{}); err != nil || !s.Type.Equal(oidKeyPackage) {
			t.Errorf("%s: %v %v", name, s.Type, err)
		}
		var pack []asn1.RawValue
		if _, err := asn1.Unmarshal(s.Content, &pack); err != nil || len(pack) != 1 {
			t.Fatal(err)
		}
		made, err := x509.ParsePKCS8PrivateKey(pack[0].FullBytes)
		if err != nil || !cert.PublicKey.(publicKey).Equal(made.(crypto.Signer).Public()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string][]csrOption{
		"another key":    {withAttribute(oidAsymDecryptKeyID, []byte("12345678"))},
		"a shared key":   {withAttribute(oidDecryptKeyID, []byte("k1"))},
		"unknown cipher": {withAttribute(oidAsymDecryptKeyID, d.cert.SubjectKeyId), capable(asn1.ObjectIdentifier{1, 2, 3})},
		"not a list":     {withAttribute(oidAsymDecryptKeyID, d.cert.SubjectKeyId), withAttribute(oidCapabilities, 7)},
		"not octets":     {withAttribute(oidAsymDecryptKeyID, 7)},
	} {
		r := d.post(t, "/serverkeygen", newCSR(t, issuancetest.NewKey(t), "d", o...))
		if refused(t, r, 400, "key_encryption"); t.Failed() {
			t.Fatal(name)
		}
	}
	ec := e.enrolled(t, "e")
	refused(t, ec.post(t, "/serverkeygen", newCSR(t, issuancetest.NewKey(t), "e", withAttribute(oidAsymDecryptKeyID, ec.cert.SubjectKeyId))), 400, "key_encryption")
	password := e.withPassword(t, credential.NewESTUser{Name: "u"})
	refused(t, password.post(t, "/serverkeygen", newCSR(t, issuancetest.NewKey(t), "d", withAttribute(oidAsymDecryptKeyID, d.cert.SubjectKeyId))), 400, "key_encryption")
}
