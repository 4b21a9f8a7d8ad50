package ca

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Inputs are what a Set is made of.
type Inputs struct {
	Declared []Declaration
	Records  []store.IssuerRecord
	Keys     map[string]issuer.Signer // the open keys, by the id of their CA
	Lost     map[string]error         // why a key cannot be opened, by the id of its CA
	Revoked  map[string]Trust         // what is known of the CAs above; see Watch
	OneTier  bool                     // a root may sign leaves: `privyseal dev --tiers 1`
	// Locations are the URLs of a CA that no declaration names; may be nil.
	Locations func(id string) issuer.Locations
	Now       time.Time
}

// Build makes the set of what the configuration declares and the database holds.
// It does not fail: a CA that cannot be taken in is Pending with the reason, and
// stops nobody else. What the database has wins: from its first start on, it says
// which certificate of a CA is in force.
func Build(in Inputs) *Set {
	b := &builder{
		Inputs: in, declared: map[string]*Declaration{}, rows: map[string]*row{},
		pending: map[string]error{}, refused: map[string]bool{}, owner: map[*row]*CA{},
	}
	for i := range in.Declared {
		b.declared[in.Declared[i].ID] = &in.Declared[i]
	}
	for _, r := range in.Records {
		b.enter(r, false)
	}
	for i := range in.Declared {
		b.bring(&in.Declared[i])
	}
	b.join()
	for _, c := range b.all {
		b.certify(c)
	}
	for _, c := range b.all {
		c.revoked = b.Revoked[c.ID]
		b.open(c)
	}
	s := b.succeed()
	s.fresh = b.fresh
	for _, r := range b.order {
		s.records = append(s.records, r.IssuerRecord)
		s.rows[r.ID] = r.chain
	}
	return s
}

type builder struct {
	Inputs
	declared map[string]*Declaration
	order    []*row
	rows     map[string]*row // by id
	fresh    []store.IssuerRecord
	pending  map[string]error // by id
	refused  map[string]bool  // of pending, those that a declaration is the cause of
	all      []*CA
	owner    map[*row]*CA
}

// row is a row of the database, or one to be.
type row struct {
	store.IssuerRecord
	cert   *x509.Certificate // nil if it cannot be read
	chain  []*x509.Certificate
	former []*x509.Certificate
}

func (b *builder) enter(r store.IssuerRecord, fresh bool) {
	at := &row{IssuerRecord: r}
	var err error
	if at.cert, err = x509.ParseCertificate(r.Certificate); err != nil {
		b.pending[r.ID] = fmt.Errorf("read installed certificate: %w", err)
	}
	for _, der := range r.Former {
		if c, err := x509.ParseCertificate(der); err == nil { // it was read when it was in force
			at.former = append(at.former, c)
		}
	}
	b.order, b.rows[r.ID] = append(b.order, at), at
	if fresh {
		b.fresh = append(b.fresh, r)
	}
}

// bring enters the certificates that a declaration comes with. One that would not
// be taken in leaves no row behind.
func (b *builder) bring(d *Declaration) {
	chain := d.Initial
	if len(chain) == 0 {
		return
	}
	if have := b.rows[d.ID]; have != nil {
		if have.cert != nil && !pki.SameKey(have.cert.PublicKey, chain[0].PublicKey) {
			b.refuse(d, errOtherKey)
		}
		return
	}
	if d.Offline {
		if parent, ok := b.above(chain[0]); ok {
			b.enter(NewRecord(d.ID, parent, OfflineRow, chain[0], b.Now), true)
		}
		return
	}
	if _, err := Judge(chain, true, b.Now); err != nil {
		b.refuse(d, err)
		return
	}
	parent := ""
	for i := len(chain) - 1; i >= 0; i-- {
		id, state := d.ID, string(Active)
		if i > 0 {
			id, state = b.nameOf(chain[i]), OfflineRow
		}
		if have := b.rows[id]; have != nil && have.cert != nil &&
			!pki.SameKey(have.cert.PublicKey, chain[i].PublicKey) {
			b.refuse(d, fmt.Errorf("%s, above it: %w", id, errOtherKey))
			return
		} else if have == nil {
			r := NewRecord(id, parent, state, chain[i], b.Now)
			if i == 0 {
				r.Name, r.Generation = b.generation(id)
			}
			b.enter(r, true)
		}
		parent = id
	}
}

// above returns the id of the CA above one whose key is elsewhere, if that can be
// told: a root has none, and what came with the chain of an issuer before it was
// declared stands below the one that it came with.
func (b *builder) above(c *x509.Certificate) (parent string, ok bool) {
	if pki.SelfIssued(c) {
		return "", true
	}
	for _, r := range b.order {
		if bytes.Equal(r.Certificate, c.Raw) {
			return r.ParentID, true
		}
	}
	return "", false
}

// refuse leaves a CA pending for what its declaration brings.
func (b *builder) refuse(d *Declaration, err error) {
	b.pending[d.ID], b.refused[d.ID] = err, true
}

var errOtherKey = errors.New("the database knows this name with another key; " +
	"a name is for one key: give the new issuer a new one")

// nameOf is the id of a CA above an issuer: as it is installed or configured, or
// else derived from its certificate.
func (b *builder) nameOf(c *x509.Certificate) string {
	for _, r := range b.order {
		if bytes.Equal(r.Certificate, c.Raw) {
			return r.ID
		}
	}
	return NameOf(b.Declared, c)
}

// generation returns the name and the generation that a CA has by its declaration:
// the name is the pool's.
func (b *builder) generation(id string) (name string, number int) {
	name, number = id, 1
	for at := b.declared[id]; at != nil && number <= len(b.Declared); number++ {
		if at.Pool != "" {
			name = at.Pool
		}
		if at.Succeeds == "" {
			break
		}
		at = b.declared[at.Succeeds]
	}
	return name, number
}

