// Package enrolment says who may renew, or enrol, what by the power of a
// certificate of ours.
//
// A front-end proves that its client has the key of a certificate, by TLS or by
// the signature of a message. Holder finds the certificate on record, Check is the
// verdict of an endpoint on it, Again is the request for the same names once more,
// and Count is the limit on its line. EST and SCEP get the same verdict and the
// same reason code from here; certificates of others are not this package's
// business.
//
// A line is a certificate and all that was enrolled by its power. Every one of
// them is judged by the first: by which protocol it was enrolled, by whom, and how
// often its holder has asked.
package enrolment

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Protocols are the values of Rules.Protocols. What an operator imported counts as
// his own.
var Protocols = []string{"est", "scep", "acme", protocolOperator}

const protocolOperator = "operator"

// CheckProtocols reports a protocol that there is not.
func CheckProtocols(names []string) error {
	var wrong []error
	for i, name := range names {
		wrong = append(wrong, strictyaml.OneOf(fmt.Sprintf("accept_protocols[%d]", i), name, Protocols...))
	}
	return errors.Join(wrong...)
}

// Rules are what an endpoint demands of a certificate of ours.
type Rules struct {
	Endpoint  string        // its name: what it issued counts, whoever its issuer was then
	Issuer    string        // name of an issuer or of a pool, former generations included
	Profiles  []string      // of the certificates that it issues and renews
	LogIn     []string      // further profiles, whose certificates log in and are not renewed
	Protocols []string      // by which a line was first enrolled; empty is any
	Grace     time.Duration // how long after its end a certificate renews
}

// Config is what an Enrolment works with.
type Config struct {
	Store    *store.Store
	Pipeline *issuance.Pipeline
	Limits   *limit.Limiter
	Now      func() time.Time
}

// Enrolment judges holders. It is safe for concurrent use.
type Enrolment struct{ cfg Config }

// New returns an Enrolment.
func New(cfg Config) *Enrolment { return &Enrolment{cfg} }

// Holder is who has proved to have the key of a certificate of ours.
type Holder struct {
	Certificate *x509.Certificate
	Row         *store.Certificate // holds the same octets
	first       *store.Certificate // of its line
}

// Identity is the holder's name in records.
func (h *Holder) Identity() string { return holderPrefix + h.Row.ID }

// Foreign is the name in records of who has the key of a certificate that is not ours.
func Foreign(cert *x509.Certificate) string { return foreignPrefix + pki.Fingerprint(cert.Raw) }

// Line is what issuance.Request.Lineage is for what the holder enrols for itself.
func (h *Holder) Line() string { return h.first.ID }

// refuse is the fault of a certificate that does not count.
func refuse(reason, format string, args ...any) error {
	return fault.New(fault.Denied, "client certificate: "+format, args...).Because("certificate_" + reason)
}

// Holder returns the holder of a certificate; NotFound if it was not issued here.
func (e *Enrolment) Holder(ctx context.Context, cert *x509.Certificate) (*Holder, error) {
	row, err := e.cfg.Pipeline.Lookup(ctx, cert.Raw)
	if err != nil {
		return nil, err
	}
	first, err := e.first(ctx, row)
	if err != nil {
		return nil, err
	}
	return &Holder{Certificate: cert, Row: row, first: first}, nil
}

// Chain returns the certificates of a basis, leaf first.
func (e *Enrolment) Chain(ctx context.Context, b issuance.Basis) ([]*x509.Certificate, error) {
	ders := b.Chain
	if b.Holder != "" {
		row, err := e.cfg.Store.CertificateByID(ctx, b.Holder)
		if errors.Is(err, store.ErrNotFound) {
			return nil, refuse("unknown", "it is not on record any more")
		}
		if err != nil {
			return nil, err
		}
		ders = [][]byte{row.DER}
	}
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("read the certificate by which something was asked: %w", err)
		}
	}
	if len(chain) == 0 {
		return nil, refuse("unknown", "it is not on record")
	}
	return chain, nil
}

// Gone is the fault of a request whose endpoint is not configured any more by the
// time that it is decided.
func Gone(endpoint string) error {
	return fault.New(fault.Denied, "the endpoint %q does not exist any more", endpoint).Because("endpoint_gone")
}

// Offered refuses a request whose endpoint has changed by the time that it is
// decided: it does not offer the profile any more, or does not take what the
// client proved itself by.
func Offered(row *store.Request, profiles []string, takes bool) error {
	switch {
	case !slices.Contains(profiles, row.Profile):
		return fault.New(fault.Denied, "the endpoint %q does not offer the profile %s any more",
			row.Endpoint, row.Profile).Because("profile_gone")
	case !takes:
		return fault.New(fault.Denied, "the endpoint %q does not take any more what the client proved itself by",
			row.Endpoint).Because("proof_gone")
	}
	return nil
}

// Check is the verdict of an endpoint on a holder: nil, or Denied with a reason
// that is the same in every protocol. Renew tells that the certificate itself is
// to be renewed, and not only shown.
func (e *Enrolment) Check(ctx context.Context, rules Rules, h *Holder, renew bool) error {
	if err := e.current(rules, h.Row, renew); err != nil {
		return err
	}
	if err := e.belongs(rules, h.Row, renew); err != nil {
		return err
	}
	if err := e.CheckKey(ctx, h.Certificate.PublicKey); err != nil {
		return err
	}
	return e.standing(ctx, rules, h.first)
}

// current judges status and dates. A certificate on hold is revoked for as long.
func (e *Enrolment) current(rules Rules, row *store.Certificate, renew bool) error {
	now := e.cfg.Now()
	late := now.Sub(row.NotAfter)
	switch {
	case row.Revocation != nil:
		return refuse("revoked", "it was revoked on %s", row.Revocation.RevokedAt.UTC().Format("2006-01-02"))
	case row.Status != "issued" && row.Status != "imported":
		return refuse("unknown", "it was not issued here")
	case now.Before(row.NotBefore):
		return refuse("not_yet_valid", "it is not valid yet")
	case late > 0 && !renew:
		return refuse("expired", "it has expired")
	case late > 0 && late > rules.Grace:
		return refuse("expired", "it has expired, and longer ago than can be renewed: enrol anew")
	}
	return nil
}

// belongs judges issuer and profile.
func (e *Enrolment) belongs(rules Rules, row *store.Certificate, renew bool) error {
	offered, ids := slices.Contains(rules.Profiles, row.Profile), e.cfg.Pipeline.Rules().CAs.IDs(rules.Issuer)
	switch {
	case row.Endpoint != rules.Endpoint && row.IssuerID != rules.Issuer && !slices.Contains(ids, row.IssuerID):
		return refuse("other_issuer", "its issuer is not the one of this endpoint")
	case renew && !offered:
		return refuse("other_profile", "certificates of the profile %s are not renewed here", row.Profile)
	case !offered && !slices.Contains(rules.LogIn, row.Profile):
		return refuse("other_profile", "certificates of the profile %s do not log in here", row.Profile)
	}
	return nil
}

// CheckKey refuses the key of a certificate, ours or not, that strangers may have.
func (e *Enrolment) CheckKey(ctx context.Context, key crypto.PublicKey) error {
	err := e.cfg.Pipeline.CheckKey(ctx, key)
	if fault.Is(err, fault.BadPublicKey) {
		return refuse("key_compromised", "%s", fault.Of(err).Detail)
	}
	return err
}

// Count takes one request of the holder's line.
func (e *Enrolment) Count(ctx context.Context, h *Holder) error {
	return e.cfg.Limits.Enrolment(ctx, lineKey(h.first))
}
