// Package credential makes, keeps and checks the secrets by which clients prove
// who they are: EAB keys, EST users and SCEP challenges, on record or known to a
// webhook. Package seal encrypts those that the database must give back.
//
// It never consumes a credential by itself: it returns the store.Claim that the
// consuming write carries, so that a use counts if and only if the act it paid
// for is durable. It logs nothing, and no error of it holds a secret.
package credential

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
)

// ClaimEAB is the store.Claim kind of one use of an EAB key.
const ClaimEAB = "eab"

const (
	hmacSize       = 64 // as long as SHA-512's output: HS256, HS384 and HS512 work (RFC 7518, section 3.2)
	kidSize        = 16
	maxDescription = 256
	maxScope       = 256 // profiles of one key
)

// Standing is what an EAB key is good for at a moment.
type Standing string

// Standings.
const (
	Active   Standing = "active"
	UsedUp   Standing = "used_up"
	Expired  Standing = "expired"
	Disabled Standing = "disabled"
)

// EAB keeps the keys of external account binding (RFC 8555, section 7.3.4): an
// operator hands a key to somebody, whose ACME client proves with it who the
// new account belongs to. It is safe for concurrent use.
type EAB struct {
	store  *store.Store
	sealer *seal.Sealer
	now    func() time.Time
}

// NewEAB returns the keeper of the EAB keys in st.
func NewEAB(st *store.Store, sealer *seal.Sealer, now func() time.Time) *EAB {
	return &EAB{store: st, sealer: sealer, now: now}
}

// NewKey says what a new EAB key is to be good for.
type NewKey struct {
	Description string
	Endpoint    string   // ACME endpoint; empty is any
	Profiles    []string // that its accounts may use; empty is any
	Binding     pki.Binding
	MaxUses     int // accounts that it may make; 0 is without limit
	ExpiresAt   time.Time
	CreatedBy   string // such as "uid:0"
	RequestID   string
}

// Create makes an EAB key. The HMAC key, in base64url without padding, is
// returned here and can never be read again by a person.
func (e *EAB) Create(ctx context.Context, n NewKey) (key *store.EABKey, hmac string, err error) {
	now := e.now()
	if err := n.check(now); err != nil {
		return nil, "", err
	}
	kid, secret := newKID(), newHMAC()
	key = &store.EABKey{
		KID: kid, HMAC: e.sealer.Seal(eabName(kid), secret), Description: n.Description, Endpoint: n.Endpoint,
		Profiles: n.Profiles, Binding: n.Binding, MaxUses: n.MaxUses, CreatedBy: n.CreatedBy, CreatedAt: now,
	}
	if !n.ExpiresAt.IsZero() {
		key.ExpiresAt = &n.ExpiresAt
	}
	detail, err := json.Marshal(map[string]any{
		"description": n.Description, "endpoint": n.Endpoint, "profiles": n.Profiles, "binding": n.Binding,
		"max_uses": n.MaxUses, "expires_at": key.ExpiresAt,
	})
	if err != nil {
		return nil, "", fmt.Errorf("create EAB key: %w", err)
	}
	ev := store.Event{At: now, Action: "eab.created", Outcome: "success", Actor: n.CreatedBy,
		Subject: eabName(kid), RequestID: n.RequestID, Detail: detail}
	if err := e.store.CreateEAB(ctx, *key, ev); err != nil {
		return nil, "", fmt.Errorf("create EAB key: %w", err)
	}
	return key, base64.RawURLEncoding.EncodeToString(secret), nil
}

// Key returns the HMAC key of kid for a new account at an endpoint. Whatever
// speaks against it is fault.Denied: reasons eab_unknown, eab_disabled,
// eab_expired, eab_used_up, eab_wrong_endpoint. It consumes nothing: the caller
// creates the account with Claim(kid), where a race for the last use is decided.
func (e *EAB) Key(ctx context.Context, kid, endpoint string) (hmac []byte, key *store.EABKey, err error) {
	key, err = e.find(ctx, kid)
	if err != nil {
		return nil, nil, err
	}
	switch standing := e.Standing(key); {
	case standing != Active:
		return nil, nil, fault.New(fault.Denied, "the EAB key %s is %s", kid, standing.words()).
			Because("eab_" + string(standing))
	case key.Endpoint != "" && key.Endpoint != endpoint:
		return nil, nil, fault.New(fault.Denied, "the EAB key %s is for another endpoint", kid).
			Because("eab_wrong_endpoint")
	}
	hmac, err = e.sealer.Open(eabName(kid), key.HMAC)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, err, "")
	}
	return hmac, key, nil
}

