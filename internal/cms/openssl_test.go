package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

var plaintext = []byte("what the device asks for\r\n\x00\xff")

// Signatures of openssl cms and smime, read by us.
func TestOpenSSLSigns(t *testing.T) {
	t.Parallel()
	all := Policy{SHA1: true}
	for _, c := range []struct {
		name string
		id   func() identity
		args []string
		hash crypto.Hash
	}{
		{"rsa sha256", deviceRSA, []string{"cms", "-md", "sha256"}, crypto.SHA256},
		{"rsa sha384", deviceRSA, []string{"cms", "-md", "sha384"}, crypto.SHA384},
		{"rsa sha512", deviceRSA, []string{"cms", "-md", "sha512"}, crypto.SHA512},
		{"rsa sha1", deviceRSA, []string{"cms", "-md", "sha1"}, crypto.SHA1},
		{"rsa by key identifier", deviceRSA, []string{"cms", "-keyid"}, crypto.SHA256},
		{"rsa streamed", deviceRSA, []string{"cms", "-stream"}, crypto.SHA256},
		{"rsa of PKCS #7", deviceRSA, []string{"smime"}, crypto.SHA256},
		{"rsa of PKCS #7 streamed", deviceRSA, []string{"smime", "-stream"}, crypto.SHA256},
		{"another content type", deviceRSA, []string{"cms", "-econtent_type", "1.2.3.4"}, crypto.SHA256},
		{"pss sha256", deviceRSA, []string{"cms", "-keyopt", "rsa_padding_mode:pss"}, crypto.SHA256},
		{"pss sha384", deviceRSA, []string{"cms", "-md", "sha384", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:20"}, crypto.SHA384},
		{"pss sha512", deviceRSA, []string{"cms", "-md", "sha512", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:max"}, crypto.SHA512},
		{"pss sha1", deviceRSA, []string{"cms", "-md", "sha1", "-keyopt", "rsa_padding_mode:pss"}, crypto.SHA1},
		{"p256", p256, []string{"cms", "-md", "sha256"}, crypto.SHA256},
		{"p384", p384, []string{"cms", "-md", "sha384"}, crypto.SHA384},
		{"p521", p521, []string{"cms", "-md", "sha512"}, crypto.SHA512},
		{"p256 sha1", p256, []string{"cms", "-md", "sha1"}, crypto.SHA1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sh := openssl(t)
			sh.identity("device", c.id())
			sh.put("plain", plaintext)
			out := sh.run(append([]string{c.args[0], "-sign", "-binary", "-nodetach", "-in", "plain", "-outform", "DER", "-signer", "device.pem", "-inkey", "device.key"}, c.args[1:]...)...)
			s := mustParseSigned(t, out)
			signers, err := s.Verify(t.Context(), all)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.Content, plaintext) || len(signers) != 1 || !signers[0].Equal(c.id().cert) || s.Signers[0].Hash != c.hash || s.Signers[0].SigningTime().IsZero() {
				t.Errorf("content %q, signers %v, hash %v, time %v", s.Content, signers, s.Signers[0].Hash, s.Signers[0].SigningTime())
			}
			if c.hash == crypto.SHA1 {
				_, err := s.Verify(t.Context(), Policy{})
				wantIs(t, err, ErrSHA1)
			}
		})
	}
}

// Our signatures, read by openssl cms, and PKCS #7 where that can.
func TestOpenSSLVerifies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		id    func() identity
		s     Signer
		tools []string
	}{
		{"rsa", deviceRSA, Signer{}, []string{"cms", "smime"}},
		{"rsa sha384", deviceRSA, Signer{Hash: crypto.SHA384}, []string{"cms", "smime"}},
		{"rsa sha512", deviceRSA, Signer{Hash: crypto.SHA512}, []string{"cms", "smime"}},
		{"rsa sha1", deviceRSA, Signer{Hash: crypto.SHA1, SHA1: true}, []string{"cms", "smime"}},
		{"pss sha256", deviceRSA, Signer{PSS: true}, []string{"cms"}},
		{"pss sha384", deviceRSA, Signer{PSS: true, Hash: crypto.SHA384}, []string{"cms"}},
		{"pss sha512", deviceRSA, Signer{PSS: true, Hash: crypto.SHA512}, []string{"cms"}},
		{"pss sha1", deviceRSA, Signer{PSS: true, Hash: crypto.SHA1, SHA1: true}, []string{"cms"}},
		{"p256", p256, Signer{}, []string{"cms", "smime"}},
		{"p384", p384, Signer{Hash: crypto.SHA384}, []string{"cms", "smime"}},
		{"p521", p521, Signer{Hash: crypto.SHA512}, []string{"cms", "smime"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sh := openssl(t)
			c.s.Certificate, c.s.Key = c.id().cert, c.id().key
			c.s.SigningTime = time.Now()
			c.s.Attributes = []Attribute{attribute(oidTransactionID, "1234"), attribute(oidMessageType, "19")}
			sh.put("signed", mustSign(t, Message{Content: plaintext}, c.s))
			for _, tool := range c.tools {
				if out := sh.run(tool, "-verify", "-noverify", "-binary", "-in", "signed", "-inform", "DER"); !bytes.Equal(out, plaintext) {
					t.Errorf("%s reads %q", tool, out)
				}
			}
			if out := sh.run("cms", "-cmsout", "-in", "signed", "-inform", "DER", "-outform", "DER"); !bytes.Equal(out, sh.read("signed")) {
				t.Error("openssl writes it in another way: it is not DER")
			}
		})
	}
}

