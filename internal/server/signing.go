package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/store"
)

// signing is what may be signed and by whom, made from one configuration and what
// the database said at the time.
type signing struct {
	rules       issuance.Rules
	issuers     map[string]*issuer.Issuer // by id, of those whose keys are open
	keys        map[string]*openKey       // by issuer id, and by "ocsp-" and the id of an offline CA
	lost        map[string]error          // by issuer id: why a key could not be opened, while others of its pool go on
	ocsp        *responders
	authorities []authority
	records     []store.IssuerRecord // of authorities
	fresh       []store.IssuerRecord // of records, what the database does not have yet
	replaced    []string             // ids of active issuers whose successors can sign
	next        time.Time            // when a successor that waits for its time can sign; zero if none does
	lists       []crl.Authority      // whose revocation lists are published
}

// openKey is an issuer's private key and the passphrase that opened it.
type openKey struct {
	*keys.Key
	passphrase config.Reference
}

// prepare makes what a configuration allows, without changing anything. Keys that
// are open already are taken over.
func (h *house) prepare(ctx context.Context, cfg *config.File) (_ *signing, err error) {
	old := h.signing.Load()
	if old == nil {
		old = &signing{}
	}
	s := &signing{
		rules:   issuance.Rules{Issuers: map[string][]*issuer.Issuer{}, Former: map[string]bool{}, OneTier: cfg.OneTier},
		issuers: map[string]*issuer.Issuer{}, keys: map[string]*openKey{}, lost: map[string]error{},
	}
	defer func() {
		if err != nil {
			s.closeAllBut(old)
		}
	}()
	if s.authorities, s.records, s.fresh, err = h.plan(ctx, cfg); err != nil {
		return nil, err
	}
	if s.rules.Profiles, err = cfg.CompileProfiles(); err != nil {
		return nil, err
	}
	if s.rules.KnownKeys, err = cfg.KnownKeys(); err != nil {
		return nil, err
	}
	for _, is := range cfg.Issuers {
		if err = h.prepareIssuer(ctx, cfg, is, s, old); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", is.ID, err)
		}
	}
	s.generations(cfg, h.now())
	if err = s.survive(cfg); err != nil {
		return nil, err
	}
	if err = s.relate(cfg); err != nil {
		return nil, err
	}
	if s.ocsp, err = h.prepareOCSP(ctx, cfg, s, old); err != nil {
		return nil, err
	}
	s.publishLists(cfg)
	return s, nil
}

// prepareIssuer opens the key of an issuer that has a certificate.
func (h *house) prepareIssuer(ctx context.Context, cfg *config.File, is config.Issuer, s, old *signing) error {
	s.rules.Issuers[is.ID] = nil // it exists
	chain := s.chain(is.ID)
	if chain == nil || s.state(is.ID) == stateRetired {
		return nil // it waits for its certificate, or needs its key no more
	}
	key := old.keys[is.ID]
	if key == nil || key.Ref() != is.Key || key.passphrase != is.Passphrase {
		k, err := h.openKey(ctx, cfg, is.ID, is.Key, is.Passphrase)
		if err != nil {
			s.lost[is.ID] = err
			return nil //nolint:nilerr // survive decides
		}
		key = &openKey{k, is.Passphrase}
	}
	s.keys[is.ID] = key
	open := issuer.New
	if cfg.OneTier {
		open = issuer.NewOffline
	}
	i, err := open(is.ID, chain, key.Key, cfg.Locations(is.ID))
	if err != nil {
		return err
	}
	s.issuers[is.ID], s.rules.Issuers[is.ID] = i, []*issuer.Issuer{i}
	return nil
}

