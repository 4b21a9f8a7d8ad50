package scep

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
)

// The media types of RFC 8894, section 4.
const (
	typeCaps      = "text/plain"
	typeCA        = "application/x-x509-ca-cert"
	typeCAs       = "application/x-x509-ca-ra-cert"
	typeNextCA    = "application/x-x509-next-ca-cert"
	typePKIAnswer = "application/x-pki-message"
)

// write answers with a length: some clients cannot read chunks (rule S4).
func write(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
}

// getCACaps says what the endpoint will do, and nothing else (rule S6).
func (s *Server) getCACaps(w http.ResponseWriter, _ *http.Request, ep *endpoint) error {
	// SHA-384 is not registered, but done; strongSwan 5.9 takes it for the AES that
	// it looks for. AES is AES-128-CBC, and SCEPStandard has it too (RFC 8894, section
	// 3.5.2); there is no word for GCM.
	caps := []string{"POSTPKIOperation", "Renewal", "SHA-256", "SHA-384", "SHA-512"}
	if slices.Contains(ep.policy.Ciphers, cms.AES128CBC) {
		caps = append(append([]string{"AES"}, caps...), "SCEPStandard")
	}
	if slices.Contains(ep.policy.Ciphers, cms.TripleDES) {
		caps = append(caps, "DES3")
	}
	if ep.SHA1 {
		caps = append(caps, "SHA-1")
	}
	if s.chain(ep.NextIssuer) != nil {
		caps = append(caps, "GetNextCACert")
	}
	write(w, typeCaps, []byte(strings.Join(caps, "\n")+"\n"))
	return nil
}

// published returns the RA that clients are given and the chains of the endpoint's
// issuers, first that of the issuer that certified the RA: clients look for it.
func (s *Server) published(ep *endpoint) (*ra, [][]*x509.Certificate, error) {
	chains := slices.Clone(s.Pipeline.Rules().CAs.Chains(ep.Issuer))
	if len(chains) == 0 {
		return nil, nil, fault.New(fault.Unavailable, "the issuer of this endpoint cannot sign yet").
			Because("no_issuer")
	}
	r, by := ep.ras.published(chains, s.Now())
	if r == nil {
		return nil, nil, fault.New(fault.Unavailable, "this endpoint has no RA certificate yet").Because("scep_no_ra")
	}
	chains[0], chains[by] = chains[by], chains[0]
	return r, chains, nil
}

// getCACert answers the certificates that a client writes to and verifies with,
// the one to encrypt to first (rules S7, S8); of a pool, all that may sign.
func (s *Server) getCACert(w http.ResponseWriter, _ *http.Request, ep *endpoint) error {
	r, chains, err := s.published(ep)
	if err != nil {
		return err
	}
	bundle := r.certificates()
	add := func(certs []*x509.Certificate) {
		for _, c := range certs {
			if !slices.ContainsFunc(bundle, c.Equal) {
				bundle = append(bundle, c)
			}
		}
	}
	for _, chain := range chains {
		switch ep.CABundle {
		case "ra+ca":
			add(chain[:1])
		case "full":
			add(chain)
		}
	}
	if len(bundle) == 1 {
		write(w, typeCA, bundle[0].Raw)
		return nil
	}
	body, err := cms.Degenerate(bundle, nil)
	if err == nil {
		write(w, typeCAs, body)
	}
	return err
}

// getNextCACert answers the certificates of the issuer that will take over,
// signed by the RA of today: a CA's key signs certificates and their status and
// nothing else (rule S12).
func (s *Server) getNextCACert(w http.ResponseWriter, _ *http.Request, ep *endpoint) error {
	next := s.chain(ep.NextIssuer)
	if next == nil {
		return fault.New(fault.NotFound, "no other CA is about to take over").Because("scep_no_next_ca")
	}
	r, _, err := s.published(ep)
	if err != nil {
		return err
	}
	var bundle []*x509.Certificate
	for _, c := range next {
		if len(bundle) == 0 || !bytes.Equal(c.RawIssuer, c.RawSubject) || ep.CABundle == "full" {
			bundle = append(bundle, c)
		}
	}
	bag, err := cms.Degenerate(bundle, nil)
	if err != nil {
		return err
	}
	body, err := cms.Sign(cms.Message{Type: cms.OIDData, Content: bag}, cms.Signer{
		Certificate: r.sign.cert, Key: r.sign.key, SigningTime: s.Now(),
	})
	if err == nil {
		write(w, typeNextCA, body)
	}
	return err
}
