// Package owncert keeps the certificates that the server has for itself: those of
// its TLS listeners, its OCSP responders and its SCEP RAs.
//
// A Keeper makes the key, asks the one door (issuance) for the certificate, and
// follows what becomes of it. Ensure is called every few seconds. It puts out of
// use at once what was revoked, whatever the reason, what has expired, what is not
// on record, and what has a key on the list of compromised keys; and it makes a
// successor, with another key, where nothing is left, when two thirds of a life
// are over, when the issuer signs no more and another one of its pool does, and when
// the configuration asks for something else. Health says what a Keeper cannot do and what will end.
//
// Where certificates and keys are kept is behind Storage: File (a TLS listener),
// Folder (OCSP responders of this node) and Sealed (RAs, which all nodes share).
// judge.go holds every question to the pipeline.
package owncert

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Pair is a certificate and its key.
type Pair struct {
	ID          string // of its row; of new ones only
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // the CAs above, issuing CA first, as far as they are kept
	Key         crypto.Signer
	Ref         keys.Ref // of the Token that has the key; empty for a key of its own
}

// Generation is the pairs that were made together, one for each Spec. They go out
// of use together.
type Generation struct {
	Made  time.Time // where Storage keeps it
	Pairs []Pair
}

// Spec is what one certificate is to be.
type Spec struct {
	Profile    string
	CommonName string           // cut to 64 characters; empty for none
	Names      []pki.Identifier // alternative names
	Algorithm  string           // of the key: "ec-p256", "rsa-2048", …
	// Fits reports whether a certificate is what the configuration asks for, apart
	// from key and issuer. issuer is the id of the CA that signed it. May be nil.
	Fits func(c *x509.Certificate, issuer string) bool
}

// Token is a key that stays when certificates are replaced, in a PKCS#11 token.
type Token struct {
	Ref     keys.Ref
	Setting string // where the configuration names it
	// Open returns the key, the same one each time, and makes it if it is missing.
	Open func(ctx context.Context) (crypto.Signer, error)
}

func (t *Token) ref() keys.Ref {
	if t == nil {
		return ""
	}
	return t.Ref
}

// Storage is where generations are kept.
type Storage interface {
	// Load returns what is kept and can be opened, newest first. have is what is in
	// use, which is returned where nothing else can be kept.
	Load(ctx context.Context, have []Generation) ([]Generation, error)
	// Keep keeps generations, newest first, the first of which is new, and nothing
	// else, and returns what is kept now: another node may have been quicker.
	Keep(ctx context.Context, all []Generation) ([]Generation, error)
}

// Config is what a Keeper needs.
type Config struct {
	What     string // in errors and logs: "TLS certificate of listener https"
	Issuer   string // id of an issuer, or name of a pool
	Endpoint string // for the audit record; may be empty
	Specs    []Spec
	Storage  Storage
	Token    *Token // nil gives each certificate a key of its own
	Pipeline *issuance.Pipeline
	Now      func() time.Time
	Log      *slog.Logger
	// Dropped is told what was put out of use, for another reason than that it has a
	// successor. May be nil.
	Dropped func(*x509.Certificate)
}

// Keeper keeps one certificate, or several that go together. It is safe for
// concurrent use.
type Keeper struct {
	Config
	mu      sync.Mutex // held by Ensure
	dropped map[pki.Serial]bool
	current atomic.Pointer[[]Generation]
	failure atomic.Pointer[failure]
}

// failure is why the last Ensure did not do what it should.
type failure struct {
	err   error
	since time.Time
}

// New returns a Keeper that has what was has, which may be nil; call Ensure.
func New(cfg Config, was *Keeper) *Keeper {
	k := &Keeper{Config: cfg}
	if was != nil {
		k.current.Store(was.current.Load())
		k.failure.Store(was.failure.Load())
	}
	return k
}

// All returns the generations that may be used, newest first. The caller changes
// nothing in them.
func (k *Keeper) All() []Generation {
	if all := k.current.Load(); all != nil {
		return *all
	}
	return nil
}

// Newest returns the first pair of the newest generation; nil if there is none.
func (k *Keeper) Newest() *Pair {
	if all := k.All(); len(all) > 0 {
		return &all[0].Pairs[0]
	}
	return nil
}

