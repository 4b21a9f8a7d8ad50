package credential

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// KindSCEP is the store.Claim kind of one use of a SCEP challenge.
const KindSCEP = "scep_challenge"

// SCEPChallenges keeps the challenge passwords of SCEP (RFC 8894, section 7.3):
// one-time ones for a subject, or one that many devices share. It is safe for
// concurrent use.
type SCEPChallenges struct {
	store *store.Store
	guard guard
	now   func() time.Time
}

// NewSCEPChallenges returns the keeper of the SCEP challenges in st.
func NewSCEPChallenges(st *store.Store, limits *limit.Limiter, now func() time.Time) *SCEPChallenges {
	return &SCEPChallenges{store: st, guard: guard{limits}, now: now}
}

// NewSCEPChallenge says what a new challenge is to be good for.
type NewSCEPChallenge struct {
	Description string
	Endpoint    string // SCEP endpoint; empty is any
	Profile     string // that it may use; empty is any
	Binding     pki.Binding
	MaxUses     int // certificates that it is good for; 0 is without limit
	ExpiresAt   time.Time
	CreatedBy   string
	RequestID   string
}

// Create makes a challenge. The secret is returned here and can never be had
// again.
func (c *SCEPChallenges) Create(
	ctx context.Context, n NewSCEPChallenge,
) (challenge *store.SCEPChallenge, secret string, err error) {
	now := c.now()
	if err := checkNew(KindSCEP, n.Description, &n.Binding, n.MaxUses, n.ExpiresAt, now); err != nil {
		return nil, "", err
	}
	secret = deviceSecret()
	challenge = &store.SCEPChallenge{
		ID: store.NewID(), Digest: secretDigest(KindSCEP, "", secret), Description: n.Description,
		Endpoint: n.Endpoint, Profile: n.Profile, Binding: n.Binding, MaxUses: n.MaxUses,
		ExpiresAt: optionalTime(n.ExpiresAt), CreatedBy: n.CreatedBy, CreatedAt: now,
	}
	ev, err := act(now, "scep_challenge.created", n.CreatedBy, KindSCEP+":"+challenge.ID, n.RequestID, map[string]any{
		"description": n.Description, "endpoint": n.Endpoint, "profile": n.Profile, "binding": n.Binding,
		"max_uses": n.MaxUses, "expires_at": challenge.ExpiresAt,
	})
	if err != nil {
		return nil, "", err
	}
	if err := c.store.CreateSCEPChallenge(ctx, *challenge, ev); err != nil {
		return nil, "", fmt.Errorf("create SCEP challenge: %w", err)
	}
	return challenge, secret, nil
}

// Check says whether a challenge password is right here, in a request with a CSR. It
// consumes nothing: the proof's claims are taken when the certificate is reserved.
//
// A secret is found by its digest: how long that takes tells nothing of the
// secret (rule S21).
//
// Faults: RateLimited for a source that guessed too often; Unauthenticated for a
// wrong secret, or none, which does not count; Denied for a challenge that is
// disabled or meant for another endpoint.
func (c *SCEPChallenges) Check(ctx context.Context, a Attempt, secret string, csr *pki.CSR) (*Proof, error) {
	if secret == "" { // nothing was guessed
		return nil, fault.New(fault.Unauthenticated, "the request has no challenge password").
			Because(KindSCEP + "_missing")
	}
	guess := a.device(csr)
	if err := c.guard.limits.MayGuess(ctx, guess); err != nil {
		return nil, err
	}
	digest := secretDigest(KindSCEP, "", secret)
	found, err := c.store.SCEPChallengeByDigest(ctx, digest)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("check SCEP challenge: %w", err)
	}
	if found == nil || !equal(digest, found.Digest) {
		return nil, c.guard.wrong(ctx, guess, KindSCEP)
	}
	t := challengeTerms(found)
	spent, err := t.admit(&a, c.now())
	if err != nil {
		return nil, err
	}
	return &Proof{
		Identity: KindSCEP + ":" + found.ID, Profile: found.Profile,
		Claims:   []store.Claim{{Kind: KindSCEP, ID: found.ID}},
		Evidence: evidence("scep_challenge", found.ID), Spent: spent, Bound: t.bound(),
	}, nil
}

// device is what a wrong challenge password is counted by that was made here: SCEP
// has no names for those who ask, and the key of a signed request is nobody else's.
func (a *Attempt) device(csr *pki.CSR) limit.Guess {
	g := a.guess("key " + csr.KeyHash.String())
	g.Unknown = true
	return g
}

// Named is what a wrong challenge password is counted by that somebody chose: the
// subject of the request, since a guesser makes a key for each guess for nothing.
func (a *Attempt) Named(csr *pki.CSR) limit.Guess {
	g := a.device(csr)
	if subject := csr.Subject.String(); subject != "" {
		g.Identity = subject
	}
	g.Chosen = true
	return g
}

// List returns up to limit challenges after the one named, oldest first.
func (c *SCEPChallenges) List(ctx context.Context, after string, limit int) ([]store.SCEPChallenge, error) {
	return c.store.SCEPChallenges(ctx, after, limit)
}

// Disable makes a challenge useless and returns it. Disabling a disabled one
// changes nothing. Certificates that it was used for stay.
func (c *SCEPChallenges) Disable(ctx context.Context, id, by, requestID string) (*store.SCEPChallenge, error) {
	found, err := c.store.SCEPChallenge(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.NotFound, "there is no SCEP challenge %s", id).Because("scep_challenge_unknown")
	case err != nil:
		return nil, fmt.Errorf("disable SCEP challenge: %w", err)
	case found.DisabledAt != nil:
		return found, nil
	}
	now := c.now()
	ev, err := act(now, "scep_challenge.disabled", by, KindSCEP+":"+id, requestID, nil)
	if err != nil {
		return nil, err
	}
	if err := c.store.DisableSCEPChallenge(ctx, id, now, ev); err != nil && !fault.Is(err, fault.Conflict) {
		return nil, fmt.Errorf("disable SCEP challenge: %w", err)
	}
	found.DisabledAt = &now
	return found, nil
}

// Standing says what a challenge is good for now.
func (c *SCEPChallenges) Standing(ch *store.SCEPChallenge) Standing {
	t := challengeTerms(ch)
	return t.standing(c.now())
}

func challengeTerms(c *store.SCEPChallenge) terms {
	return terms{
		kind: KindSCEP, endpoint: c.Endpoint, profile: c.Profile, binding: c.Binding,
		maxUses: c.MaxUses, uses: c.Uses, expires: c.ExpiresAt, disabled: c.DisabledAt,
	}
}
