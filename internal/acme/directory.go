package acme

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// directoryView is the directory (RFC 8555, section 7.1.1). newAuthz is absent:
// pre-authorization is not offered (rule A43).
type directoryView struct {
	NewNonce    string        `json:"newNonce"`
	NewAccount  string        `json:"newAccount"`
	NewOrder    string        `json:"newOrder"`
	RevokeCert  string        `json:"revokeCert"`
	KeyChange   string        `json:"keyChange"`
	RenewalInfo string        `json:"renewalInfo"`
	Meta        directoryMeta `json:"meta"`
}

type directoryMeta struct {
	TermsOfService          string            `json:"termsOfService"`
	Website                 string            `json:"website"`
	CAAIdentities           []string          `json:"caaIdentities,omitempty"`
	ExternalAccountRequired bool              `json:"externalAccountRequired"`
	Profiles                map[string]string `json:"profiles,omitempty"` // name to description
}

// directory answers GET /acme/NAME/directory.
func (s *Server) directory(w http.ResponseWriter, _ *http.Request, ep *endpoint) error {
	cfg := ep.set.cfg
	d := directoryView{
		NewNonce:    ep.url + "/new-nonce",
		NewAccount:  ep.url + "/new-account",
		NewOrder:    ep.url + "/new-order",
		RevokeCert:  ep.url + "/revoke-cert",
		KeyChange:   ep.url + "/key-change",
		RenewalInfo: ep.url + "/renewal-info", // without a slash at the end (rule A64)
		Meta: directoryMeta{
			TermsOfService: cfg.TermsOfService, Website: cfg.Website, CAAIdentities: cfg.CAAIdentities,
			ExternalAccountRequired: ep.RequireEAB, Profiles: map[string]string{},
		},
	}
	rules := s.Pipeline.Rules()
	for _, name := range ep.Profiles {
		if p := rules.Profiles[name]; p != nil {
			d.Meta.Profiles[name] = p.Description()
		}
	}
	body, err := json.MarshalIndent(d, "", "  ") // people read this one
	if err != nil {
		return fmt.Errorf("encode directory: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
	return nil
}
