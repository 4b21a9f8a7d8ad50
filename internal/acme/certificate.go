package acme

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// certificate answers a POST-as-GET with the chain in PEM: the leaf, then each
// CA that certifies the one before, without the root (RFC 8555, section 7.4.2).
// No alternate chain exists, so no Link names one (rule A46).
func (s *Server) certificate(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := c.asGET(); err != nil {
		return err
	}
	cert, err := s.Pipeline.Certificate(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return missing(err, "no such certificate")
	}
	if cert.Requester != c.actor() {
		return fault.New(fault.Denied, "this certificate belongs to another account")
	}
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	_, _ = w.Write(pki.EncodeChain(append([][]byte{cert.DER}, cert.Chain...)...))
	return nil
}
