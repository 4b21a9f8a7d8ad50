// Package limit holds the limits that keep one client from using up what all
// share: new accounts of an address, pending orders and authorizations of an
// account, wrong guesses at a secret. They are true across nodes, because the
// count is in the store; a denial is remembered in the process, so that a client
// that keeps knocking costs no round trip.
//
// Limits are data: Config is their manual. Every method returns nil or a
// fault.RateLimited that says when to come again.
package limit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/strictyaml"
	"github.com/privyseal/privyseal/internal/web"
)

// Rate is a number of events in a time. All of them may come at once; after
// that, one more is allowed each time that Per/Count has passed.
type Rate struct {
	// Count is how many events are allowed; 0 is without limit.
	Count int `yaml:"count" json:"count"`
	// Per is the time in which they are allowed, such as 10m or 3h.
	Per time.Duration `yaml:"per" json:"per"`
}

// Config says how much a client may do.
type Config struct {
	// NewAccounts limits the accounts that are made from one IPv4 address, or from
	// one IPv6 network of 64 bits; those that bind an EAB key, of each key from there.
	// Default: 50 in 3h.
	NewAccounts Rate `yaml:"new_accounts" json:"new_accounts"`
	// PendingOrders is how many orders of one account may be pending at a time; 0
	// is without limit. Default: 300.
	PendingOrders int `yaml:"pending_orders" json:"pending_orders"`
	// PendingAuthorizations is how many authorizations of one account may be
	// pending at a time; 0 is without limit. Default: 3000.
	PendingAuthorizations int `yaml:"pending_authorizations" json:"pending_authorizations"`
	// WrongSecrets is how many wrong guesses at a secret one source may make for one
	// identity: the password of one EST user, the key of one EAB id, the challenge
	// password of the device with one key. Default: 10 in 10m.
	WrongSecrets Rate `yaml:"wrong_secrets" json:"wrong_secrets"`
	// WrongSecretsBySource is how many it may make for all identities of an endpoint
	// together. After that each identity may be wrong only once in the time for one of
	// WrongSecrets, and challenge passwords that people or webhooks choose wait for
	// this rate; other right secrets are taken (docs/limits.md). Default: 100 in 10m.
	WrongSecretsBySource Rate `yaml:"wrong_secrets_by_source" json:"wrong_secrets_by_source"`
	// Enrolments is how often EST and SCEP may be asked for a certificate by the
	// power of the certificates of one line: a certificate and all that was enrolled
	// by its power. Lines of the same names count as one. What registration authorities,
	// passwords and challenges enrol, which many devices may share, is not limited by
	// it. Default: 60 in 1h.
	Enrolments Rate `yaml:"enrolments" json:"enrolments"`
	// Unproved is how many new requests that prove nothing one source may leave for a
	// person to decide (SCEP endpoints with manual). Default: 100 in 1h.
	Unproved Rate `yaml:"unproved" json:"unproved"`
	// UnprovedWaiting is how many of those may wait at one endpoint at a time; 0 is
	// without limit. Of one key it is 20 at most. Default: 1000.
	UnprovedWaiting int `yaml:"unproved_waiting" json:"unproved_waiting"`
	// UnreadableBySource is how many SCEP messages of one source to one RA key may
	// turn out to be unreadable. Default: 100 in 10m.
	UnreadableBySource Rate `yaml:"unreadable_by_source" json:"unreadable_by_source"`
	// UnreadableByEnvelope is how many SCEP messages with one and the same encrypted
	// content key may, from all sources together. Default: 10 in 1h.
	UnreadableByEnvelope Rate `yaml:"unreadable_by_envelope" json:"unreadable_by_envelope"`
	// UnreadableByRecipient is how many SCEP messages to one RA key may, from all
	// sources together, before a source has to make up for its last one first.
	// Default: 3000 in 10m.
	UnreadableByRecipient Rate `yaml:"unreadable_by_recipient" json:"unreadable_by_recipient"`
}

// Defaults returns the limits of a configuration that sets none.
func Defaults() Config {
	return Config{
		NewAccounts:           Rate{Count: 50, Per: 3 * time.Hour},
		PendingOrders:         300,
		PendingAuthorizations: 3000,
		WrongSecrets:          Rate{Count: 10, Per: 10 * time.Minute},
		WrongSecretsBySource:  Rate{Count: 100, Per: 10 * time.Minute},
		Enrolments:            Rate{Count: 60, Per: time.Hour},
		Unproved:              Rate{Count: 100, Per: time.Hour},
		UnprovedWaiting:       1000,
		UnreadableBySource:    Rate{Count: 100, Per: 10 * time.Minute},
		UnreadableByEnvelope:  Rate{Count: 10, Per: time.Hour},
		UnreadableByRecipient: Rate{Count: 3000, Per: 10 * time.Minute},
	}
}

