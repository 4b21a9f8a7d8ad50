package store

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// OCSPResponder is a delegated responder certificate of a node. Its key is where
// that node keeps its state.
type OCSPResponder struct {
	CertificateID string
	IssuerID      string
	Serial        pki.Serial
	Node          string
	KeyRef        string // name of the key, of meaning to the node only
	Certificate   []byte // DER
	NotBefore     time.Time
	NotAfter      time.Time
	CreatedAt     time.Time
}

const responderColumns = `certificate_id, issuer_id, serial, node, key_ref, certificate, not_before, not_after, created_at`

// PutOCSPResponder records a responder certificate.
func (s *Store) PutOCSPResponder(ctx context.Context, r OCSPResponder) error {
	return s.commit(ctx, &write{what: "put OCSP responder", guards: []*stmt{
		must(`INSERT INTO ocsp_responders (`+responderColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			r.CertificateID, r.IssuerID, r.Serial, r.Node, r.KeyRef, r.Certificate, r.NotBefore, r.NotAfter, r.CreatedAt),
	}})
}

// OCSPResponders returns the responder certificates of an issuer on all nodes,
// the one that ends last first.
func (s *Store) OCSPResponders(ctx context.Context, issuerID string) ([]OCSPResponder, error) {
	var found []OCSPResponder
	err := s.query(ctx, "read OCSP responders", `SELECT `+responderColumns+` FROM ocsp_responders
		WHERE issuer_id = $1 ORDER BY not_after DESC, certificate_id DESC`, []any{issuerID}, func(scan scanFunc) error {
		var r OCSPResponder
		var serial string
		err := scan(&r.CertificateID, &r.IssuerID, &serial, &r.Node, &r.KeyRef, &r.Certificate, &r.NotBefore, &r.NotAfter, &r.CreatedAt)
		r.Serial = pki.Serial(serial)
		found = append(found, r)
		return err
	})
	return found, err
}