// join makes one CA of all rows of one name and key, and one of each declaration
// that has none.
func (b *builder) join() {
	byRow := map[string]*CA{}
	rows := slices.Clone(b.order)
	slices.SortStableFunc(rows, func(x, y *row) int { // the id that the configuration knows is the CA's
		return cmp.Or(rank(b.declared[x.ID] == nil)-rank(b.declared[y.ID] == nil), x.CreatedAt.Compare(y.CreatedAt))
	})
	for _, r := range rows {
		c := b.sameCA(r)
		if c != nil && b.declared[r.ID] != nil && !b.declared[r.ID].Offline {
			b.pending[r.ID] = fmt.Errorf("its name and key are those of %s: use that id", c.ID)
			b.refused[r.ID] = true
			c = nil
		}
		if c != nil {
			c.Aliases = append(c.Aliases, r.ID)
		} else {
			d := Declaration{ID: r.ID, Offline: r.State == OfflineRow}
			c = &CA{Declaration: d, Generation: r.Generation, Stage: stageOf(r.State)}
			if b.Locations != nil {
				c.Locations = b.Locations(r.ID)
			}
			byRow[r.ID] = c
		}
		b.owner[r] = c
	}
	for i := range b.Declared {
		d := b.Declared[i]
		c := byRow[d.ID]
		if c == nil && b.rows[d.ID] != nil {
			continue // an alias
		}
		if c == nil {
			c = &CA{Stage: Declared, Generation: 1}
		}
		c.Declaration, c.Configured, c.oneTier = d, true, b.OneTier
		_, c.Generation = b.generation(d.ID)
		b.all = append(b.all, c)
	}
	for _, r := range b.order {
		if c := byRow[r.ID]; c != nil && !c.Configured {
			b.all = append(b.all, c)
		}
	}
}

// sameCA returns the CA that has the name and key of a row already.
func (b *builder) sameCA(r *row) *CA {
	if r.cert == nil {
		return nil
	}
	for other, c := range b.owner {
		if other.cert != nil && SameCA(other.cert, r.cert) {
			return c
		}
	}
	return nil
}

func stageOf(state string) Stage {
	if state == OfflineRow {
		return Active
	}
	return Stage(state)
}

// certify gives a CA its chains, and judges them.
func (b *builder) certify(c *CA) {
	c.Pending, c.declared = b.pending[c.ID], b.refused[c.ID]
	for _, id := range c.IDs() {
		r := b.rows[id]
		if r == nil || r.cert == nil {
			continue
		}
		chain, err := b.chain(r)
		if err != nil {
			if id == c.ID && c.Pending == nil {
				c.Pending = err
			}
			continue
		}
		r.chain = chain
		c.chains, c.former = append(c.chains, chain), append(c.former, r.former...)
		if parent := b.rows[r.ParentID]; parent != nil && c.Parent == nil {
			c.Parent = b.owner[parent]
		}
	}
	if c.Parent != nil {
		c.Parent.above = true
	}
	if c.Pending != nil || len(c.chains) == 0 {
		return
	}
	v, refused := Judge(c.chains[0], c.Configured && !c.Offline, b.Now)
	if c.Pending = refused; len(v.NoSigning) > 0 {
		c.Weak = v.MaySign()
	}
	if c.Pending == nil {
		c.Pending = b.cross(c)
		c.declared = c.Pending != nil
	}
}

// chain joins a row with those above it.
func (b *builder) chain(r *row) ([]*x509.Certificate, error) {
	chain := []*x509.Certificate{r.cert}
	for at := r; at.ParentID != ""; {
		up := b.rows[at.ParentID]
		if up == nil || up.cert == nil {
			return nil, fmt.Errorf("its parent %s is not installed", at.ParentID)
		}
		if chain = append(chain, up.cert); len(chain) > len(b.order) {
			return nil, errors.New("the CAs above it form a circle")
		}
		at = up
	}
	return chain, nil
}

// cross adds the chains by other certificates of a CA, or of one above it.
func (b *builder) cross(c *CA) error {
	for _, chain := range c.Cross {
		err := calaw.Foreign(chain, chain[0].NotBefore).Err()
		if err == nil && !SameCA(chain[0], c.chains[0][0]) {
			err = errors.New("its first certificate is not one of this issuer's name and key")
		}
		if err != nil {
			return fmt.Errorf("chains: %w", err)
		}
		c.chains = append(c.chains, chain)
	}
	return nil
}

// open joins a CA with its key.
func (b *builder) open(c *CA) {
	c.Lost = b.Lost[c.ID]
	key := b.Keys[c.ID]
	if key == nil || c.Offline || !c.Installed() || c.Stage == Retired {
		return
	}
	made := issuer.New
	if c.oneTier {
		made = issuer.NewOffline
	}
	i, err := made(c.ID, c.chains[0], key, c.Locations)
	if err != nil {
		c.Pending = err
		return
	}
	c.signer = i
}

// succeed finds out which CAs have a successor that can sign, and makes the set.
func (b *builder) succeed() *Set {
	byID := map[string]*CA{}
	for _, c := range b.all {
		byID[c.ID] = c
	}
	var replaced []string
	var next time.Time
	for _, c := range b.all {
		former := byID[c.Succeeds]
		if c.Succeeds == "" || c.signer == nil || c.Weak != nil || former == nil || former.Stage != Active {
			continue
		}
		if from := c.Certificate().NotBefore; b.Now.Before(from) {
			if next.IsZero() || from.Before(next) {
				next = from
			}
			continue
		}
		former.replaced = true
		replaced = append(replaced, former.ID)
	}
	s := NewSet(b.all...)
	s.replaced, s.next = replaced, next
	return s
}
