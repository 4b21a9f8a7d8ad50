package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// inForce is what one configuration, the database and the keys made of each other:
// the CAs, what may be issued, and who answers for it. It is swapped whole.
type inForce struct {
	rules  issuance.Rules
	keys   map[string]*openKey // by id of the CA, and by "ocsp-" and the id of an offline CA
	ocsp   *responders
	lists  map[string]crl.Config
	digest [32]byte // of the rows
}

func (s *inForce) cas() *ca.Set { return s.rules.CAs }

// openKey is a private key and the reference to the passphrase that opened it.
type openKey struct {
	*keys.Key
	passphrase config.Reference
}

// prepare makes what a configuration allows, without changing anything. Keys that
// are open already are taken over. Without an operator who asks, a PIN that was
// refused is not tried again: tokens lock after a few.
func (srv *server) prepare(ctx context.Context, cfg *config.File, asked bool) (_ *inForce, err error) {
	old := srv.signing.Load()
	s := &inForce{keys: map[string]*openKey{}, lists: cfg.Lists()}
	defer func() {
		if err != nil {
			s.closeAllBut(old)
		}
	}()
	if s.rules.Profiles, err = cfg.CompileProfiles(); err != nil {
		return nil, err
	}
	s.rules.KnownKeys = cfg.KnownKeys()
	in := ca.Inputs{
		Keys: map[string]issuer.Signer{}, Lost: map[string]error{}, Revoked: old.cas().Revoked(),
		OneTier: cfg.OneTier, Locations: cfg.Locations, Now: srv.now(),
	}
	if in.Declared, err = cfg.Declarations(srv.keyEvents, srv.now); err != nil {
		return nil, err
	}
	if in.Records, err = srv.store.Issuers(ctx); err != nil {
		return nil, err
	}
	for _, c := range ca.Build(in).All() {
		if c.Configured && !c.Offline && c.Installed() && c.Stage != ca.Retired {
			srv.openCA(ctx, cfg, c, s, &in, asked)
		}
	}
	s.rules.CAs = ca.Build(in)
	s.digest = digestOf(s.cas().Records())
	revoked, err := srv.watch.Look(ctx, s.cas())
	srv.logged("lists of the CAs above", err)
	s.rules.CAs = s.cas().With(revoked)
	s.ocsp = srv.prepareOCSP(ctx, cfg, s, old)
	return s, nil
}

// openCA opens the key of a CA that has a certificate.
func (srv *server) openCA(ctx context.Context, cfg *config.File, c *ca.CA, s *inForce, in *ca.Inputs, asked bool) {
	at := slices.IndexFunc(cfg.Issuers, func(is config.Issuer) bool { return is.ID == c.ID })
	is, old := cfg.Issuers[at], srv.signing.Load()
	key := old.keys[c.ID]
	if was := old.cas().Get(c.ID); !asked && was != nil && was.Key == is.Key && keys.PINRefused(was.Lost) {
		in.Lost[c.ID] = was.Lost
		return
	}
	if key == nil || key.Ref() != is.Key || key.passphrase != is.Passphrase {
		k, err := keys.Open(ctx, c.Key, c.Secret, c.KeyConfig)
		if err != nil {
			in.Lost[c.ID] = err
			return
		}
		key = &openKey{k, is.Passphrase}
	}
	s.keys[c.ID], in.Keys[c.ID] = key, key.Key
}

