package credential

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// KindEST is the store.Claim kind of one use of an EST user.
const KindEST = "est_user"

// userName is what names of EST users look like: RFC 7617 forbids a colon, and
// the name is shown on terminals and in URLs.
var userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$`)

// ESTUsers keeps the names and passwords of HTTP Basic authentication (RFC 7030,
// section 3.2.3). It is safe for concurrent use.
type ESTUsers struct {
	store *store.Store
	guard guard
	now   func() time.Time
}

// NewESTUsers returns the keeper of the EST users in st.
func NewESTUsers(st *store.Store, limits *limit.Limiter, now func() time.Time) *ESTUsers {
	return &ESTUsers{store: st, guard: guard{limits}, now: now}
}

// NewESTUser says what a new user is to be good for.
type NewESTUser struct {
	Name        string
	Description string
	Endpoint    string // EST endpoint; empty is any
	Profile     string // that it may use; empty is any
	Binding     pki.Binding
	MaxUses     int // certificates that it may have; 0 is without limit
	ExpiresAt   time.Time
	CreatedBy   string
	RequestID   string
}

// Create makes a user. The password is returned here and can never be had again.
func (u *ESTUsers) Create(ctx context.Context, n NewESTUser) (user *store.ESTUser, password string, err error) {
	now := u.now()
	if !userName.MatchString(n.Name) {
		return nil, "", fault.New(fault.Malformed, "the name %q: want letters, digits and . _ @ -, 128 at most",
			n.Name).Because("est_user_name")
	}
	if err := checkNew(KindEST, n.Description, &n.Binding, n.MaxUses, n.ExpiresAt, now); err != nil {
		return nil, "", err
	}
	password = deviceSecret()
	user = &store.ESTUser{
		Name: n.Name, Digest: secretDigest(KindEST, n.Name, password), Description: n.Description,
		Endpoint: n.Endpoint, Profile: n.Profile, Binding: n.Binding, MaxUses: n.MaxUses,
		ExpiresAt: optionalTime(n.ExpiresAt), CreatedBy: n.CreatedBy, CreatedAt: now,
	}
	ev, err := act(now, "est_user.created", n.CreatedBy, KindEST+":"+n.Name, n.RequestID, map[string]any{
		"description": n.Description, "endpoint": n.Endpoint, "profile": n.Profile, "binding": n.Binding,
		"max_uses": n.MaxUses, "expires_at": user.ExpiresAt,
	})
	if err != nil {
		return nil, "", err
	}
	if err := u.store.CreateESTUser(ctx, *user, ev); err != nil {
		return nil, "", fmt.Errorf("create EST user: %w", err)
	}
	return user, password, nil
}

// Check says whether a name and password are right here. It consumes nothing: the
// proof's claims are taken when the certificate is reserved.
//
// Faults: RateLimited for a source that guessed too often, whoever the user is that it
// guessed at and whether there is one; Unauthenticated for a wrong name or password, which look the same; Denied for a
// user that is disabled
// or meant for something else.
func (u *ESTUsers) Check(ctx context.Context, a Attempt, name, password string) (*Proof, error) {
	guess := a.guess(name)
	if err := u.guard.limits.MayGuess(ctx, guess); err != nil {
		return nil, err
	}
	user, err := u.store.ESTUser(ctx, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("check EST user: %w", err)
	}
	if user == nil {
		user, guess.Unknown = &store.ESTUser{Name: name}, true
	}
	if !equal(secretDigest(KindEST, name, password), user.Digest) {
		return nil, u.guard.wrong(ctx, guess, KindEST)
	}
	t := userTerms(user)
	spent, err := t.admit(&a, u.now())
	if err != nil {
		return nil, err
	}
	return &Proof{
		Identity: KindEST + ":" + name, Profile: user.Profile, Claims: []store.Claim{{Kind: KindEST, ID: name}},
		Evidence: evidence("est_password", name), Spent: spent, Bound: t.bound(),
	}, nil
}

// List returns up to limit users after the one named, by name.
func (u *ESTUsers) List(ctx context.Context, after string, limit int) ([]store.ESTUser, error) {
	return u.store.ESTUsers(ctx, after, limit)
}

// Disable makes a user useless and returns it. Disabling a disabled one changes
// nothing. Its certificates stay.
func (u *ESTUsers) Disable(ctx context.Context, name, by, requestID string) (*store.ESTUser, error) {
	user, err := u.store.ESTUser(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.NotFound, "there is no EST user %s", name).Because("est_user_unknown")
	case err != nil:
		return nil, fmt.Errorf("disable EST user: %w", err)
	case user.DisabledAt != nil:
		return user, nil
	}
	now := u.now()
	ev, err := act(now, "est_user.disabled", by, KindEST+":"+name, requestID, nil)
	if err != nil {
		return nil, err
	}
	if err := u.store.DisableESTUser(ctx, name, now, ev); err != nil && !fault.Is(err, fault.Conflict) {
		return nil, fmt.Errorf("disable EST user: %w", err)
	}
	user.DisabledAt = &now
	return user, nil
}

// Standing says what a user is good for now.
func (u *ESTUsers) Standing(user *store.ESTUser) Standing {
	t := userTerms(user)
	return t.standing(u.now())
}

func userTerms(u *store.ESTUser) terms {
	return terms{
		kind: KindEST, endpoint: u.Endpoint, profile: u.Profile, binding: u.Binding,
		maxUses: u.MaxUses, uses: u.Uses, expires: u.ExpiresAt, disabled: u.DisabledAt,
	}
}
