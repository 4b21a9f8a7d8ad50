package owncert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
)

// Sealed keeps generations of one or two pairs sealed in the database: all nodes
// have the same, and a copy of the database alone opens nobody's envelopes.
type Sealed struct {
	Name   string // of the secret
	Store  *store.Store
	Sealer *seal.Sealer
	Token  *Token // as in Config

	seen []byte // what was read or written last
}

// sealedGeneration and sealedPair are the form in which generations are kept.
type sealedGeneration struct {
	Made    time.Time   `json:"made"`
	Decrypt sealedPair  `json:"decrypt"`
	Sign    *sealedPair `json:"sign,omitempty"` // where it is another one
}

type sealedPair struct {
	Certificate []byte   `json:"certificate"`
	Key         []byte   `json:"key,omitempty"` // PKCS#8
	Ref         keys.Ref `json:"ref,omitempty"` // of a key that is in a token instead
}

// Load implements Storage. It reads anew what another node has changed.
func (s *Sealed) Load(ctx context.Context, have []Generation) ([]Generation, error) {
	sealed, err := s.Store.Secret(ctx, s.Name)
	if errors.Is(err, store.ErrNotFound) {
		s.seen = nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(have) > 0 && bytes.Equal(sealed, s.seen) {
		return have, nil
	}
	return s.open(ctx, sealed)
}

// open leaves out those whose keys are in a token that the configuration no longer
// names, or that has another key by now.
func (s *Sealed) open(ctx context.Context, sealed []byte) ([]Generation, error) {
	text, err := s.Sealer.Open(s.Name, sealed)
	if err != nil {
		return nil, fmt.Errorf("read kept certificates: %w", err)
	}
	var kept []sealedGeneration
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, fmt.Errorf("read kept certificates: %w", err)
	}
	var all []Generation
	for _, k := range kept {
		if k.Decrypt.Ref != "" && k.Decrypt.Ref != s.Token.ref() {
			continue
		}
		pairs := []sealedPair{k.Decrypt}
		if k.Sign != nil {
			pairs = append(pairs, *k.Sign)
		}
		g, err := s.openPairs(ctx, pairs)
		if errors.Is(err, errOtherKey) && k.Decrypt.Ref != "" {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read kept certificates: %w", err)
		}
		g.Made = k.Made
		all = append(all, *g)
	}
	s.seen = sealed
	return all, nil
}

func (s *Sealed) openPairs(ctx context.Context, kept []sealedPair) (*Generation, error) {
	g := &Generation{}
	for _, k := range kept {
		cert, err := x509.ParseCertificate(k.Certificate)
		if err != nil {
			return nil, err
		}
		p := Pair{Certificate: cert, Ref: k.Ref}
		if k.Ref != "" {
			p.Key, err = s.Token.Open(ctx)
		} else {
			p.Key, err = parsePKCS8(k.Key)
		}
		if err != nil {
			return nil, err
		}
		if err := p.match(); err != nil {
			return nil, err
		}
		g.Pairs = append(g.Pairs, p)
	}
	return g, nil
}

func parsePKCS8(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errOtherKey
	}
	return signer, nil
}

// Keep implements Storage. Where another node was quicker, what was made is a
// certificate that nobody ever sees.
func (s *Sealed) Keep(ctx context.Context, all []Generation) ([]Generation, error) {
	kept := make([]sealedGeneration, len(all))
	for i, g := range all {
		pairs := make([]sealedPair, len(g.Pairs))
		for j := range g.Pairs {
			var err error
			if pairs[j], err = pairOf(&g.Pairs[j]); err != nil {
				return nil, err
			}
		}
		kept[i] = sealedGeneration{Made: g.Made, Decrypt: pairs[0]}
		if len(pairs) > 1 {
			kept[i].Sign = &pairs[1]
		}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("keep certificates: %w", err)
	}
	sealed := s.Sealer.Seal(s.Name, text)
	winner, err := s.put(ctx, sealed)
	if err != nil {
		return nil, fmt.Errorf("keep certificates: %w", err)
	}
	if bytes.Equal(winner, sealed) {
		s.seen = sealed
		return all, nil
	}
	return s.open(ctx, winner)
}

// put replaces what was read, and returns what is kept then.
func (s *Sealed) put(ctx context.Context, sealed []byte) ([]byte, error) {
	if s.seen == nil {
		return s.Store.PutSecretOnce(ctx, s.Name, sealed)
	}
	err := s.Store.ReplaceSecret(ctx, s.Name, s.seen, sealed)
	if fault.Is(err, fault.Conflict) {
		return s.Store.Secret(ctx, s.Name)
	}
	return sealed, err
}

func pairOf(p *Pair) (sealedPair, error) {
	if p.Ref != "" {
		return sealedPair{Certificate: p.Certificate.Raw, Ref: p.Ref}, nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return sealedPair{}, fmt.Errorf("keep certificates: %w", err)
	}
	return sealedPair{Certificate: p.Certificate.Raw, Key: der}, nil
}