// checkLists refuses configured lists that are not of the offline CA that they
// stand with.
func (srv *server) checkLists(ctx context.Context, cfg *config.File, s *inForce) error {
	for _, o := range cfg.Offline {
		if o.CRL == "" {
			continue
		}
		list, err := cfg.List(o.CRL)
		if err != nil {
			return fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
		c := s.cas().Get(o.ID)
		if c == nil || c.Certificate() == nil {
			srv.log.WarnContext(ctx, "the list of an offline CA waits for the CAs above it to be installed", "issuer",
				o.ID)
			continue
		}
		if err := pki.ListedBy(list, c.Certificate()); err != nil {
			return fmt.Errorf("offline CA %s: list %s is not signed by this CA: %w", o.ID, o.CRL, err)
		}
	}
	return nil
}

// enforce puts what was prepared in force; nothing in it can fail.
func (srv *server) enforce(s *inForce) {
	srv.swapping.Lock()
	defer srv.swapping.Unlock()
	for id, k := range srv.signing.Load().keys {
		if s.keys[id] != k {
			srv.retired = append(srv.retired, k)
		}
	}
	srv.swapCAs(s)
	ends := map[string]time.Time{}
	for _, c := range s.cas().All() {
		if i := c.Issuer(); i != nil {
			ends[c.ID] = i.Certificate().NotAfter
		}
	}
	srv.metrics.Issuers(ends)
}

// swapCAs gives everybody the same CAs; srv.swapping is held.
func (srv *server) swapCAs(s *inForce) {
	srv.signing.Store(s)
	srv.pipeline.Swap(s.rules)
	srv.publisher.Swap(s.cas())
	srv.enforceOCSP(s)
	srv.lists.Swap(s.cas(), s.lists)
}

// checkParents reads the lists that are new, and stops what they revoke from
// signing (G2-06): nobody would accept it.
func (srv *server) checkParents(ctx context.Context) error {
	srv.swapping.Lock()
	defer srv.swapping.Unlock()
	old := srv.signing.Load()
	revoked, err := srv.watch.Look(ctx, old.cas())
	err = errors.Join(err, srv.checkWithdrawn(ctx))
	if !maps.Equal(revoked, srv.told) {
		srv.tell(ctx, revoked)
	}
	// Not what was told: a set that was prepared before the list came may be in force.
	if maps.Equal(revoked, old.cas().Revoked()) {
		return err
	}
	next := *old
	next.rules.CAs = old.cas().With(revoked)
	srv.swapCAs(&next)
	return err
}

// tell puts what changes into the log and the audit record; srv.swapping is held.
func (srv *server) tell(ctx context.Context, now map[string]ca.Trust) {
	record := func(action, id, why string) {
		srv.log.WarnContext(ctx, action, "issuer", id, "why", why)
		text, _ := json.Marshal(map[string]string{"why": why}) // strings: cannot fail
		ev := store.Event{At: srv.now(), Action: action, Outcome: "success", Actor: "server", Subject: id, Detail: text}
		if err := srv.store.AppendAudit(ctx, ev); err != nil {
			srv.log.ErrorContext(ctx, "audit event not recorded", "action", action, "error", err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if now[id] != srv.told[id] {
			record("issuer.suspended", id, now[id].Why)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(srv.told)) {
		if _, still := now[id]; !still {
			record("issuer.resumed", id, "no list names it any more")
		}
	}
	srv.told = now
}

// wakeKeys asks the keys in files that failed last time whether they work again:
// where another issuer of a pool signs, nobody else would. Keys in tokens do so
// by themselves.
func (srv *server) wakeKeys(ctx context.Context) error {
	for id, k := range srv.signing.Load().keys {
		if k.Ref().InFile() && k.Healthy() != nil {
			if err := k.KeepAlive(ctx); err != nil {
				srv.log.DebugContext(ctx, "a key still fails", "issuer", id, "error", err)
			}
		}
	}
	return nil
}

// closeAllBut closes the keys that old does not have.
func (s *inForce) closeAllBut(old *inForce) {
	for id, k := range s.keys {
		if old.keys[id] != k {
			_ = k.Close() // it was never used
		}
	}
}

// digestOf stands for what the database says of the issuers, as far as it matters to
// what may be signed.
func digestOf(records []store.IssuerRecord) [32]byte {
	digest := sha256.New()
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b store.IssuerRecord) int { return strings.Compare(a.ID, b.ID) })
	for _, r := range records {
		digest.Write(fmt.Appendf(nil, "%q %q %q %x\n", r.ID, r.State, r.ParentID, sha256.Sum256(r.Certificate)))
	}
	return [32]byte(digest.Sum(nil))
}

// follow puts in force what has changed in the database since it was looked at:
// certificates that were installed, generations that another node moved, keys that
// were lost and are back.
func (srv *server) follow(ctx context.Context) error {
	if !srv.changing.TryLock() {
		return nil // whoever holds it looks too
	}
	defer srv.changing.Unlock()
	s := srv.signing.Load()
	records, err := srv.store.Issuers(ctx)
	if err != nil {
		return err
	}
	next := s.cas().Next()
	due := digestOf(records) != s.digest || !next.IsZero() && !srv.now().Before(next)
	lost := s.cas().Lost()
	retry := func(err error) bool { return !keys.PINRefused(err) }
	if !due && !slices.ContainsFunc(slices.Collect(maps.Values(lost)), retry) {
		return nil
	}
	fresh, err := srv.prepare(ctx, srv.cfg.Load(), false)
	if err != nil {
		return fmt.Errorf("issuers have changed: %w", err)
	}
	if !due && len(fresh.cas().Lost()) == len(lost) {
		fresh.closeAllBut(s)
		return nil
	}
	if err := srv.install(ctx, srv.cfg.Load(), fresh); err != nil {
		fresh.closeAllBut(s)
		return err
	}
	srv.putInForce(ctx, srv.cfg.Load(), fresh)
	return srv.startTLS(ctx, srv.cfg.Load())
}

// putInForce enforces what was prepared and installed. What it starts and cannot
// finish is tried again later.
func (srv *server) putInForce(ctx context.Context, cfg *config.File, s *inForce) {
	for _, c := range s.cas().All() {
		if err := errors.Join(c.Pending, c.Lost); err != nil {
			srv.log.ErrorContext(ctx, "a CA is not in use", "issuer", c.ID, "error", err)
		}
	}
	// What the lists on disk know comes before the first answer about anybody.
	srv.lists.Swap(s.cas(), s.lists)
	srv.logged("lists on disk", srv.lists.Compare(ctx))
	srv.enforce(s)
	srv.importLists(ctx, cfg)
	srv.logged("lists of the CAs above", srv.checkParents(ctx)) // before anything is signed
	srv.logged("responder certificates", srv.ensureDelegates(ctx))
	srv.logged("RA certificates", srv.renewRA(ctx))
}

// retireEvery is how often issuers that drain are looked at, and followEvery how
// soon a node takes over what was installed elsewhere, and looks for a key that it
// lost.
const (
	followEvery  = 2 * time.Second
	retireEvery  = 10 * time.Minute
	parentsEvery = 2 * time.Second // how soon another list of a CA above is noticed
)
