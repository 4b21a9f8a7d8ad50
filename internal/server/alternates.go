package server

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/hierarchy"
)

// alternates adds the other chains of the issuers: by cross-certificates of the
// issuer's own key, or of one above it.
func (s *signing) alternates(cfg *config.File) error {
	for _, is := range cfg.Issuers {
		own := s.chain(is.ID)
		if own == nil {
			continue
		}
		for _, file := range is.Chains {
			chain, err := config.ReadChain(file)
			if err != nil {
				return fmt.Errorf("issuer %s: %w", is.ID, err)
			}
			if !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, own[0].RawSubjectPublicKeyInfo) || !bytes.Equal(chain[0].RawSubject, own[0].RawSubject) {
				err = errors.New("its first certificate is not one of this issuer's name and key")
			} else {
				err = hierarchy.VerifyPath(chain)
			}
			if err != nil {
				return fmt.Errorf("issuer %s: chains: %s: %w", is.ID, file, err)
			}
			s.rules.ByIssuer[is.ID] = append(s.rules.ByIssuer[is.ID], chain)
		}
	}
	return nil
}
