package acme

import (
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// certificate answers a POST-as-GET with the chain in PEM: the leaf, then each
// CA that certifies the one before, without the root (RFC 8555, section 7.4.2).
// Other chains have URLs of their own, which every answer names (rule A46).
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
	chain := cert.Chain
	if wanted := chi.URLParam(r, "chain"); wanted != "" {
		n, err := strconv.ParseUint(wanted, 10, 8)
		if err != nil || n == 0 || n > uint64(len(cert.Alternates)) {
			return fault.New(fault.NotFound, "this certificate has no such chain")
		}
		chain = cert.Alternates[n-1]
		w.Header().Add("Link", link(c.ep.certificate(cert.ID), "alternate"))
	}
	for i := range cert.Alternates {
		if url := c.ep.certificate(cert.ID) + "/" + strconv.Itoa(i+1); c.url != url {
			w.Header().Add("Link", link(url, "alternate"))
		}
	}
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	_, _ = w.Write(pki.EncodeChain(append([][]byte{cert.DER}, chain...)...))
	return nil
}
