package store

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// UpdateLimit takes one from a limit if it is there to be taken. The limit is
// GCRA: one in every period on average, and burst says how far a key may run
// ahead of that: (n-1)*period lets n come at once. A denied caller is told when
// to come again. Clocks of nodes that differ shift a limit by the difference.
func (s *Store) UpdateLimit(
	ctx context.Context, key string, now time.Time, period, burst time.Duration,
) (allowed bool, retryAfter time.Duration, err error) {
	var tat int64
	allowed, err = s.swap(ctx, "update limit", must(`INSERT INTO limits (key, tat)
		VALUES ($1, CAST($2 AS bigint) + CAST($3 AS bigint))
		ON CONFLICT (key) DO UPDATE SET tat = $3 + CASE WHEN limits.tat > $2 THEN limits.tat ELSE $2 END
			WHERE limits.tat <= CAST($2 AS bigint) + CAST($4 AS bigint)
		RETURNING tat`, key, now.UnixMicro(), period.Microseconds(), burst.Microseconds()).returning(&tat))
	if allowed || err != nil {
		return allowed, 0, err
	}
	retryAfter, err = s.LimitWait(ctx, key, now, burst)
	return false, retryAfter, err
}

// LimitWait returns how long it takes until a limit can be taken from, without
// taking; 0 is at once.
func (s *Store) LimitWait(ctx context.Context, key string, now time.Time, burst time.Duration) (time.Duration, error) {
	tat := now.UnixMicro()
	err := s.query(ctx, "read limit", `SELECT tat FROM limits WHERE key = $1`, []any{key},
		func(scan scanFunc) error { return scan(&tat) })
	return max(0, time.UnixMicro(tat).Sub(now.Add(burst))), err
}

// ClearLimit forgets what was taken from a limit.
func (s *Store) ClearLimit(ctx context.Context, key string) error {
	return s.commit(ctx, &write{what: "clear limit", guards: []*stmt{may(`DELETE FROM limits WHERE key = $1`, key)}})
}

// AcquireLease takes a lease that is free or has run out. Its token is higher
// than that of every holder before.
func (s *Store) AcquireLease(
	ctx context.Context, name, holder string, now time.Time, ttl time.Duration,
) (token int64, ok bool, err error) {
	ok, err = s.swap(ctx, "acquire lease", must(`INSERT INTO leases (name, holder, token, expires) VALUES ($1, $2, 1,
		$3)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = leases.token + 1, expires = excluded.expires
			WHERE leases.expires <= $4
		RETURNING token`, name, holder, now.Add(ttl), now).returning(&token))
	if !ok {
		token = 0
	}
	return token, ok, err
}

// RenewLease extends a lease; false if another holder has taken it.
func (s *Store) RenewLease(
	ctx context.Context, name string, token int64, now time.Time, ttl time.Duration,
) (bool, error) {
	return s.swap(ctx, "renew lease", must(`UPDATE leases SET expires = $1 WHERE name = $2 AND token = $3`,
		now.Add(ttl), name, token))
}

// ReleaseLease lets others have a lease at once. The row stays, for its token.
func (s *Store) ReleaseLease(ctx context.Context, name string, token int64, now time.Time) error {
	_, err := s.swap(ctx, "release lease", must(`UPDATE leases SET expires = $1 WHERE name = $2 AND token = $3`,
		now, name, token))
	return err
}

// PutSecretOnce stores a sealed secret unless the name has one, and returns the
// one that is stored: all nodes that start together get the same.
func (s *Store) PutSecretOnce(ctx context.Context, name string, sealed []byte) (winner []byte, err error) {
	_, err = s.swap(ctx, "put secret", must(`INSERT INTO secrets (name, sealed, created_at) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO NOTHING`, name, sealed, s.cfg.Now()))
	if err != nil {
		return nil, err
	}
	return s.Secret(ctx, name)
}

// ReplaceSecret stores a secret sealed anew, if it still is what was read;
// fault.Conflict otherwise.
func (s *Store) ReplaceSecret(ctx context.Context, name string, old, sealed []byte) error {
	won, err := s.swap(ctx, "replace secret", must(`UPDATE secrets SET sealed = $1 WHERE name = $2 AND sealed = $3`,
		sealed, name, old))
	if err == nil && !won {
		return fault.New(fault.Conflict, "the secret was changed in the meantime")
	}
	return err
}

// Secret returns a sealed secret.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	var sealed []byte
	err := s.queryRow(ctx, "read secret", `SELECT sealed FROM secrets WHERE name = $1`, []any{name}, &sealed)
	return sealed, err
}

// Node is what a process tells the others about itself.
type Node struct {
	Node, Epoch  string
	ConfigDigest string
	SeenAt       time.Time
}

// Heartbeat records that a node is there.
func (s *Store) Heartbeat(ctx context.Context, node, epoch, configDigest string, at time.Time) error {
	return s.commit(ctx, &write{what: "record heartbeat",
		guards: []*stmt{may(`INSERT INTO nodes (node, epoch, config_digest, seen_at)
		VALUES ($1, $2, $3, $4) ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch,
		config_digest = excluded.config_digest, seen_at = excluded.seen_at`,
			node, epoch, configDigest, at)}})
}

// Nodes returns all nodes that ever were, by name.
func (s *Store) Nodes(ctx context.Context) ([]Node, error) {
	var nodes []Node
	err := s.query(ctx, "read nodes", `SELECT node, epoch, config_digest, seen_at FROM nodes ORDER BY node`, nil,
		func(scan scanFunc) error {
			var n Node
			err := scan(&n.Node, &n.Epoch, &n.ConfigDigest, &n.SeenAt)
			nodes = append(nodes, n)
			return err
		})
	return nodes, err
}
