package ceremony

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// check looks at what was signed once more: the file that was written, its
// signature, the laws of the hierarchy, the linter, and the rehearsal.
func (r *run) check(by string, rehearsed, o outcome) error {
	ca := r.cas[by]
	if o.list != nil {
		return r.checkList(ca, o.list)
	}
	c := o.certificate
	if c == nil {
		return nil
	}
	chain, err := ca.Chain()
	if err != nil {
		return err
	}
	above := chain
	if slices.Equal(c.Raw, chain[0].Raw) {
		above = chain[1:]
	}
	if c.IsCA {
		err = calaw.Signed(append([]*x509.Certificate{c}, above...))
	} else {
		err = pki.CertifiedBy(c, chain[0])
	}
	if err != nil {
		return fmt.Errorf("check what was signed: %w", err)
	}
	profile := "issuing-ca"
	if !c.IsCA {
		profile = "ocsp-signing"
	}
	if err := issuer.LintCertificate(c.Raw, profile); err != nil {
		return fmt.Errorf("check what was signed: %w", err)
	}
	if rehearsed.certificate == nil {
		return nil
	}
	return alike(rehearsed.certificate, c)
}

func (r *run) checkList(ca CA, list *x509.RevocationList) error {
	chain, err := ca.Chain()
	if err != nil {
		return err
	}
	onDisk, err := os.ReadFile(ca.path(crlFile))
	if err != nil {
		return fmt.Errorf("check list: %w", err)
	}
	if !slices.Equal(onDisk, list.Raw) {
		return errors.New("check list: the file is not what was signed")
	}
	if err := pki.ListedBy(list, chain[0]); err != nil {
		return fmt.Errorf("check list: %w", err)
	}
	if err := issuer.LintList(list.Raw); err != nil {
		return fmt.Errorf("check list: %w", err)
	}
	return nil
}
