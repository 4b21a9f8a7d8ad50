package scep

import (
	"crypto/x509"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR15_Enrol, at once or once approved, renew and poll: a subject counts for what
// goes into the certificate.
func TestFR15_Enrol(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"drops", "drops-waiting"} {
		e := newEnv(t, func(ep *Endpoint) {
			ep.Profiles, ep.DefaultProfile, ep.Secret, ep.Manual = []string{profile}, profile, "", true
			if profile == "drops" {
				ep.Secret, ep.Manual = testSecret, false
			}
		})
		for what, subject := range pkitest.Unwritable(t, "device-7") {
			t.Run(profile+" "+what, func(t *testing.T) {
				d := newDevice(t, 0)
				request := withSubject(t, d.key, subject, testSecret, cbasn1.PrintableString)
				var named cryptobyte.Builder
				named.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(e.ca.RawSubject); b.AddBytes(subject) })
				wanted := pkiSuccess
				if profile == "drops-waiting" {
					request = d.csr(t, "", "", func(r *x509.CertificateRequest) { r.RawSubject = subject })
					wanted = pkiPending
				}
				r := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: what, content: request})))
				poll := d.read(t, e.post(d.wrap(t, e, message{typ: "20", transaction: what,
					content: named.BytesOrPanic()})))
				if r.status != wanted || poll.status != wanted {
					t.Fatalf("%+v, polled %+v", r, poll)
				}
				if wanted == pkiPending {
					return
				}
				if r.certs[0].Subject.String() != "CN=device-7" || !r.certs[0].Equal(poll.certs[0]) {
					t.Errorf("%s", r.certs[0].Subject)
				}
				holder := &device{d.key, r.certs[0]}
				renewed := holder.read(t, e.post(holder.wrap(t, e, message{typ: "17", transaction: what +
					" again", content: request})))
				if renewed.status != pkiSuccess {
					t.Errorf("renewal %+v", renewed)
				}
			})
		}
	}
}
