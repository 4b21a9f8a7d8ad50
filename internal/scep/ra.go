package scep

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/pki"
)

// The built-in profiles of RA certificates.
const (
	profileRA     = "scep-ra"
	profileRASign = "scep-ra-signing"
	profileRAOpen = "scep-ra-decryption"
)

// publishAfter is how long a new RA certificate is kept before clients are given
// it: by then every node has found it in the database, and a client may fetch it
// from one node and write to another. It is longer than the interval at which
// Renew is called.
const publishAfter = 30 * time.Minute

// ra is a registration authority: the key that clients encrypt to and the one
// that signs answers, often the same (rules S9, S10).
type ra struct {
	made    time.Time
	decrypt keyPair
	sign    keyPair
}

type keyPair struct {
	cert *x509.Certificate
	key  PrivateKey
}

// raSet is the RAs of an endpoint; those that are not the newest are there for
// clients that have not heard of it.
type raSet struct{ *owncert.Keeper }

// newRAs returns the RAs of an endpoint, with what it had.
func (s *Server) newRAs(ep *endpoint, was *raSet) *raSet {
	store := &owncert.Sealed{Name: "scep-ra:" + ep.Name + ":" + ep.Issuer, Store: s.Store, Sealer: s.Sealer}
	cfg := owncert.Config{
		What: "RA certificate of scep endpoint " + ep.Name, Issuer: ep.Issuer, Endpoint: ep.Name, Storage: store,
		Pipeline: s.Pipeline, Now: s.Now, Log: s.Log,
	}
	if ep.RAKeyRef != "" {
		open := func(ctx context.Context) (crypto.Signer, error) { return ep.Token(ctx) }
		cfg.Token = &owncert.Token{Ref: ep.RAKeyRef, Setting: "endpoints[].scep.ra_key_ref", Open: open}
		store.Token = cfg.Token
	}
	add := func(profile, suffix string) {
		cfg.Specs = append(cfg.Specs, owncert.Spec{
			Profile: profile, CommonName: "SCEP RA " + ep.Name + suffix, Algorithm: ep.RAKey,
		})
	}
	if ep.SeparateRAKeys {
		add(profileRAOpen, " (encryption)")
		add(profileRASign, " (signature)")
	} else {
		add(profileRA, "")
	}
	if was == nil {
		return &raSet{owncert.New(cfg, nil)}
	}
	return &raSet{owncert.New(cfg, was.Keeper)}
}

// list returns the RAs, newest first.
func (s *raSet) list() []ra {
	var all []ra
	for _, g := range s.All() {
		r := ra{made: g.Made, decrypt: pairOf(g.Pairs[0]), sign: pairOf(g.Pairs[len(g.Pairs)-1])}
		if r.decrypt.key != nil {
			all = append(all, r)
		}
	}
	return all
}

func pairOf(p owncert.Pair) keyPair {
	key, _ := p.Key.(PrivateKey) // all that are made are
	return keyPair{p.Certificate, key}
}

// published returns the RA that clients are given: the newest that every node
// knows, of those that one of the chains' issuers certified; by tells which.
func (s *raSet) published(chains [][]*x509.Certificate, now time.Time) (oldest *ra, by int) {
	all := s.list()
	for i := range all {
		signer := slices.IndexFunc(chains, func(chain []*x509.Certificate) bool {
			return pki.CertifiedBy(all[i].decrypt.cert, chain[0]) == nil
		})
		if signer < 0 {
			continue
		}
		oldest, by = &all[i], signer
		if !all[i].made.Add(publishAfter).After(now) {
			break
		}
	}
	return oldest, by
}

// certificates are those of the RA, the one to encrypt to first: some clients
// know no better (rule S8).
func (r *ra) certificates() []*x509.Certificate {
	if r.decrypt.cert.Equal(r.sign.cert) {
		return []*x509.Certificate{r.decrypt.cert}
	}
	return []*x509.Certificate{r.decrypt.cert, r.sign.cert}
}

// Renew brings the RA certificates of all endpoints up to date: it makes those
// that are missing, replaces those whose life is two thirds over, takes over what
// other nodes made, and puts out of use what was revoked; see owncert. Call it
// after each change of the issuers or the endpoints, and from time to time, more
// often than twice in publishAfter.
func (s *Server) Renew(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	var errs []error
	for _, ep := range s.current() {
		if err := ep.ras.Ensure(ctx); !nobodySigns(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// nobodySigns reports whether there is no CA that could be asked: the issuer's own
// health says so.
func nobodySigns(err error) bool {
	reasons := []string{"no_issuer", "issuer_unknown", "issuer_replaced"}
	return err != nil && slices.Contains(reasons, fault.Of(err).Reason)
}

// Health is what there is to say of the RA certificates, by endpoint.
func (s *Server) Health() map[string]owncert.Health {
	all := map[string]owncert.Health{}
	for _, ep := range s.current() {
		h := ep.ras.Health()
		if nobodySigns(h.Failed) {
			h.Failed = nil
		}
		all[ep.Name] = h
	}
	return all
}
