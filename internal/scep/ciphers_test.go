package scep

import (
	"crypto"
	"crypto/rsa"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/cms"
)

// counting is a key that counts its private operations.
type counting struct {
	*rsa.PrivateKey
	decrypted int
}

func (k *counting) Decrypt(r io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	k.decrypted++
	return k.PrivateKey.Decrypt(r, msg, opts)
}

// TestSCEP_S23_Ciphers: an endpoint takes the ciphers that it names and announces
// them; by any other, the RA's key is not even used.
func TestSCEP_S23_Ciphers(t *testing.T) {
	t.Parallel()
	const common = "POSTPKIOperation\nRenewal\nSHA-256\nSHA-384\nSHA-512\n"
	all := []cms.Cipher{cms.AES128CBC, cms.AES256CBC, cms.AES128GCM, cms.AES256GCM, cms.TripleDES, cms.DES}
	for _, c := range []struct {
		ciphers []string
		caps    string
		takes   []cms.Cipher
	}{
		{nil, "AES\n" + common + "SCEPStandard\n", all[:4]},
		{[]string{"aes-gcm"}, common, all[2:4]},
		{[]string{"aes-cbc"}, "AES\n" + common + "SCEPStandard\n", all[:2]},
		{[]string{"aes-gcm", "3des-cbc", "des-cbc"}, common + "DES3\n", all[2:]},
	} {
		e := newEnv(t, func(ep *Endpoint) { ep.Ciphers = c.ciphers })
		if diff := cmp.Diff(c.caps, e.get("operation=GetCACaps").Body.String()); diff != "" {
			t.Errorf("%v: %s", c.ciphers, diff)
		}
		r := &e.server.current()["default"].ras.list()[0]
		own, ok := r.decrypt.key.(*rsa.PrivateKey)
		if !ok {
			t.Fatal("not RSA")
		}
		key := &counting{PrivateKey: own}
		r.decrypt.key = key
		d, taken := newDevice(t, 0), []cms.Cipher(nil)
		for _, cipher := range all {
			before := key.decrypted
			got := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: cipher.String(), content: d.csr(t, "x", testSecret), cipher: cipher})))
			if got.status == pkiSuccess {
				taken = append(taken, cipher)
				continue
			}
			wantFail(t, got, badAlg, "content_cipher")
			if key.decrypted != before {
				t.Errorf("%v: %v was decrypted", c.ciphers, cipher)
			}
		}
		if diff := cmp.Diff(c.takes, taken); diff != "" {
			t.Errorf("%v: %s", c.ciphers, diff)
		}
	}
}

func TestCheckCiphers(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Ciphers: []string{}}, {Ciphers: []string{"aes"}}, {Ciphers: []string{"aes-gcm", "aes-gcm"}},
		{Ciphers: []string{"aes-gcm"}, TripleDES: true}, {Ciphers: []string{"aes-cbc"}, SingleDES: true},
	} {
		if o.checkCiphers() == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
