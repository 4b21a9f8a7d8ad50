package e2e

import (
	"path/filepath"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// serialOf is a serial as the commands take it.
func (r *relying) serial() string { return string(pki.SerialFromBig(r.chain[0].SerialNumber)) }

// revoke revokes by the given act and wants OCSP to say so within a second.
func (r *relying) revoke(t *testing.T, act func(), reason string) {
	t.Helper()
	r.wantOCSP(t, "good", "") // an answer that is kept must not outlive the revocation
	act()
	r.wantOCSP(t, "revoked", reason)
}

// TestRevocationIsSeen revokes certificates by certbot, by the command line and
// by their own keys; openssl sees it by OCSP, and by the list where the reason
// publishes at once.
func TestRevocationIsSeen(t *testing.T) {
	need.Programs(t, "certbot", "openssl")
	each(t, func(t *testing.T, l *site) {
		c := certbot{l, t.TempDir()}
		certify := func(t *testing.T, name string) *relying {
			t.Helper()
			c.run(t, "certonly", "--http-01-port", lab.Port(l.Addr.HTTP01), "--http-01-address", "127.0.0.1", "--agree-tos",
				"--register-unsafely-without-email", "--standalone", "--preferred-challenges", "http", "--key-type", "ecdsa", "-d", name)
			return relyOn(t, l.root(), read(t, filepath.Join(c.dir, "c", "live", name, "fullchain.pem")))
		}
		t.Run("certbot", func(t *testing.T) {
			r := certify(t, "a.lab.test")
			r.wantGood(t)
			r.revoke(t, func() {
				c.run(t, "revoke", "--cert-name", "a.lab.test", "--reason", "keycompromise", "--no-delete-after-revoke")
			}, "keyCompromise")
			r.wantRefused(t, 0)
		})
		t.Run("certbot with the certificate's key", func(t *testing.T) {
			r := certify(t, "b.lab.test")
			live := filepath.Join(c.dir, "c", "live", "b.lab.test")
			r.revoke(t, func() {
				c.run(t, "revoke", "--cert-path", filepath.Join(live, "cert.pem"), "--key-path", filepath.Join(live, "privkey.pem"),
					"--reason", "superseded", "--no-delete-after-revoke")
			}, "keyCompromise") // the key's word
			r.wantRefused(t, 0)
		})
		t.Run("command line", func(t *testing.T) {
			r := certify(t, "c.lab.test")
			r.revoke(t, func() { l.operate(t, "cert", "revoke", r.serial(), "--reason", "certificateHold") }, "certificateHold")
			l.operate(t, "cert", "release", r.serial())
			r.wantOCSP(t, "good", "")
			r.revoke(t, func() { l.operate(t, "cert", "revoke", r.serial(), "--reason", "cessationOfOperation") }, "cessationOfOperation")
			r.wantGood(t) // this reason waits for the next list
			l.operate(t, "cert", "revoke", r.serial(), "--reason", "keyCompromise")
			r.wantOCSP(t, "revoked", "keyCompromise")
			r.wantRefused(t, 0)
		})
		t.Run("in bulk", func(t *testing.T) {
			many := []*relying{certify(t, "d.old.lab.test"), certify(t, "e.old.lab.test"), certify(t, "f.old.lab.test")}
			stays := certify(t, "g.lab.test")
			for _, r := range many {
				r.wantOCSP(t, "good", "")
			}
			l.operate(t, "cert", "revoke", "--where", "name~*.old.lab.test, not_after<400d", "--reason", "keyCompromise", "--yes")
			for _, r := range many {
				r.wantOCSP(t, "revoked", "keyCompromise")
				r.wantRefused(t, 0)
			}
			stays.wantOCSP(t, "good", "")
			stays.wantGood(t)
		})
		t.Run("own key, without an account", func(t *testing.T) {
			client := l.goClient(t, "default")
			register(t, client)
			chain, key, err := order(t.Context(), client, newResponder(t, l.Addr.HTTP01), "h.lab.test")
			if err != nil {
				t.Fatal(err)
			}
			if err := client.DeactivateReg(t.Context()); err != nil { // A48
				t.Fatal(err)
			}
			r := relyOn(t, l.root(), chain)
			stranger := l.goClient(t, "default")
			r.revoke(t, func() {
				if err := stranger.RevokeCert(t.Context(), key, r.chain[0].Raw, acme.CRLReasonUnspecified); err != nil {
					t.Fatal(err)
				}
			}, "keyCompromise")
			r.wantRefused(t, 0)
		})
	})
}
