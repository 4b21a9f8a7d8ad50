package acme

import (
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// checkNames refuses names that the profile, or every CA that could sign, will
// refuse in any case, before the client proves them (rule A32).
func (s *Server) checkNames(ep *endpoint, prof *profile.Profile, names []pki.Identifier) error {
	if err := prof.CheckNames(names); err != nil {
		return err
	}
	return s.Pipeline.CheckNames(ep.Issuer, names)
}
