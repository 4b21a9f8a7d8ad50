package est

import (
	"crypto/x509"
	"net/http"
	"slices"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// cacerts is RFC 7030, section 4.1: the issuer that signs first, then what
// certifies it up to the root, its other chains, the same of the other issuers of
// the pool, all of it by every chain that is known, so that CAs that certify each
// other are there too, and the certificates of a rollover. Anybody may ask.
func (s *Server) cacerts(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	var certs []*x509.Certificate
	add := func(c *x509.Certificate) {
		if !slices.ContainsFunc(certs, c.Equal) {
			certs = append(certs, c)
		}
	}
	expired := func(c *x509.Certificate) bool { return s.Now().After(c.NotAfter) }
	for i, chain := range s.Pipeline.Rules().CAs.Chains(ep.Issuer) {
		if i > 0 && slices.ContainsFunc(chain, expired) { // a generation that is over
			continue
		}
		for _, c := range chain {
			add(c)
		}
	}
	if len(certs) == 0 {
		return fault.New(fault.Unavailable, "no CA is installed yet").Because("no_issuer")
	}
	for _, c := range ep.Rollover {
		add(c)
	}
	message, err := cms.Degenerate(certs, nil)
	if err != nil {
		return err
	}
	tag := `"` + pki.Fingerprint(ep.encode(r, message))[:32] + `"`
	w.Header().Set("Vary", "User-Agent") // see wraps
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	ep.reply(w, r, typeCertsOnly, message)
	return nil
}
