package scep

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
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
	ref  keys.Ref // of a key in a token
}

// raSet is the RAs of an endpoint, newest first; the last are there for clients
// that have not heard of the first.
type raSet struct {
	all atomic.Pointer[[]ra]
}

func (s *raSet) list() []ra {
	if all := s.all.Load(); all != nil {
		return *all
	}
	return nil
}

// published returns the RA that clients are given: the newest that every node
// knows, of those that one of the chains' issuers certified; by tells which.
func (s *raSet) published(chains [][]*x509.Certificate, now time.Time) (oldest *ra, by int) {
	all := s.list()
	for i := range all {
		signer := certifiedBy(all[i].decrypt.cert, chains)
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

// certifiedBy returns which of the chains' issuers signed a certificate; -1 for
// none.
func certifiedBy(c *x509.Certificate, chains [][]*x509.Certificate) int {
	return slices.IndexFunc(chains, func(chain []*x509.Certificate) bool { return pki.CertifiedBy(c, chain[0]) == nil })
}

// certificates are those of the RA, the one to encrypt to first: some clients
// know no better (rule S8).
func (r *ra) certificates() []*x509.Certificate {
	if bytes.Equal(r.decrypt.cert.Raw, r.sign.cert.Raw) {
		return []*x509.Certificate{r.decrypt.cert}
	}
	return []*x509.Certificate{r.decrypt.cert, r.sign.cert}
}

// Renew brings the RA certificates of all endpoints up to date: it makes those
// that are missing, replaces those whose life is two thirds over, and takes over
// what other nodes made. Call it after each change of the issuers or the
// endpoints, and from time to time, more often than twice in publishAfter.
func (s *Server) Renew(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	var errs []error
	for name, ep := range s.current() {
		if err := s.renew(ctx, ep); err != nil {
			errs = append(errs, fmt.Errorf("RA certificate of scep endpoint %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Server) renew(ctx context.Context, ep *endpoint) error {
	sealed, all, err := s.loadRAs(ctx, ep)
	if err != nil {
		return err
	}
	good, err := s.usableRAs(ctx, all)
	if err != nil {
		return err
	}
	signing := s.Pipeline.Rules().CAs.Signing(ep.Issuer)
	if len(signing) == 0 {
		ep.ras.all.Store(&good)
		return nil // there is nobody to ask; the issuer's own health says so
	}
	if len(good) == 0 || s.due(&good[0], ep, signing) {
		fresh, err := s.makeRA(ctx, ep)
		if err != nil {
			if len(good) > 0 {
				ep.ras.all.Store(&good)
			}
			return err
		}
		good = append([]ra{*fresh}, good...)
		if good, err = s.saveRAs(ctx, ep, sealed, good); err != nil {
			return err
		}
	}
	ep.ras.all.Store(&good)
	return nil
}

// usableRAs leaves out what has expired or was revoked.
func (s *Server) usableRAs(ctx context.Context, all []ra) ([]ra, error) {
	var good []ra
	for _, r := range all {
		ok := true
		for _, c := range r.certificates() {
			row, err := s.Pipeline.Lookup(ctx, c.Raw)
			if err != nil && !fault.Is(err, fault.NotFound) {
				return nil, err
			}
			ok = ok && err == nil && row.Revocation == nil && c.NotAfter.After(s.Now())
		}
		if ok {
			good = append(good, r)
		}
	}
	return good, nil
}

// due reports whether the newest RA has to be followed by another: its time has
// come, or its issuer signs no more.
func (s *Server) due(r *ra, ep *endpoint, signing []*ca.CA) bool {
	var chains [][]*x509.Certificate
	for _, c := range signing {
		chains = append(chains, c.Chain())
	}
	for _, c := range r.certificates() {
		if certifiedBy(c, chains) < 0 || !c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore)*2/3).After(s.Now()) {
			return true
		}
	}
	public, ok := r.decrypt.cert.PublicKey.(*rsa.PublicKey)
	return !ok || ep.RAKeyRef == "" && public.N.BitLen() != RAKeys[ep.RAKey] ||
		r.decrypt.ref != ep.RAKeyRef || (len(r.certificates()) == 2) != ep.SeparateRAKeys
}

func (s *Server) makeRA(ctx context.Context, ep *endpoint) (*ra, error) {
	r := &ra{made: s.Now().UTC().Truncate(time.Second)}
	var err error
	if !ep.SeparateRAKeys {
		r.decrypt, err = s.certify(ctx, ep, profileRA, "SCEP RA "+ep.Name)
		r.sign = r.decrypt
		return r, err
	}
	if r.decrypt, err = s.certify(ctx, ep, profileRAOpen, "SCEP RA "+ep.Name+" (encryption)"); err != nil {
		return nil, err
	}
	r.sign, err = s.certify(ctx, ep, profileRASign, "SCEP RA "+ep.Name+" (signature)")
	return r, err
}

// maxCommonName is the upper bound of X.520.
const maxCommonName = 64

// certify makes a key and asks the one door for its certificate.
func (s *Server) certify(ctx context.Context, ep *endpoint, profile, cn string) (keyPair, error) {
	key, err := ep.newKey(ctx)
	if err != nil {
		return keyPair{}, fmt.Errorf("generate key: %w", err)
	}
	cn = cn[:min(len(cn), maxCommonName)]
	subject := pki.CommonNameOnly(cn)
	if chains := s.Pipeline.Rules().CAs.Chains(ep.Issuer); len(chains) > 0 {
		if subject, err = calaw.OwnName(chains[0], cn); err != nil {
			return keyPair{}, err
		}
	}
	made, err := s.Pipeline.Issue(ctx, issuance.Request{
		Endpoint: ep.Name, Protocol: "server", Profile: profile, Issuer: ep.Issuer, Origin: "request:" + store.NewID(),
		PublicKey: key.Public(), Subject: &subject, Names: []pki.Identifier{}, Requester: "server",
	})
	if err != nil {
		return keyPair{}, err
	}
	cert, err := x509.ParseCertificate(made.DER)
	return keyPair{cert, key, ep.RAKeyRef}, err
}

func (ep *endpoint) newKey(ctx context.Context) (PrivateKey, error) {
	if ep.RAKeyRef != "" {
		return ep.Token(ctx)
	}
	return rsa.GenerateKey(rand.Reader, RAKeys[ep.RAKey])
}

// keptRA is how an RA stands in the database, sealed: all nodes must have the
// same, and a copy of the database alone opens nobody's envelopes.
type keptRA struct {
	Made    time.Time `json:"made"`
	Decrypt keptPair  `json:"decrypt"`
	Sign    *keptPair `json:"sign,omitempty"` // where it is another one
}

type keptPair struct {
	Certificate []byte   `json:"certificate"`
	Key         []byte   `json:"key,omitempty"` // PKCS#8
	Ref         keys.Ref `json:"ref,omitempty"` // of a key that is in a token instead
}

func secretName(ep *endpoint) string { return "scep-ra:" + ep.Name + ":" + ep.Issuer }

// loadRAs reads what is kept, and its sealed form.
func (s *Server) loadRAs(ctx context.Context, ep *endpoint) (sealed []byte, all []ra, err error) {
	sealed, err = s.Store.Secret(ctx, secretName(ep))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	all, err = s.openRAs(ctx, ep, sealed)
	return sealed, all, err
}

// openRAs leaves out those whose keys are in a token that the endpoint no longer
// names, or that has another key by now.
func (s *Server) openRAs(ctx context.Context, ep *endpoint, sealed []byte) ([]ra, error) {
	text, err := s.Sealer.Open(secretName(ep), sealed)
	if err != nil {
		return nil, fmt.Errorf("read kept RA: %w", err)
	}
	var kept []keptRA
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, fmt.Errorf("read kept RA: %w", err)
	}
	var all []ra
	for _, k := range kept {
		if k.Decrypt.Ref != "" && k.Decrypt.Ref != ep.RAKeyRef {
			continue
		}
		r := ra{made: k.Made}
		r.decrypt, err = k.Decrypt.open(ctx, ep)
		if errors.Is(err, errOtherKey) && k.Decrypt.Ref != "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.sign = r.decrypt
		if k.Sign != nil {
			if r.sign, err = k.Sign.open(ctx, ep); err != nil {
				return nil, err
			}
		}
		all = append(all, r)
	}
	return all, nil
}

var errOtherKey = errors.New("read kept RA: the key is not the certificate's")

func (k *keptPair) open(ctx context.Context, ep *endpoint) (keyPair, error) {
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return keyPair{}, fmt.Errorf("read kept RA: %w", err)
	}
	var private PrivateKey
	if k.Ref != "" {
		if private, err = ep.Token(ctx); err != nil {
			return keyPair{}, err
		}
	} else {
		key, err := x509.ParsePKCS8PrivateKey(k.Key)
		if err != nil {
			return keyPair{}, fmt.Errorf("read kept RA: %w", err)
		}
		if own, ok := key.(*rsa.PrivateKey); ok {
			private = own
		}
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || private == nil || !public.Equal(private.Public()) {
		return keyPair{}, errOtherKey
	}
	return keyPair{cert, private, k.Ref}, nil
}

// saveRAs keeps the RAs unless another node was quicker, and returns those that
// are kept. What lost is a certificate that nobody ever sees.
func (s *Server) saveRAs(ctx context.Context, ep *endpoint, old []byte, all []ra) ([]ra, error) {
	kept := make([]keptRA, len(all))
	for i, r := range all {
		kept[i].Made = r.made
		var err error
		if kept[i].Decrypt, err = keep(r.decrypt); err != nil {
			return nil, err
		}
		if len(r.certificates()) == 2 {
			sign, err := keep(r.sign)
			if err != nil {
				return nil, err
			}
			kept[i].Sign = &sign
		}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("keep RA: %w", err)
	}
	sealed := s.Sealer.Seal(secretName(ep), text)
	winner := sealed
	if old == nil {
		winner, err = s.Store.PutSecretOnce(ctx, secretName(ep), sealed)
	} else if err = s.Store.ReplaceSecret(ctx, secretName(ep), old, sealed); fault.Is(err, fault.Conflict) {
		winner, err = s.Store.Secret(ctx, secretName(ep))
	}
	if err != nil {
		return nil, fmt.Errorf("keep RA: %w", err)
	}
	if bytes.Equal(winner, sealed) {
		return all, nil
	}
	return s.openRAs(ctx, ep, winner)
}

func keep(p keyPair) (keptPair, error) {
	if p.ref != "" {
		return keptPair{Certificate: p.cert.Raw, Ref: p.ref}, nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return keptPair{}, fmt.Errorf("keep RA: %w", err)
	}
	return keptPair{Certificate: p.cert.Raw, Key: der}, nil
}
