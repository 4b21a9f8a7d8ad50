package issuance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFS7_AskedOfAnEarlierRelease: what waits since before an upgrade names the
// certificate by which it was asked only in who asked.
func TestFS7_AskedOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	const key = `"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li` +
		`/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="`
	for name, c := range map[string]struct {
		row   store.Request
		asked string
		want  []Basis
	}{
		"EST renewal": {
			store.Request{Protocol: "est", Identity: "certificate:c1", TransactionID: "simplereenroll"}, "",
			[]Basis{{Holder: "c1", Renew: true}},
		},
		"EST login": {
			store.Request{Protocol: "est", Identity: "certificate:c1", TransactionID: "simpleenroll"}, "",
			[]Basis{{Holder: "c1"}},
		},
		"SCEP renewal": {
			store.Request{Protocol: "scep", Identity: "certificate:c1"}, "",
			[]Basis{{Holder: "c1", Renew: true}},
		},
		"password": {store.Request{Protocol: "est", Identity: "est_user:d"}, "", nil},
		"of today": {
			store.Request{Protocol: "est", Identity: "certificate:c1"}, `,"by":[{"holder":"c2","ra":true}]`,
			[]Basis{{Holder: "c2", RA: true}},
		},
	} {
		c.row.Asked = json.RawMessage(`{"public_key":` + key + c.asked + `}`)
		r, err := Again(&c.row)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, r.By); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestFR15_AskedSubjectIsKept while its request waits, whatever a certificate could
// hold of it.
func TestFR15_AskedSubjectIsKept(t *testing.T) {
	t.Parallel()
	p := &Pipeline{now: time.Now}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, der := range pkitest.Unwritable(t, "device-7") {
		subject, err := pki.ParseAskedName(der)
		if err != nil {
			t.Fatal(err)
		}
		asked := Request{Subject: &subject, PublicKey: key.Public(), Record: &Record{}}
		row, err := p.pending(asked, &judged{template: &profile.Template{}})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if back, err := Again(row); err != nil || !reflect.DeepEqual(*back.Subject, subject) {
			t.Errorf("%s: %v %+v", what, err, back.Subject)
		}
	}
}
