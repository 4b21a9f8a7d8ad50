package store

import (
	"context"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// nonceSet remembers spent nonces until they expire. It serves SQLite, where one
// process has the database.
type nonceSet struct {
	mu    sync.Mutex
	spent map[string]time.Time
}

func newNonceSet() *nonceSet { return &nonceSet{spent: map[string]time.Time{}} }

func (n *nonceSet) spend(value []byte, expires time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, again := n.spent[string(value)]; again {
		return false
	}
	n.spent[string(value)] = expires
	return true
}

func (n *nonceSet) purge(now time.Time) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.spent)
	for value, expires := range n.spent {
		if now.After(expires) {
			delete(n.spent, value)
		}
	}
	return int64(before - len(n.spent))
}

var errSpent = fault.New(fault.BadNonce, "the nonce was used before")

// spendNonce goes past the committer: its row is in an UNLOGGED table, whose
// commit waits for no disk, and nothing else belongs to it.
const spendNonce = `INSERT INTO nonces (value, expires) VALUES ($1, $2) ON CONFLICT (value) DO NOTHING RETURNING 1`

// SpendNonce records that a nonce was used; fault.BadNonce if it was before.
func (s *Store) SpendNonce(ctx context.Context, value []byte, expires time.Time) error {
	if s.nonces != nil {
		if !s.nonces.spend(value, expires) {
			return errSpent
		}
		return nil
	}
	first := false
	err := s.query(ctx, "spend nonce", spendNonce, []any{value, expires}, once(&first))
	if err == nil && !first {
		return errSpent
	}
	return err
}

func once(seen *bool) func(scanFunc) error {
	return func(scanFunc) error {
		*seen = true
		return nil
	}
}

// AccountAndNonce spends a nonce, reads an account and looks whether a key is
// blocked, in one round trip. The nonce is spent even if there is no such account; a
// spent nonce is reported before a missing account.
func (s *Store) AccountAndNonce(
	ctx context.Context, accountID string, nonce []byte, expires time.Time, key pki.KeyHash,
) (a *Account, blocked bool, err error) {
	if s.nonces != nil {
		if !s.nonces.spend(nonce, expires) {
			return nil, false, errSpent
		}
		if blocked, err = s.BlockedKey(ctx, key); err == nil {
			a, err = s.Account(ctx, accountID)
		}
		return a, blocked, err
	}
	var found []Account
	first := false
	err = s.engine.read(ctx,
		query{spendNonce, []any{nonce, expires}, once(&first)},
		query{accounts.query + `WHERE u.id = $1`, []any{accountID}, accounts.scan(&found)},
		query{selectBlocked, []any{key[:]}, once(&blocked)})
	switch {
	case err != nil:
		return nil, false, failed("spend nonce and read account", err)
	case !first:
		return nil, false, errSpent
	}
	if a, err = one(found, "read account"); err == nil && !blocked {
		blocked, err = s.blockedByWitness(ctx, key)
	}
	return a, blocked, err
}
