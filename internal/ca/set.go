package ca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Set is all CAs of a server at one moment. It is immutable.
type Set struct {
	all   []*CA // those of the configuration in its order, then the others by their rows
	byID  map[string]*CA
	pools map[string][]*CA
	rows  map[string][]*x509.Certificate // the chain of each row, by its id, aliases too

	fresh    []store.IssuerRecord
	records  []store.IssuerRecord
	replaced []string
	next     time.Time
}

// NewSet returns the set of these CAs, those of a pool preferred first.
func NewSet(all ...*CA) *Set {
	s := &Set{all: all, byID: map[string]*CA{}, pools: map[string][]*CA{}, rows: map[string][]*x509.Certificate{}}
	for _, c := range all {
		for _, id := range c.IDs() {
			s.byID[id] = c
		}
		if c.Pool != "" {
			s.pools[c.Pool] = append(s.pools[c.Pool], c)
		}
		if s.rows[c.ID] == nil && len(c.chains) > 0 {
			s.rows[c.ID] = c.chains[0]
		}
	}
	for _, members := range s.pools { // former generations last
		slices.SortStableFunc(members, func(a, b *CA) int { return rank(a.Former()) - rank(b.Former()) })
	}
	return s
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// All returns every CA: those of the configuration in its order, then the others.
func (s *Set) All() []*CA { return s.all }

// Get returns the CA of an id; nil if there is none.
func (s *Set) Get(id string) *CA { return s.byID[id] }

// Pools returns the names of pools with their CAs, preferred first.
func (s *Set) Pools() map[string][]*CA { return s.pools }

// Pool reports whether a name is that of a pool.
func (s *Set) Pool(name string) bool { return s.pools[name] != nil }

// Behind returns the CAs behind the name of a pool or the id of a CA, preferred
// first, former generations included; none if the name is unknown.
func (s *Set) Behind(name string) []*CA {
	if members := s.pools[name]; members != nil {
		return members
	}
	if c := s.byID[name]; c != nil {
		return []*CA{c}
	}
	return nil
}

// Chains returns the chains, root last, of the CAs behind a name, those of the
// preferred one first.
func (s *Set) Chains(name string) [][]*x509.Certificate {
	var all [][]*x509.Certificate
	for _, c := range s.Behind(name) {
		if c.Installed() {
			all = append(all, c.chains...)
		}
	}
	return all
}

// IDs returns the ids of the CAs behind a name.
func (s *Set) IDs(name string) []string {
	var ids []string
	for _, c := range s.Behind(name) {
		ids = append(ids, c.ID)
	}
	return ids
}

// Candidates returns the CAs behind a name that may sign a new certificate, in the
// order in which they are tried: those whose key answers come before those whose
// key failed last time, or that are not valid now. A responder's certificate is
// signed by revoked and former CAs too: what says that certificates are revoked
// goes on.
func (s *Set) Candidates(name string, responder bool, now time.Time) ([]*CA, error) {
	members := s.Behind(name)
	if len(members) == 0 {
		return nil, fault.New(fault.NotFound, "there is no issuer %q", name).Because("issuer_unknown")
	}
	var able, ill []*CA
	var why error
	for _, c := range members {
		err := c.Barred()
		switch {
		case responder && c.signer != nil:
			able = append(able, c)
		case err != nil:
			if why == nil || fault.Of(err).Reason == "issuer_revoked" {
				why = err
			}
		case c.Ailing(now) != nil:
			ill = append(ill, c)
		default:
			able = append(able, c)
		}
	}
	switch able = append(able, ill...); {
	case len(able) > 0:
		return able, nil
	case s.Pool(name) && fault.Of(why).Reason == "issuer_replaced": // this node has not heard of the successor yet
		return nil, fault.New(fault.Unavailable, "pool %q has no issuer that can sign now", name).
			Because("no_issuer").After(retryKey)
	}
	return nil, why
}

// Named returns the CAs of a name in DER, compared as names: clients write the
// string types that they know (RFC 5280, section 7.1).
func (s *Set) Named(subject []byte) []*CA {
	var found []*CA
	for _, c := range s.all {
		if own := c.Certificate(); own != nil && sameName(own.RawSubject, subject) {
			found = append(found, c)
		}
	}
	return found
}

// ChainOf returns the chain of an id, also of an alias, whose certificate is
// another one of the same CA.
func (s *Set) ChainOf(id string) []*x509.Certificate { return s.rows[id] }

// Installed returns the ids under which certificates are installed, aliases too, in
// the order of the rows.
func (s *Set) Installed() []string {
	var ids []string
	for _, r := range s.records {
		if len(s.rows[r.ID]) > 0 {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Below returns the CAs that a CA has certified.
func (s *Set) Below(c *CA) []*CA {
	return slices.DeleteFunc(slices.Clone(s.all), func(o *CA) bool { return o.Parent != c })
}

// Fresh are the rows that the configuration adds to the database.
func (s *Set) Fresh() []store.IssuerRecord { return s.fresh }

// Records are the rows that the set was made of, the fresh ones included.
func (s *Set) Records() []store.IssuerRecord { return s.records }

// Replaced are the ids of active CAs whose successors can sign.
func (s *Set) Replaced() []string { return s.replaced }

// Next is when a successor that waits for its time can sign; zero if none does.
func (s *Set) Next() time.Time { return s.next }

// With returns a set whose CAs have the trust that revoked says, by id; the others
// are good.
func (s *Set) With(revoked map[string]Trust) *Set {
	next := *s
	next.all, next.byID, next.pools = make([]*CA, len(s.all)), map[string]*CA{}, map[string][]*CA{}
	moved := map[*CA]*CA{}
	for i, c := range s.all {
		fresh := *c
		fresh.revoked = revoked[c.ID]
		next.all[i], moved[c] = &fresh, &fresh
	}
	for id, c := range s.byID {
		next.byID[id] = moved[c]
	}
	for pool, members := range s.pools {
		for _, c := range members {
			next.pools[pool] = append(next.pools[pool], moved[c])
		}
	}
	for _, c := range next.all {
		c.Parent = moved[c.Parent]
	}
	return &next
}

// Lost returns why keys cannot be opened, by the id of their CA.
func (s *Set) Lost() map[string]error {
	all := map[string]error{}
	for _, c := range s.all {
		if c.Lost != nil {
			all[c.ID] = c.Lost
		}
	}
	return all
}

// Revoked returns what is known of the CAs that are no longer trusted, by id.
func (s *Set) Revoked() map[string]Trust {
	all := map[string]Trust{}
	for _, c := range s.all {
		if c.revoked.State != "" {
			all[c.ID] = c.revoked
		}
	}
	return all
}

// Regress returns why next may not follow s at an operator's reload: a declaration
// brings what is not taken in, or a CA that signs at a time would not be taken in
// any more, or its key could not be opened and nobody of its pool takes over. A PIN
// that was refused is for an operator to look at in any case: tokens lock after a
// few.
func (s *Set) Regress(next *Set, now time.Time) error {
	for _, c := range next.all {
		if was := s.Get(c.ID); c.declared && (was == nil || was.Pending == nil) {
			return fmt.Errorf("issuer %s: %w", c.ID, c.Pending)
		}
	}
	for _, was := range s.all {
		c := next.Get(was.ID)
		if c == nil || !c.Configured || was.MaySign(now) != nil {
			continue // taken out of the configuration on purpose, or it did not sign
		}
		if c.Pending != nil {
			return fmt.Errorf("issuer %s: %w", c.ID, c.Pending)
		}
		if c.Lost != nil && (keys.PINRefused(c.Lost) || !next.standsIn(c, now)) {
			return fmt.Errorf("issuer %s: %w", c.ID, c.Lost)
		}
	}
	return nil
}

// standsIn reports whether another CA of c's pool signs.
func (s *Set) standsIn(c *CA, now time.Time) bool {
	return slices.ContainsFunc(s.pools[c.Pool], func(o *CA) bool { return o != c && o.MaySign(now) == nil })
}

// Current is the Set in force, which everybody reads and one swaps.
type Current struct{ set atomic.Pointer[Set] }

// Load returns the set in force; an empty one before the first Store.
func (c *Current) Load() *Set {
	if s := c.set.Load(); s != nil {
		return s
	}
	return empty
}

var empty = NewSet()

// Store puts a set in force.
func (c *Current) Store(s *Set) { c.set.Store(s) }

// SameCA reports whether two certificates are of one CA: the same name and key.
func SameCA(a, b *x509.Certificate) bool {
	return sameName(a.RawSubject, b.RawSubject) && pki.SameKey(a.PublicKey, b.PublicKey)
}

func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := pki.ParseNameDER(a)
	y, errY := pki.ParseNameDER(b)
	return errX == nil && errY == nil && x.EqualRFC5280(y)
}