// survive fails for a key that cannot be opened, unless another issuer of its pool
// can sign: then the server runs without, and looks for the key again. A PIN that
// was refused needs a person in any case: tokens lock after a few.
func (s *signing) survive(cfg *config.File) error {
	for _, is := range cfg.Issuers {
		err := s.lost[is.ID]
		if err == nil {
			continue
		}
		if keys.PINRefused(err) || !slices.ContainsFunc(cfg.Issuers, func(o config.Issuer) bool {
			return is.Pool != "" && o.Pool == is.Pool && s.issuers[o.ID] != nil && !s.rules.Former[o.ID]
		}) {
			return fmt.Errorf("issuer %s: %w", is.ID, err)
		}
	}
	return nil
}

// relate tells the door which issuers belong together, which CAs have others
// below them, and by which chains each can be verified.
func (s *signing) relate(cfg *config.File) error {
	r := &s.rules
	r.Members, r.Above, r.ByIssuer = map[string][]string{}, map[string]bool{}, map[string][][]*x509.Certificate{}
	for _, is := range cfg.Issuers {
		if is.Pool == "" {
			continue
		}
		r.Members[is.Pool] = append(r.Members[is.Pool], is.ID)
		r.Issuers[is.Pool] = nil
	}
	for pool, ids := range r.Members { // former generations last
		slices.SortStableFunc(ids, func(a, b string) int { return rank(r.Former[a]) - rank(r.Former[b]) })
		for _, id := range ids {
			r.Issuers[pool] = append(r.Issuers[pool], r.Issuers[id]...)
		}
	}
	for _, a := range s.authorities {
		r.ByIssuer[a.ID] = [][]*x509.Certificate{a.Chain}
		if len(a.Chain) > 1 {
			r.Above[s.idOf(a.Chain[1])] = true
		}
	}
	return s.alternates(cfg)
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// publishLists says whose lists are published: those of all CAs that are
// installed and not retired, made here where the key is.
func (s *signing) publishLists(cfg *config.File) {
	for _, a := range s.authorities {
		if a.State == stateRetired {
			continue
		}
		l := crl.Authority{ID: a.ID, Certificate: a.Chain[0], URL: cfg.Locations(a.ID).CRL}
		for _, is := range cfg.Issuers {
			if is.ID == a.ID && s.issuers[a.ID] != nil {
				l.Issuer, l.Config = s.issuers[a.ID], is.CRL
			}
		}
		s.lists = append(s.lists, l)
	}
}

// enforce puts prepared rules in force; nothing in it can fail.
func (h *house) enforce(s *signing) {
	h.refused = nil
	if old := h.signing.Swap(s); old != nil {
		for id, k := range old.keys {
			if s.keys[id] != k {
				h.retired = append(h.retired, k)
			}
		}
	}
	h.pipeline.Swap(s.rules)
	h.publisher.swap(s.authorities)
	h.enforceOCSP(s.ocsp)
	h.lists.Swap(s.lists)
	h.metrics.expires.Reset()
	for id, i := range s.issuers {
		h.metrics.expires.WithLabelValues(id).Set(float64(i.Certificate().NotAfter.Unix()))
	}
}

// wakeKeys asks the keys in files that failed last time whether they work again:
// where another issuer of a pool signs, nobody else would. Keys in tokens do so
// by themselves.
func (h *house) wakeKeys(ctx context.Context) error {
	for id, k := range h.signing.Load().keys {
		if strings.HasPrefix(string(k.Ref()), "file:") && k.Healthy() != nil {
			if err := k.KeepAlive(ctx); err != nil {
				h.log.DebugContext(ctx, "a key still fails", "issuer", id, "error", err)
			}
		}
	}
	return nil
}

func (s *signing) chain(id string) []*x509.Certificate {
	for _, a := range s.authorities {
		if a.ID == id {
			return a.Chain
		}
	}
	return nil
}

func (s *signing) state(id string) string {
	for _, a := range s.authorities {
		if a.ID == id {
			return a.State
		}
	}
	return ""
}

// closeAllBut closes the keys that old does not have.
func (s *signing) closeAllBut(old *signing) {
	for id, k := range s.keys {
		if old == nil || old.keys[id] != k {
			_ = k.Close() // it was never used
		}
	}
}
