package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// CreateESTUser is POST /v1/est/users.
func (s *Server) CreateESTUser(ctx context.Context, _ api.None, b *api.NewESTUser) (*api.ESTUserSecret, error) {
	n := credential.NewESTUser{
		Name: b.Name, Description: b.Description, Endpoint: b.Endpoint, Profile: b.Profile,
		Binding: pki.Binding{Subject: b.Subject, Names: b.Names, AnyName: b.AnyName},
		MaxUses: uses(b.MaxUses), ExpiresAt: b.ExpiresAt, CreatedBy: requester(ctx), RequestID: web.RequestID(ctx),
	}
	if err := s.scope("est", n.Endpoint, n.Profile); err != nil {
		return nil, err
	}
	user, password, err := s.cfg.ESTUsers.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return &api.ESTUserSecret{Name: user.Name, Password: password, User: s.estUser(user)}, nil
}

// ListESTUsers is GET /v1/est/users.
func (s *Server) ListESTUsers(ctx context.Context, p api.PageParams, _ *api.None) (*api.ESTUserPage, error) {
	limit, err := pageSize(p.Limit)
	if err != nil {
		return nil, err
	}
	users, err := s.cfg.ESTUsers.List(ctx, p.Cursor, limit+1)
	if err != nil {
		return nil, err
	}
	page := &api.ESTUserPage{Users: []api.ESTUser{}}
	if len(users) > limit {
		users = users[:limit]
		page.Next = users[limit-1].Name
	}
	for i := range users {
		page.Users = append(page.Users, s.estUser(&users[i]))
	}
	return page, nil
}

// DisableESTUser is POST /v1/est/users/{name}/disable.
func (s *Server) DisableESTUser(ctx context.Context, p api.ESTUserRef, _ *api.None) (*api.ESTUser, error) {
	user, err := s.cfg.ESTUsers.Disable(ctx, p.Name, requester(ctx), web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	return new(s.estUser(user)), nil
}

func (s *Server) estUser(u *store.ESTUser) api.ESTUser {
	return api.ESTUser{
		Name: u.Name, Status: string(s.cfg.ESTUsers.Standing(u)), Description: u.Description, Endpoint: u.Endpoint,
		Profile: u.Profile,
		Subject: u.Binding.Subject, Names: u.Binding.Names, AnyName: u.Binding.AnyName, Unbound: u.Binding.Old,
		MaxUses: u.MaxUses, Uses: u.Uses, ExpiresAt: utc(u.ExpiresAt), DisabledAt: utc(u.DisabledAt),
		CreatedBy: u.CreatedBy, CreatedAt: u.CreatedAt.UTC(),
	}
}

// CreateSCEPChallenge is POST /v1/scep/challenges.
func (s *Server) CreateSCEPChallenge(
	ctx context.Context, _ api.None, b *api.NewSCEPChallenge,
) (*api.SCEPChallengeSecret, error) {
	n := credential.NewSCEPChallenge{
		Description: b.Description, Endpoint: b.Endpoint, Profile: b.Profile,
		Binding: pki.Binding{Subject: b.Subject, Names: b.Names, AnyName: b.AnyName},
		MaxUses: uses(b.MaxUses), ExpiresAt: b.ExpiresAt, CreatedBy: requester(ctx), RequestID: web.RequestID(ctx),
	}
	if err := s.scope("scep", n.Endpoint, n.Profile); err != nil {
		return nil, err
	}
	challenge, secret, err := s.cfg.SCEPChallenges.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return &api.SCEPChallengeSecret{ID: challenge.ID, Secret: secret, Challenge: s.scepChallenge(challenge)}, nil
}

// ListSCEPChallenges is GET /v1/scep/challenges.
func (s *Server) ListSCEPChallenges(
	ctx context.Context, p api.PageParams, _ *api.None,
) (*api.SCEPChallengePage, error) {
	limit, err := pageSize(p.Limit)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.SCEPChallenges.List(ctx, p.Cursor, limit+1)
	if err != nil {
		return nil, err
	}
	page := &api.SCEPChallengePage{Challenges: []api.SCEPChallenge{}}
	if len(found) > limit {
		found = found[:limit]
		page.Next = found[limit-1].ID
	}
	for i := range found {
		page.Challenges = append(page.Challenges, s.scepChallenge(&found[i]))
	}
	return page, nil
}

// DisableSCEPChallenge is POST /v1/scep/challenges/{id}/disable.
func (s *Server) DisableSCEPChallenge(ctx context.Context, p api.IDRef, _ *api.None) (*api.SCEPChallenge, error) {
	challenge, err := s.cfg.SCEPChallenges.Disable(ctx, p.ID, requester(ctx), web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	return new(s.scepChallenge(challenge)), nil
}

func (s *Server) scepChallenge(c *store.SCEPChallenge) api.SCEPChallenge {
	return api.SCEPChallenge{
		ID: c.ID, Status: string(s.cfg.SCEPChallenges.Standing(c)), Description: c.Description, Endpoint: c.Endpoint,
		Profile: c.Profile,
		Subject: c.Binding.Subject, Names: c.Binding.Names, AnyName: c.Binding.AnyName, Unbound: c.Binding.Old,
		MaxUses: c.MaxUses, Uses: c.Uses, ExpiresAt: utc(c.ExpiresAt), DisabledAt: utc(c.DisabledAt),
		CreatedBy: c.CreatedBy, CreatedAt: c.CreatedAt.UTC(),
	}
}

// scope refuses an endpoint or a profile that does not exist, which would make a
// credential that is good for nothing.
func (s *Server) scope(protocol, endpoint, profile string) error {
	if endpoints := s.cfg.Endpoints(protocol); endpoint != "" && !slices.Contains(endpoints, endpoint) {
		return fault.New(fault.Malformed, "there is no %s endpoint %q; there are: %s", strings.ToUpper(protocol),
			endpoint, strings.Join(endpoints, ", ")).
			Because("endpoint_unknown")
	}
	if _, ok := s.cfg.Pipeline.Rules().Profiles[profile]; profile != "" && !ok {
		return fault.New(fault.InvalidProfile, "there is no profile %q", profile).Because("profile_unknown")
	}
	return nil
}

// uses is how often a credential is good when nothing is said: once.
func uses(given *int) int {
	if given == nil {
		return 1
	}
	return *given
}

func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