// Claim is one use of an EAB key, consumed by the write that it is given to.
func Claim(kid string) store.Claim { return store.Claim{Kind: ClaimEAB, ID: kid} }

// Permit checks an order against the scope of the key that made its account
// (rule A27). An empty kid permits everything: that account needed no key. The
// scope holds for as long as the account does, whatever becomes of the key.
func (e *EAB) Permit(ctx context.Context, kid, profile string, names []pki.Identifier) error {
	bound, err := e.Bound(ctx, kid)
	if err != nil {
		return err
	}
	return bound.Check(profile, nil, names)
}

// Bound is what the accounts that a key made may ask for; nil of an empty kid.
func (e *EAB) Bound(ctx context.Context, kid string) (*issuance.Bound, error) {
	if kid == "" {
		return nil, nil //nolint:nilnil // nothing binds
	}
	key, err := e.find(ctx, kid)
	if err != nil {
		return nil, err
	}
	return &issuance.Bound{Kind: ClaimEAB, Profiles: key.Profiles, Binding: key.Binding}, nil
}

// List returns up to limit keys after the one named, in the store's order.
func (e *EAB) List(ctx context.Context, after string, limit int) ([]store.EABKey, error) {
	keys, err := e.store.EABs(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list EAB keys: %w", err)
	}
	return keys, nil
}

// Disable makes an EAB key useless for new accounts and returns it. Disabling a
// disabled key changes nothing. Accounts that it made stay.
func (e *EAB) Disable(ctx context.Context, kid, by, requestID string) (*store.EABKey, error) {
	key, err := e.store.EAB(ctx, kid)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.NotFound, "there is no EAB key %s", kid).Because("eab_unknown")
	case err != nil:
		return nil, fmt.Errorf("disable EAB key: %w", err)
	case key.DisabledAt != nil:
		return key, nil
	}
	now := e.now()
	ev := store.Event{At: now, Action: "eab.disabled", Outcome: "success", Actor: by, Subject: eabName(kid),
		RequestID: requestID}
	if err := e.store.DisableEAB(ctx, kid, now, ev); err != nil && !fault.Is(err, fault.Conflict) {
		return nil, fmt.Errorf("disable EAB key: %w", err)
	}
	key.DisabledAt = &now
	return key, nil
}

// Standing says what a key is good for now.
func (e *EAB) Standing(k *store.EABKey) Standing {
	switch {
	case k.DisabledAt != nil:
		return Disabled
	case k.ExpiresAt != nil && !e.now().Before(*k.ExpiresAt):
		return Expired
	case k.MaxUses > 0 && k.Uses >= k.MaxUses:
		return UsedUp
	}
	return Active
}

func (e *EAB) find(ctx context.Context, kid string) (*store.EABKey, error) {
	key, err := e.store.EAB(ctx, kid)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.Denied, "there is no EAB key %s", kid).Because("eab_unknown")
	}
	if err != nil {
		return nil, fmt.Errorf("read EAB key: %w", err)
	}
	return key, nil
}

func (n *NewKey) check(now time.Time) error {
	if len(n.Profiles) > maxScope {
		return fault.New(fault.Malformed, "more than %d profiles", maxScope).Because("eab_scope")
	}
	return checkNew(ClaimEAB, n.Description, &n.Binding, n.MaxUses, n.ExpiresAt, now)
}

func (s Standing) words() string {
	if s == UsedUp {
		return "used up"
	}
	return string(s)
}

// eabName is a key's name in seals and in the audit record.
func eabName(kid string) string { return "eab:" + kid }

// newKID returns a key id in hexadecimal: it is typed on command lines, where a
// leading dash of base64url would be read as a flag.
func newKID() string {
	var b [kidSize]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// newHMAC returns a key whose base64url form does not begin with a dash, for the
// same reason: 1 in 64 is thrown again.
func newHMAC() []byte {
	b := make([]byte, hmacSize)
	for {
		_, _ = rand.Read(b)
		if b[0]>>2 != 62 {
			return b
		}
	}
}
