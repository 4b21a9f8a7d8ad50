package scep

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"net/http"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/enrolment/enrolmenttest"
)

func TestFS5_Renewal(t *testing.T)  { t.Parallel(); enrolmenttest.Run(t, "FS5", openHere) }
func TestFS13_Renewal(t *testing.T) { t.Parallel(); enrolmenttest.Run(t, "FS13", openHere) }
func TestFS15_Renewal(t *testing.T) { t.Parallel(); enrolmenttest.Run(t, "FS15", openHere) }
func TestFS17_Renewal(t *testing.T) { t.Parallel(); enrolmenttest.Run(t, "FS17", openHere) }
func TestFS7_Renewal(t *testing.T)  { t.Parallel(); enrolmenttest.Run(t, "FS7", openHere) }
func TestFR9_Renewal(t *testing.T)  { t.Parallel(); enrolmenttest.Run(t, "FR9", openHere) }

var reasonInText = regexp.MustCompile(`\[([a-z_]+)\]$`)

// openHere is the server of the cases that all protocols share.
func openHere(t *testing.T, r enrolment.Rules) *enrolmenttest.Server {
	t.Helper()
	e := newEnv(t, func(ep *Endpoint) {
		ep.Name, ep.Path, ep.Issuer = r.Endpoint, "default", r.Issuer
		ep.Profiles, ep.DefaultProfile = r.Profiles, r.Profiles[0]
		ep.RenewalGrace, ep.AcceptProtocols = r.Grace, r.Protocols
	})
	var keys, transactions atomic.Int64
	return &enrolmenttest.Server{
		Store: e.store, CA: e.issuing, Approvals: e.approvals, Now: e.now, Sleep: e.sleep,
		NewKey: func(testing.TB) crypto.Signer { return spareKeys()[keys.Add(1)%3] },
		Renew: func(t testing.TB, cert *x509.Certificate, key crypto.Signer, csr []byte) (*x509.Certificate, string) {
			if err := e.server.Renew(t.Context()); err != nil { // the pool of a case may have no RA yet
				t.Fatal(err)
			}
			d := &device{key.(*rsa.PrivateKey), cert}
			tx := "renewal-" + strconv.FormatInt(transactions.Add(1), 10)
			w := e.post(d.wrap(t, e, message{typ: "17", transaction: tx, content: csr}))
			if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "" {
				return nil, "limited"
			}
			r := d.read(t, w)
			if r.status == pkiSuccess {
				return r.certs[0], ""
			}
			if r.status == pkiPending {
				return nil, "waits"
			}
			found := reasonInText.FindStringSubmatch(r.text)
			if found == nil {
				t.Fatalf("%+v", r)
			}
			return nil, found[1]
		},
	}
}