// OpenSSL 3.0 has no Ed25519 in CMS, but it has the signature itself: it makes
// one for a message of ours, and verifies one that we made.
func TestOpenSSLEd25519(t *testing.T) {
	t.Parallel()
	sh := openssl(t)
	id := edwards()
	sh.identity("device", id)
	theirs := mustParseSigned(t, mustSign(t, Message{Content: plaintext}, Signer{Certificate: id.cert, Key: shellSigner{id.key, sh}}))
	if _, err := theirs.Verify(t.Context(), Policy{}); err != nil {
		t.Error(err)
	}
	ours := mustParseSigned(t, mustSign(t, Message{Content: plaintext}, Signer{Certificate: id.cert, Key: id.key}))
	if ours.Signers[0].Hash != crypto.SHA512 {
		t.Errorf("the digest is %v", ours.Signers[0].Hash)
	}
	sh.put("message", ours.Signers[0].messages()[0])
	sh.put("signature", ours.Signers[0].signature)
	sh.run("pkeyutl", "-verify", "-rawin", "-in", "message", "-sigfile", "signature", "-inkey", "device.key")
}

// shellSigner has openssl sign.
type shellSigner struct {
	crypto.Signer
	sh shell
}

func (s shellSigner) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	s.sh.put("message", message)
	return s.sh.run("pkeyutl", "-sign", "-rawin", "-in", "message", "-inkey", "device.key"), nil
}

// The digest of old routers is told apart (S24).
func TestSCEP_S24_MD5(t *testing.T) {
	t.Parallel()
	sh := openssl(t)
	sh.identity("device", deviceRSA())
	sh.put("plain", plaintext)
	s := mustParseSigned(t, sh.run("cms", "-sign", "-md", "md5", "-nodetach", "-in", "plain", "-outform", "DER", "-signer", "device.pem", "-inkey", "device.key"))
	if s.Signers[0].Hash != 0 || s.Signers[0].Value(OIDMessageDigest) == nil {
		t.Errorf("hash %v", s.Signers[0].Hash)
	}
	_, err := s.Verify(t.Context(), Policy{SHA1: true})
	wantIs(t, err, ErrMD5)
}

// Signatures over the bare content are not taken, and certificates may come
// from elsewhere.
func TestOpenSSLOptions(t *testing.T) {
	t.Parallel()
	sh := openssl(t)
	sh.identity("device", deviceRSA())
	sh.put("plain", plaintext)
	sign := []string{"cms", "-sign", "-nodetach", "-in", "plain", "-outform", "DER", "-signer", "device.pem", "-inkey", "device.key"}
	_, err := mustParseSigned(t, sh.run(append(sign, "-noattr")...)).Verify(t.Context(), Policy{})
	wantFault(t, err, fault.Malformed, "cms_syntax")
	bare := mustParseSigned(t, sh.run(append(sign, "-nocerts")...))
	_, err = bare.Verify(t.Context(), Policy{}, raRSA().cert)
	wantFault(t, err, fault.Unverified, "cms_signer")
	if signers, err := bare.Verify(t.Context(), Policy{}, raRSA().cert, deviceRSA().cert); err != nil || !signers[0].Equal(deviceRSA().cert) {
		t.Errorf("with a known certificate: %v, %v", signers, err)
	}
}

