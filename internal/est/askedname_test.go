package est

import (
	"testing"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR15_Enroll and renew, with a key of the client's or of the server's, at once or
// once approved: a subject counts for what goes into the certificate.
func TestFR15_Enroll(t *testing.T) {
	t.Parallel()
	e := newEnv(t,
		Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"drops"}, Keygen: true},
		Endpoint{Name: "slow", Label: "slow", Issuer: "ca", Profiles: []string{"drops-waiting"}})
	d := e.withPassword(t, credential.NewESTUser{Name: "u"})
	for what, subject := range pkitest.Unwritable(t, "device-7") {
		t.Run(what, func(t *testing.T) {
			key := issuancetest.NewKey(t)
			request := newCSR(t, key, "", withSubject(subject))
			made := one(t, want(t, d.post(t, "/simpleenroll", request), 200))
			if made.Subject.String() != "CN=device-7" {
				t.Errorf("%s", made.Subject)
			}
			holder := &device{e: e, key: key, cert: made}
			if again := one(t, want(t, holder.post(t, "/simplereenroll", request),
				200)); string(again.RawSubject) != string(made.RawSubject) {
				t.Errorf("renewed as %s", again.Subject)
			}
			if _, der, _ := parts(t, d.post(t, "/serverkeygen", request)); len(der) == 0 {
				t.Error("no key is made")
			}
			want(t, d.post(t, "/slow/simpleenroll", newCSR(t, issuancetest.NewKey(t), "", withSubject(subject))), 202)
		})
	}
}
