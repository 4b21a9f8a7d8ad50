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

var responders = table[OCSPResponder]{
	name: "ocsp_responders", alias: "p",
	columns: []column[OCSPResponder]{
		col("certificate_id", func(r *OCSPResponder) *string { return &r.CertificateID }),
		col("issuer_id", func(r *OCSPResponder) *string { return &r.IssuerID }),
		col("serial", func(r *OCSPResponder) *pki.Serial { return &r.Serial }),
		col("node", func(r *OCSPResponder) *string { return &r.Node }),
		col("key_ref", func(r *OCSPResponder) *string { return &r.KeyRef }),
		col("certificate", func(r *OCSPResponder) *[]byte { return &r.Certificate }),
		col("not_before", func(r *OCSPResponder) *time.Time { return &r.NotBefore }),
		col("not_after", func(r *OCSPResponder) *time.Time { return &r.NotAfter }),
		col("created_at", func(r *OCSPResponder) *time.Time { return &r.CreatedAt }),
	},
}.ready()

// PutOCSPResponder records a responder certificate.
func (s *Store) PutOCSPResponder(ctx context.Context, r OCSPResponder) error {
	sql, args := responders.add(&r, `ON CONFLICT DO NOTHING`)
	return s.commit(ctx, &write{what: "put OCSP responder", guards: []*stmt{must(sql, args...)}})
}

// OCSPResponders returns the responder certificates of an issuer on all nodes,
// the one that ends last first.
func (s *Store) OCSPResponders(ctx context.Context, issuerID string) ([]OCSPResponder, error) {
	var found []OCSPResponder
	err := s.query(ctx, "read OCSP responders", responders.query+`WHERE p.issuer_id = $1
		ORDER BY p.not_after DESC, p.certificate_id DESC`, []any{issuerID}, responders.scan(&found))
	return found, err
}