// What openssl says about our signature without content (S17).
func TestSCEP_S17_OpenSSLVerifiesAbsentContent(t *testing.T) {
	t.Parallel()
	sh := openssl(t)
	id := deviceRSA()
	sh.put("signed", mustSign(t, Message{}, Signer{Certificate: id.cert, Key: id.key}))
	sh.put("empty", nil)
	sh.run("cms", "-verify", "-noverify", "-binary", "-in", "signed", "-inform", "DER", "-content", "empty")
}

// Envelopes of openssl, read by us.
func TestOpenSSLEncrypts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cipher Cipher
		args   []string
	}{
		{AES128CBC, []string{"cms", "-aes128"}},
		{AES192CBC, []string{"cms", "-aes192"}},
		{AES256CBC, []string{"cms", "-aes256"}},
		{AES256CBC, []string{"cms", "-aes256", "-stream"}},
		{AES256CBC, []string{"cms", "-aes256", "-keyid"}},
		{AES256CBC, []string{"smime", "-aes256"}},
		{AES256CBC, []string{"smime", "-aes256", "-stream"}},
		{TripleDES, []string{"cms", "-des3"}},
		{DES, []string{"cms", "-des-cbc", "-provider", "legacy", "-provider", "default"}},
		{AES128GCM, []string{"cms", "-aes-128-gcm"}},
		{AES192GCM, []string{"cms", "-aes-192-gcm"}},
		{AES256GCM, []string{"cms", "-aes-256-gcm"}},
		{AES256GCM, []string{"cms", "-aes-256-gcm", "-stream"}},
		{AES256CBC, []string{"cms", "-aes256", "-keyopt", "rsa_padding_mode:oaep"}},
		{AES256CBC, []string{"cms", "-aes256", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"}},
		{AES256CBC, []string{"cms", "-aes256", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha1"}},
		{AES256CBC, []string{"cms", "-aes256", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha1", "-keyopt", "rsa_mgf1_md:sha512"}},
		{AES256GCM, []string{"cms", "-aes-256-gcm", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha384", "-keyopt", "rsa_oaep_label:0102ff"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			sh := openssl(t)
			ra := raRSA()
			sh.identity("ra", ra)
			sh.put("plain", plaintext)
			// Options of a key come after the key that they are for.
			args := []string{c.args[0], "-encrypt", "-binary", "-in", "plain", "-outform", "DER", "-out", "encrypted"}
			if c.args[0] == "cms" {
				args = append(args, "-recip", "ra.pem")
			}
			if args = append(args, c.args[1:]...); c.args[0] == "smime" {
				args = append(args, "ra.pem")
			}
			sh.run(args...)
			e := mustParseEnveloped(t, sh.read("encrypted"))
			if e.Cipher != c.cipher || !e.Type.Equal(OIDData) || !e.To(ra.cert) || e.To(deviceRSA().cert) {
				t.Errorf("cipher %v, type %v, to us %v, to others %v", e.Cipher, e.Type, e.To(ra.cert), e.To(deviceRSA().cert))
			}
			p := Policy{}
			if c.cipher == DES {
				_, err := e.Decrypt(ra.cert, ra.decrypter(), p)
				if err == nil {
					t.Error("single DES is read without being asked for")
				}
				p.Ciphers = []Cipher{DES}
			}
			plain, err := e.Decrypt(ra.cert, ra.decrypter(), p)
			if err != nil || !bytes.Equal(plain, plaintext) {
				t.Errorf("it reads %q, %v", plain, err)
			}
		})
	}
}

// Our envelopes, read by openssl.
func TestOpenSSLDecrypts(t *testing.T) {
	t.Parallel()
	v15 := KeyTransport{}
	for _, c := range []struct {
		cipher Cipher
		kt     KeyTransport
		tools  []string
	}{
		{AES128CBC, v15, []string{"cms", "smime"}},
		{AES192CBC, v15, []string{"cms", "smime"}},
		{AES256CBC, v15, []string{"cms", "smime"}},
		{TripleDES, v15, []string{"cms", "smime"}},
		{DES, v15, []string{"cms", "smime"}},
		{AES128GCM, v15, []string{"cms"}},
		{AES192GCM, v15, []string{"cms"}},
		{AES256GCM, v15, []string{"cms"}},
		{AES256CBC, KeyTransport{OAEP: crypto.SHA1}, []string{"cms"}},
		{AES256CBC, KeyTransport{OAEP: crypto.SHA256}, []string{"cms"}},
		{AES256CBC, KeyTransport{OAEP: crypto.SHA256, MGF: crypto.SHA1}, []string{"cms"}},
		{AES256CBC, KeyTransport{OAEP: crypto.SHA1, MGF: crypto.SHA256}, []string{"cms"}},
		{AES256CBC, KeyTransport{OAEP: crypto.SHA384}, []string{"cms"}},
		{AES256GCM, KeyTransport{OAEP: crypto.SHA512}, []string{"cms"}},
	} {
		t.Run(c.cipher.String()+" "+c.kt.OAEP.String(), func(t *testing.T) {
			t.Parallel()
			sh := openssl(t)
			ra := raRSA()
			sh.identity("ra", ra)
			encrypted, err := Encrypt(t.Context(), nil, plaintext, ra.cert, c.cipher, c.kt)
			if err != nil {
				t.Fatal(err)
			}
			sh.put("encrypted", encrypted)
			for _, tool := range c.tools {
				args := []string{tool, "-decrypt", "-binary", "-in", "encrypted", "-inform", "DER", "-recip", "ra.pem", "-inkey", "ra.key"}
				if c.cipher == DES {
					args = append(args, "-provider", "legacy", "-provider", "default")
				}
				if out := sh.run(args...); !bytes.Equal(out, plaintext) {
					t.Errorf("%s reads %q", tool, out)
				}
			}
			if out := sh.run("cms", "-cmsout", "-in", "encrypted", "-inform", "DER", "-outform", "DER"); !bytes.Equal(out, encrypted) {
				t.Error("openssl writes it in another way: it is not DER")
			}
		})
	}
}

// A content that is not plain data, as of EST's generated keys. OpenSSL before
// the middle of 2026 does not read attributes of an AuthEnvelopedData (its issue
// 31635), so only CBC is certain.
func TestEST_E18_OpenSSLDecryptsOtherTypes(t *testing.T) {
	t.Parallel()
	sh := openssl(t)
	ra := raRSA()
	sh.identity("ra", ra)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		encrypted := must(Encrypt(t.Context(), OIDSignedData, plaintext, ra.cert, c, KeyTransport{}))
		e := mustParseEnveloped(t, encrypted)
		if (e.attributes != nil) != (c == AES256GCM) {
			t.Errorf("%v: attributes %x", c, e.attributes)
		}
		if got, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{}); err != nil || !bytes.Equal(got, plaintext) || !e.Type.Equal(OIDSignedData) {
			t.Errorf("%v: %q, %v", c, got, err)
		}
		sh.put("encrypted", encrypted)
		out, diag, err := sh.try("cms", "-decrypt", "-binary", "-in", "encrypted", "-inform", "DER", "-recip", "ra.pem", "-inkey", "ra.key")
		switch {
		case err != nil && c == AES256GCM:
			t.Logf("this openssl does not read attributes of an AuthEnvelopedData: %s", diag)
		case err != nil || !bytes.Equal(out, plaintext):
			t.Errorf("%v: openssl reads %q, %v\n%s", c, out, err, diag)
		}
	}
}

// Bags of certificates and CRLs, both ways; order is kept (E4, E5, S7, S16).
func TestEST_E4_OpenSSLBags(t *testing.T) {
	t.Parallel()
	sh := openssl(t)
	certs := []*x509.Certificate{raRSA().cert, p256().cert, deviceRSA().cert}
	crl := newCRL(t)
	bag, err := Degenerate(certs, [][]byte{crl})
	if err != nil {
		t.Fatal(err)
	}
	sh.put("bag", bag)
	text := string(sh.run("pkcs7", "-inform", "DER", "-in", "bag", "-print_certs", "-noout"))
	if first, second := strings.Index(text, "CN = ra"), strings.Index(text, "CN = p256"); first < 0 || second < first {
		t.Errorf("openssl reads %s", text)
	}
	if out := sh.run("pkcs7", "-inform", "DER", "-in", "bag", "-outform", "DER"); !bytes.Equal(out, bag) {
		t.Error("openssl writes our bag in another way")
	}
	for name, id := range map[string]identity{"a": raRSA(), "b": p256()} {
		sh.identity(name, id)
	}
	s := mustParseSigned(t, sh.run("crl2pkcs7", "-nocrl", "-certfile", "a.pem", "-certfile", "b.pem", "-outform", "DER"))
	if len(s.Certificates) != 2 || !s.Certificates[0].Equal(raRSA().cert) || s.Content != nil || len(s.Signers) != 0 {
		t.Errorf("we read %+v", s)
	}
}