// Check reports what is wrong with a configuration.
func (c Config) Check() error {
	rate := func(key string, r Rate) error {
		return strictyaml.WrongIf(r.Count < 0 || r.Count > 0 && r.period() < time.Millisecond,
			key, "want a count and a time of at least a millisecond for each, got %d per %s", r.Count, r.Per)
	}
	return errors.Join(
		rate("new_accounts", c.NewAccounts), rate("wrong_secrets", c.WrongSecrets),
		rate("wrong_secrets_by_source", c.WrongSecretsBySource), rate("enrolments", c.Enrolments),
		rate("unproved", c.Unproved),
		rate("unreadable_by_source", c.UnreadableBySource), rate("unreadable_by_envelope", c.UnreadableByEnvelope),
		rate("unreadable_by_recipient", c.UnreadableByRecipient),
		strictyaml.WrongIf(c.PendingOrders < 0, "pending_orders", "cannot be negative"),
		strictyaml.WrongIf(c.PendingAuthorizations < 0, "pending_authorizations", "cannot be negative"),
		strictyaml.WrongIf(c.UnprovedWaiting < 0, "unproved_waiting", "cannot be negative"),
	)
}

// period is the time for one event, burst how far a key may run ahead of it.
func (r Rate) period() time.Duration { return r.Per / time.Duration(max(r.Count, 1)) }
func (r Rate) burst() time.Duration  { return r.period() * time.Duration(r.Count-1) }

// Limiter applies the limits.
type Limiter struct {
	cfg   Config
	store *store.Store
	now   func() time.Time

	mu     sync.Mutex
	denied map[string]time.Time // key to the time before which it stays denied
}

// maxDenied bounds the memory for denials; over it they are forgotten, which
// costs round trips and nothing else.
const maxDenied = 100_000

// New returns a limiter over the store's counts.
func New(cfg Config, s *store.Store, now func() time.Time) (*Limiter, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &Limiter{cfg: cfg, store: s, now: now, denied: map[string]time.Time{}}, nil
}

// NewAccount takes one new account from the client's address. Those that are bound to
// an EAB key are counted by key: an operator has handed it to somebody, who has nothing
// to do with the others behind the address. An empty key is none.
func (l *Limiter) NewAccount(ctx context.Context, client netip.Addr, key string) error {
	counted, what := "account "+web.Source(client), "too many new accounts from this address"
	if key != "" {
		counted, what = counted+" "+key, what+" by this external account key"
	}
	return l.take(ctx, counted, l.cfg.NewAccounts, what)
}

// NewOrder refuses an order that would exceed what an account may have pending;
// authorizations is the number of new ones that the order needs.
func (l *Limiter) NewOrder(ctx context.Context, accountID string, authorizations int) error {
	if l.cfg.PendingOrders == 0 && l.cfg.PendingAuthorizations == 0 {
		return nil
	}
	now := l.now()
	p, err := l.store.CountPending(ctx, accountID, now)
	if err != nil {
		return err
	}
	const what = "; finalize them, or deactivate an authorization of those that are not needed any more"
	if l.cfg.PendingOrders > 0 && p.Orders >= l.cfg.PendingOrders {
		text := fmt.Sprintf("the account has %d pending orders, the most that it may have%s", p.Orders, what)
		return refuse(text, until(p.OrdersUntil, now))
	}
	most := l.cfg.PendingAuthorizations
	if most > 0 && authorizations > 0 && p.Authorizations+authorizations > most {
		text := fmt.Sprintf("the account has pending orders with %d pending authorizations, and may have %d with this "+
			"order's %d%s", p.Authorizations, most, authorizations, what)
		return refuse(text, until(p.AuthorizationsUntil, now))
	}
	return nil
}

// until is how long it takes until the first of what counts ends by itself. With
// nothing that counts the order alone is too large, and no wait will help.
func until(end *time.Time, now time.Time) time.Duration {
	if end == nil {
		return time.Hour
	}
	return end.Sub(now)
}

// Enrolment takes one request by the power of a certificate; line is what is
// counted.
func (l *Limiter) Enrolment(ctx context.Context, line string) error {
	return l.take(ctx, "enrolment "+line, l.cfg.Enrolments, "this device has asked for too many certificates")
}

// locked refuses a key that is further ahead of a rate than burst, and takes
// nothing.
func (l *Limiter) locked(ctx context.Context, key string, r Rate, burst time.Duration, detail string) error {
	if r.Count == 0 {
		return nil
	}
	if wait := l.remembered(key); wait > 0 {
		return refuse(detail, wait)
	}
	wait, err := l.store.LimitWait(ctx, key, l.now(), burst)
	if err != nil || wait <= 0 {
		return err
	}
	if burst == r.burst() { // a smaller one holds for as long as others use up theirs, which may end at any time
		l.remember(key, wait)
	}
	return refuse(detail, wait)
}

func (l *Limiter) take(ctx context.Context, key string, r Rate, detail string) error {
	if r.Count == 0 {
		return nil
	}
	if wait := l.remembered(key); wait > 0 {
		return refuse(detail, wait)
	}
	allowed, wait, err := l.store.UpdateLimit(ctx, key, l.now(), r.period(), r.burst())
	if err != nil || allowed {
		return err
	}
	l.remember(key, wait)
	return refuse(detail, wait)
}

// remembered returns how long a denial still holds. Arrival times in the store
// only rise, so what was denied until then is denied until then.
func (l *Limiter) remembered(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.denied[key]
	if !ok {
		return 0
	}
	wait := until.Sub(l.now())
	if wait <= 0 {
		delete(l.denied, key)
	}
	return wait
}

func (l *Limiter) remember(key string, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.denied) >= maxDenied {
		clear(l.denied)
	}
	l.denied[key] = l.now().Add(wait)
}

func refuse(detail string, wait time.Duration) error {
	return fault.New(fault.RateLimited, "%s", detail).After(max(wait, time.Second))
}
