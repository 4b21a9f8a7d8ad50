package issuance

import (
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// protocolOperator is the protocol of the operator API.
const protocolOperator = "operator"

// Rules are what may be issued, and by whom. A change swaps them whole.
type Rules struct {
	Profiles map[string]*profile.Profile
	CAs      *ca.Set
	// KnownKeys are public keys that get no certificate and no account.
	KnownKeys pki.KeyList
}

// candidates returns the CAs that may sign for a request, in the order in which
// they are tried.
func (p *Pipeline) candidates(rules *Rules, r Request) ([]*ca.CA, error) {
	return rules.CAs.Candidates(r.Issuer, ca.Responder(rules.Profiles[r.Profile]), p.now())
}
