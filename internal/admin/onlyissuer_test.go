package admin

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

type ownKey struct{ *ecdsa.PrivateKey }

func (k ownKey) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Sign(rand.Reader, digest, opts)
}

// The issuer need not be said where there is one, or one pool.
func TestOnlyIssuer(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert := pkitest.Certify(t, template, template, key.Public(), key)
	open := func(id, pool string) *ca.CA {
		i, err := issuer.NewOffline(id, []*x509.Certificate{cert}, ownKey{key}, issuer.Locations{})
		if err != nil {
			t.Fatal(err)
		}
		c := ca.Of(i)
		c.Pool = pool
		return c
	}
	waits := func(id string) *ca.CA {
		return &ca.CA{Declaration: ca.Declaration{ID: id}, Configured: true, Stage: ca.Declared}
	}
	for name, tt := range map[string]struct {
		cas  []*ca.CA
		want string
		kind fault.Kind
	}{
		"none":              {nil, "", fault.Unavailable},
		"one that waits":    {[]*ca.CA{waits("a")}, "", fault.Unavailable},
		"one":               {[]*ca.CA{open("a", ""), waits("b")}, "a", 0},
		"one pool":          {[]*ca.CA{open("a", "p"), open("b", "p")}, "p", 0},
		"a pool and one":    {[]*ca.CA{open("a", "p"), open("b", "")}, "", fault.Malformed},
		"two without pools": {[]*ca.CA{open("a", ""), open("b", "")}, "", fault.Malformed},
	} {
		got, err := onlyIssuer(ca.NewSet(tt.cas...))
		if got != tt.want || (tt.want == "") != fault.Is(err, tt.kind) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
