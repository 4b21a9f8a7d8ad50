package admin

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/store"
)

func (s *Server) acmeAccount(a *store.Account) api.ACMEAccount {
	out := api.ACMEAccount{
		ID: a.ID, Endpoint: a.Endpoint, Thumbprint: a.Thumbprint, Contact: append([]string{}, a.Contact...),
		Status: api.ACMEAccountStatus(a.Status), EABKey: a.EABKID, Terms: a.Terms, TermsAgreedAt: when(a.TermsAgreedAt),
		CreatedAt: a.CreatedAt.UTC(), CreatedFrom: a.CreatedFrom,
	}
	if hash, err := s.cfg.AccountKey(a.JWK); err == nil { // a key that cannot be read hides no account
		out.KeyHash = hash.String()
	}
	return out
}

func when(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func acmeCounts(n map[string]int) api.ACMECounts {
	return api.ACMECounts{
		Deactivated: n["deactivated"], Expired: n["expired"], Invalid: n["invalid"], Pending: n["pending"],
		Processing: n["processing"], Ready: n["ready"], Revoked: n["revoked"], Valid: n["valid"],
	}
}

func (s *Server) acmeOrder(o *store.ACMEOrder) api.ACMEOrder {
	standing := issuance.StandingOf(&o.Order, o.Authorizations, s.cfg.Now())
	out := api.ACMEOrder{
		ID: o.ID, Account: o.AccountID, Endpoint: o.Endpoint, Profile: o.Profile, Replaces: o.Replaces,
		Names: inventory.Identifiers(o.Identifiers), NotBefore: when(o.NotBefore), NotAfter: when(o.NotAfter),
		Status: api.ACMEOrderStatus(standing.Status), Waiting: o.Status == "waiting", Node: o.Node,
		Problem: acmeProblem(standing.Problem), Certificate: o.CertificateID,
		CreatedAt: o.CreatedAt.UTC(), ExpiresAt: o.Expires.UTC(), ProcessingAt: when(o.ProcessingAt),
		Authorizations: []api.ACMEAuthorization{},
	}
	if standing.Err != nil {
		f := fault.Of(standing.Err)
		out.Problem = api.ACMEProblem{Detail: f.Detail, Reason: f.Reason}
	}
	for i := range o.Authorizations {
		out.Authorizations = append(out.Authorizations, s.acmeAuthorization(&o.Authorizations[i], ""))
	}
	return out
}

// acmeAuthorization is an authorization. Unless thumbprint, which is that of its
// account's key, is empty, it has the challenges that wait for their client.
func (s *Server) acmeAuthorization(a *store.Authorization, thumbprint string) api.ACMEAuthorization {
	out := api.ACMEAuthorization{
		ID: a.ID, Account: a.AccountID, Name: api.Identifier{Type: string(a.Identifier.Type), Value: a.Name()},
		Status:    api.ACMEAuthorizationStatus(a.StatusAt(s.cfg.Now())),
		CreatedAt: a.CreatedAt.UTC(), ExpiresAt: a.Expires.UTC(), Challenges: []api.ACMEChallenge{},
	}
	switch {
	case a.Attempted != "":
		c := acmeChallenge(a, a.Attempted, a.Thumbprint)
		c.Attempted, c.Attempts, c.NextAttemptAt = true, a.Attempts, when(a.NextAttemptAt)
		c.ValidatedAt, c.Problem, c.Record = when(a.ValidatedAt), acmeProblem(a.Error), acmeRecord(a.Record)
		out.Challenges = append(out.Challenges, c)
	case thumbprint != "" && out.Status == api.AuthorizationPending:
		for _, typ := range challenge.Offered(a.Identifier, a.Wildcard) {
			out.Challenges = append(out.Challenges, acmeChallenge(a, typ, thumbprint))
		}
	}
	return out
}

// acmeChallenge is a challenge with what is expected of the key with a thumbprint.
func acmeChallenge(a *store.Authorization, typ, thumbprint string) api.ACMEChallenge {
	out := api.ACMEChallenge{Type: typ}
	out.ExpectedAt, out.Expected = challenge.Task{
		Type: typ, Identifier: a.Identifier, Wildcard: a.Wildcard, Token: a.Token,
		KeyAuthorization: a.Token + "." + thumbprint,
	}.Expected()
	return out
}

// acmeProblem reads a problem document on record. What is no such thing shows nothing.
func acmeProblem(text json.RawMessage) (out api.ACMEProblem) {
	if len(text) > 0 {
		_ = json.Unmarshal(text, &out)
	}
	return out
}

// acmeRecord reads how an attempt went. What is no such thing shows nothing.
func acmeRecord(text json.RawMessage) (out api.ACMERecord) {
	var r challenge.Record
	if len(text) == 0 || json.Unmarshal(text, &r) != nil {
		return out
	}
	out = api.ACMERecord{At: r.At.UTC(), TXT: r.TXT, CAA: r.CAA}
	for _, h := range r.Hops {
		hop := api.ACMEHop{
			URL: h.URL, Resolved: addresses(h.Resolved), Refused: addresses(h.Refused), Tried: addresses(h.Tried),
		}
		if h.Used.IsValid() {
			hop.Used = h.Used.String()
		}
		out.Hops = append(out.Hops, hop)
	}
	return out
}

func addresses(ips []netip.Addr) (out []string) {
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out
}