// Ensure brings what is in use up to date. What it returns is also what Health
// tells.
//
// Faults: what the door refuses; BadPublicKey ("compromised_key") for a token's
// key; Unavailable where the database, the issuer's key or the token is away.
func (k *Keeper) Ensure(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.ensure(ctx)
	if err == nil {
		k.failure.Store(nil)
		return nil
	}
	since := k.Now()
	if was := k.failure.Load(); was != nil {
		since = was.since
	}
	k.failure.Store(&failure{err, since})
	return fmt.Errorf("%s: %w", k.What, err)
}

func (k *Keeper) ensure(ctx context.Context) error {
	all, unread := k.Storage.Load(ctx, k.All())
	if unread != nil && len(all) == 0 {
		all = k.All()
	}
	good, err := k.sift(ctx, all)
	if err != nil {
		return errors.Join(unread, err) // nobody knows: what is in use stays
	}
	if unread != nil || len(good) > 0 && !k.due(&good[0]) {
		return unread
	}
	fresh, err := k.make(ctx)
	if err != nil {
		return err
	}
	kept, err := k.Storage.Keep(ctx, append([]Generation{*fresh}, good...))
	if err == nil {
		_, err = k.sift(ctx, kept)
	}
	return err
}

// sift puts in use what may be used, and returns it.
func (k *Keeper) sift(ctx context.Context, all []Generation) ([]Generation, error) {
	good := []Generation{}
	bad := map[*x509.Certificate]string{}
	for _, g := range all {
		fit := true
		for _, p := range g.Pairs {
			why, err := k.unfit(ctx, p.Certificate)
			if err != nil {
				return nil, err
			}
			if why != "" {
				fit, bad[p.Certificate] = false, why
			}
		}
		if fit {
			good = append(good, g)
		}
	}
	k.current.Store(&good)
	for c, why := range bad {
		k.drop(ctx, c, why)
	}
	return good, nil
}

// drop tells once that a certificate is out of use.
func (k *Keeper) drop(ctx context.Context, c *x509.Certificate, why string) {
	serial := pki.SerialFromBig(c.SerialNumber)
	if k.dropped[serial] {
		return
	}
	if k.dropped == nil {
		k.dropped = map[pki.Serial]bool{}
	}
	k.dropped[serial] = true
	k.Log.WarnContext(ctx, "an own certificate is out of use", "what", k.What, "serial", serial, "why", why)
	if k.Dropped != nil {
		k.Dropped(c)
	}
}

// make makes keys and asks the door for their certificates.
func (k *Keeper) make(ctx context.Context) (*Generation, error) {
	g := &Generation{Made: k.Now().UTC().Truncate(time.Second)}
	for _, s := range k.Specs {
		key, err := k.key(ctx, s)
		if err != nil {
			return nil, err
		}
		p, err := k.certify(ctx, s, key)
		if err != nil {
			return nil, err
		}
		g.Pairs = append(g.Pairs, *p)
	}
	return g, nil
}

func (k *Keeper) key(ctx context.Context, s Spec) (crypto.Signer, error) {
	if k.Token == nil {
		return keys.Make(s.Algorithm)
	}
	key, err := k.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	err = k.Pipeline.CheckKey(ctx, key.Public())
	if fault.Is(err, fault.BadPublicKey) {
		todo := fmt.Sprintf("the key %s is compromised and is not used again: name another object in %s, which is "+
			"made "+
			"at first need, reload, and delete the old one with the token's own tools", k.Token.Ref, k.Token.Setting)
		return nil, fault.Wrap(fault.BadPublicKey, err, todo).Because(fault.Of(err).Reason)
	}
	return key, err
}

func (k *Keeper) certify(ctx context.Context, s Spec, key crypto.Signer) (*Pair, error) {
	from, subject, err := k.requestTo(s)
	if err != nil {
		return nil, err
	}
	made, err := k.Pipeline.Issue(ctx, issuance.Request{
		Endpoint: k.Endpoint, Protocol: "server", Profile: s.Profile, Issuer: from, Origin: "request:" + store.NewID(),
		PublicKey: key.Public(), Subject: &subject, Names: s.Names, Requester: "server",
	})
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseChain(pki.EncodeChain(append([][]byte{made.DER}, made.Chain...)...))
	if err != nil {
		return nil, err
	}
	k.Log.InfoContext(ctx, "own certificate issued", "what", k.What, "issuer", made.IssuerID,
		"serial", made.Serial, "not_after", made.NotAfter)
	return &Pair{ID: made.ID, Certificate: chain[0], Chain: chain[1:], Key: key, Ref: k.Token.ref()}, nil
}
