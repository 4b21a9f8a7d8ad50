package ocsp

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	authorities "github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// Below a root that permits directory names of one country only, a responder is
// named as its CA is.
func TestFT15_ResponderBelowDirectoryConstraints(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	value, err := pki.NameConstraints{Permitted: []pki.Subtree{{Type: pki.DirName, Value: "C=DE"}}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	ca := func(serial int64, cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), IsCA: true, BasicConstraintsValid: true, KeyUsage: caUsage,
			Subject: pkix.Name{
				Country: []string{"DE"}, Province: []string{"Bremen"}, Locality: []string{"Bremen"},
				Organization: []string{"Example"}, CommonName: cn,
			},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10-int(serial), 0, 0),
		}
	}
	top := ca(1, "Bound Root")
	top.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: value}}
	root := issuancetest.Certify(t, top, top, l.rootKey.Public(), l.rootKey)
	l.ca = issuancetest.Certify(t, ca(2, "Bound CA"), root, l.key.Public(), l.rootKey)
	bound, err := issuer.New(caID, []*x509.Certificate{l.ca, root}, l.key, l.issuer.Locations())
	if err != nil {
		t.Fatal(err)
	}
	l.rules.CAs = authorities.NewSet(authorities.Of(bound))
	l.pipeline.Swap(l.rules)
	r, err := l.delegated().Responder()
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Certificate().Subject; !strings.HasPrefix(s.CommonName, "OCSP responder") || len(s.Country) != 1 ||
		s.Country[0] != "DE" {
		t.Errorf("the responder is called %s", s)
	}
}
