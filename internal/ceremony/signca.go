package ceremony

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/opensslca"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// CASpec says what CA certificate is to be signed for a request.
type CASpec struct {
	Years     int       // calendar years; default 10
	NotBefore time.Time // default: now
	PathLen   int       // CAs that may follow below; 0 is an issuing CA
	// ExtKeyUsage bounds what the CA's certificates may be used for; it must hold
	// all that its leaves carry (rule X8). Default: what the built-in profiles need.
	ExtKeyUsage []string
	Policies    []string // certificate policy OIDs
	// NameConstraints bounds every name below the CA; nil leaves them free.
	NameConstraints *profile.NameConstraints
	// Names relates the request's subject to the signer's; default calaw.StrictNames.
	Names calaw.NamePolicy
	// Locations are where the signing CA's list and certificate will be found.
	Locations issuer.Locations
}

// SignCA signs a CA certificate for a request, files both and returns the
// certificate. Refused are requests that do not ask for a CA or bring alternative
// names, weak keys, subjects outside the name policy, and whatever the laws of
// the hierarchy forbid: a CA that would outlive its signer, or a tree too deep.
func SignCA(ctx context.Context, ca CA, csr *pki.CSR, spec CASpec) (*x509.Certificate, error) {
	c, err := ca.certify(ctx, spec.Locations, requestPEM(csr),
		func(chain []*x509.Certificate) (*profile.Template, error) {
			return spec.template(chain, csr, ca.Now())
		})
	if err != nil {
		return nil, fmt.Errorf("sign CA: %w", err)
	}
	return c, nil
}

func requestPEM(csr *pki.CSR) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw})
}

// certify drafts what build describes, records it, signs it and files it with
// what it was asked for by. The request is filed before the key is used and the
// certificate after, so that Settle can tell what an interruption left.
func (ca CA) certify(
	ctx context.Context, loc issuer.Locations, request []byte,
	build func(chain []*x509.Certificate) (*profile.Template, error),
) (*x509.Certificate, error) {
	i, key, err := ca.open(ctx, loc, calaw.Verdict.MaySign)
	if err != nil {
		return nil, err
	}
	defer ca.giveBack(key) //nolint:errcheck // nothing is lost with it
	t, err := build(i.Chain())
	if err != nil {
		return nil, err
	}
	draft, err := i.Draft(t, pki.NewSerial())
	if err != nil {
		return nil, err
	}
	if ca.Record != nil {
		if err := ca.Record(draft.Serial()); err != nil {
			return nil, err
		}
	}
	if err := files.Write(ca.path(filed("csr", draft.Serial())), request, 0o444); err != nil {
		return nil, err
	}
	der, err := ca.sign(ctx, i, draft, t)
	if err != nil {
		return nil, err
	}
	if err := files.Write(ca.path(filed("newcerts", draft.Serial())), pki.EncodeChain(der), 0o444); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// filed is where the certificate or request of a serial is kept.
func filed(folder string, s pki.Serial) string {
	return folder + "/" + strings.ToUpper(string(s)) + ".pem"
}

// Settle returns the certificate of a serial that Record has announced. Where
// there is none, because the act was interrupted, the serial is entered as
// revoked, so that a certificate that may exist is on the next list, and the
// certificate is nil: the act may be performed again.
func Settle(ca CA, serial pki.Serial) (*x509.Certificate, error) {
	text, err := os.ReadFile(ca.path(filed("newcerts", serial)))
	if err == nil {
		chain, err := pki.ParseChain(text)
		if err != nil {
			return nil, fmt.Errorf("settle serial %s: %w", serial, err)
		}
		return chain[0], nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("settle serial %s: %w", serial, err)
	}
	if err := Revoke(context.Background(), ca, Revocation{Serial: serial,
		Reason: pki.CessationOfOperation}); err != nil {
		if kind := fault.Of(err).Kind; kind != fault.NotFound && kind != fault.AlreadyRevoked {
			return nil, fmt.Errorf("settle serial %s: %w", serial, err)
		}
	}
	return nil, nil
}

// sign records the draft in the index, signs it and settles the record: a serial
// that was certainly not used is taken out again, one that may have been used is
// entered as revoked, so that the next list names it.
func (ca CA) sign(ctx context.Context, i *issuer.Issuer, d *issuer.Draft, t *profile.Template) ([]byte, error) {
	before, err := ca.Index()
	if err != nil {
		return nil, err
	}
	subject, err := pki.ParseNameDER(t.RawSubject)
	if err != nil {
		return nil, err
	}
	entry := opensslca.Entry{Serial: d.Serial(), NotAfter: t.NotAfter, Subject: opensslca.OneLine(subject)}
	after := append(before[:len(before):len(before)], entry)
	if err := ca.writeIndex(after); err != nil {
		return nil, err
	}
	der, err := i.Sign(ctx, d)
	if err == nil {
		return der, nil
	}
	if errors.Is(err, issuer.ErrUnsigned) {
		return nil, errors.Join(err, ca.writeIndex(before))
	}
	after[len(after)-1].Revoked = &opensslca.Revocation{At: ca.Now(), Reason: pki.CessationOfOperation}
	return nil, errors.Join(err, ca.writeIndex(after))
}

// NewRequest returns a certificate request of a CA for the given subject (RFC
// 4514), signed by its key.
func NewRequest(key crypto.Signer, subject string) (*pki.CSR, error) {
	name, err := calaw.ParseSubject(subject)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	raw, err := name.DER()
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	// Only CA:TRUE is asked for; the path length is the signer's to say.
	isCA, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject:      raw,
		ExtraExtensions: []pkix.Extension{{Id: oidBasic, Critical: true, Value: isCA}},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return pki.ParseCSR(context.Background(), der)
}

var oidBasic = asn1.ObjectIdentifier{2, 5, 29, 19}
