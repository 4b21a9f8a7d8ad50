package acme

import (
	"context"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// renewalPoll is when clients shall look at a certificate's window again. A
// client that is not told takes that for an error of hours (rule A64).
const renewalPoll = 6 * time.Hour

type renewalView struct {
	Window struct {
		Start string `json:"start"`
		End   string `json:"end"`
	} `json:"suggestedWindow"`
}

// renewalInfo says when a certificate should be renewed (RFC 9773, section 4):
// after two thirds of its life, spread over a twelfth of it; at once when it is
// revoked.
func (s *Server) renewalInfo(w http.ResponseWriter, r *http.Request, _ *endpoint) error {
	cert, err := s.certificateByARI(r.Context(), chi.URLParam(r, "certid"))
	if err != nil {
		return err
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	start := cert.NotBefore.Add(life * 2 / 3)
	end := start.Add(life / 12)
	if cert.Revocation != nil {
		end = s.Now().Add(-time.Minute)
		start = end.Add(-time.Hour)
	}
	var v renewalView
	v.Window.Start, v.Window.End = stamp(start), stamp(end)
	w.Header().Set("Retry-After", seconds(renewalPoll))
	return reply(w, http.StatusOK, v)
}

// certificateByARI finds an issued certificate by the identifier of RFC 9773,
// section 4.1: authority key identifier and serial, base64url, with a point
// between them.
func (s *Server) certificateByARI(ctx context.Context, id string) (*store.Certificate, error) {
	keyID, serial, err := parseARI(id)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "this is not a certificate identifier as RFC 9773 defines it")
	}
	for _, c := range s.Pipeline.Rules().CAs.All() {
		if own := c.Certificate(); own == nil || string(own.SubjectKeyId) != string(keyID) {
			continue
		}
		cert, err := s.Store.CertificateBySerial(ctx, c.ID, serial)
		switch {
		case err == nil && cert.DER != nil:
			return cert, nil
		case err != nil && !isNotFound(err):
			return nil, err
		}
	}
	return nil, fault.New(fault.NotFound, "no such certificate")
}

func parseARI(id string) (keyID []byte, serial pki.Serial, err error) {
	left, right, ok := strings.Cut(id, ".")
	if !ok || len(id) > 200 {
		return nil, "", errors.New("no point in the middle, or too long")
	}
	if keyID, err = decodeBase64(left); err != nil {
		return nil, "", err
	}
	raw, err := decodeBase64(right)
	if err != nil {
		return nil, "", err
	}
	n := new(big.Int).SetBytes(raw)
	if len(keyID) == 0 || n.Sign() == 0 || string(derInteger(n)) != string(raw) {
		return nil, "", errors.New("not the content octets of a positive INTEGER")
	}
	return keyID, pki.SerialFromBig(n), nil
}

// derInteger returns the content octets of a positive DER INTEGER.
func derInteger(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

// ariID is the identifier of a certificate, the one way to write it.
func ariID(keyID []byte, serial pki.Serial) string {
	return base64.RawURLEncoding.EncodeToString(keyID) + "." +
		base64.RawURLEncoding.EncodeToString(derInteger(serial.Big()))
}

// checkReplaces judges the certificate that an order says it replaces (RFC 9773,
// section 5): one of the same account, with a name in common, and not replaced
// by an order that is still good.
func (s *Server) checkReplaces(ctx context.Context, c *call, o *store.Order) error {
	cert, err := s.certificateByARI(ctx, o.Replaces)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Malformed, "the certificate to be replaced is not one of this CA's")
	}
	if err != nil {
		return err
	}
	if cert.Requester != c.actor() {
		return fault.New(fault.Denied, "the certificate to be replaced was ordered by another account")
	}
	if !shareName(cert.Names, o.Identifiers) {
		return fault.New(fault.Malformed, "the order has no identifier of the certificate that it is to replace")
	}
	return s.checkReplaced(ctx, c, o)
}

// checkReplaced refuses an order for a certificate that another one replaces and
// is still good. The store takes the place of that other order, and of no other
// that comes in between.
func (s *Server) checkReplaced(ctx context.Context, c *call, o *store.Order) error {
	id, err := s.Store.Replacement(ctx, o.Replaces)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	other, authzs, err := s.Store.Order(ctx, id)
	switch {
	case isNotFound(err): // purged a moment ago
		return nil
	case err != nil:
		return err
	}
	if status, _ := orderStatus(other, authzs, s.Now()); status != statusInvalid {
		return fault.New(fault.AlreadyReplaced, "order %s replaces the certificate already", c.ep.order(id))
	}
	o.InPlaceOf = id
	return nil
}

func shareName(a, b []pki.Identifier) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}
