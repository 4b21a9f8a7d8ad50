package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

const racers = 40

// errNotWon stands for a false answer of methods that return one.
var errNotWon = errors.New("not won")

func won(ok bool, err error) error {
	if err == nil && !ok {
		return errNotWon
	}
	return err
}

// TestOneWinner lets many callers on two nodes do the same thing at once.
func TestOneWinner(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		wins  int
		loses func(error) bool
		setup func(t *testing.T, s *store.Store) (act func(s *store.Store, i int) error)
	}{
		"start challenge": {1, is(errNotWon), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			o := newOrder(t, s, newAccount(t, s).ID, base.Add(time.Hour), "a.test")
			return func(s *store.Store, i int) error {
				return won(s.StartChallenge(ctx, o.AuthorizationIDs[0], "http-01", "t", base))
			}
		}},
		"claim challenge": {1, is(errNotWon), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			o := newOrder(t, s, newAccount(t, s).ID, base.Add(time.Hour), "a.test")
			noErr(t, won(s.StartChallenge(ctx, o.AuthorizationIDs[0], "http-01", "t", base)))
			return func(s *store.Store, i int) error {
				return won(s.ClaimChallenge(ctx, o.AuthorizationIDs[0], base, base.Add(time.Minute)))
			}
		}},
		"finish challenge": {1, kind(fault.Conflict), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			o := newOrder(t, s, newAccount(t, s).ID, base.Add(time.Hour), "a.test")
			noErr(t, won(s.StartChallenge(ctx, o.AuthorizationIDs[0], "http-01", "t", base)))
			return func(s *store.Store, i int) error {
				return s.FinishChallenge(ctx, o.AuthorizationIDs[0], "http-01", i%2 == 0, nil, nil, base, base.Add(time.Hour), nil)
			}
		}},
		"start finalize": {1, kind(fault.NotReady), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			o := newOrder(t, s, newAccount(t, s).ID, base.Add(time.Hour), "a.test")
			validate(t, s, o)
			return func(s *store.Store, i int) error { return s.StartFinalize(ctx, o.ID, []byte("csr"), s.Node(), base) }
		}},
		"take order": {1, kind(fault.Conflict), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			o := newOrder(t, s, newAccount(t, s).ID, base.Add(time.Hour), "a.test")
			validate(t, s, o)
			noErr(t, s.StartFinalize(ctx, o.ID, []byte("csr"), "gone", base))
			read, _, err := s.Order(ctx, o.ID)
			noErr(t, err)
			return func(s *store.Store, i int) error {
				return s.TakeOrder(ctx, *read, s.Node(), base.Add(time.Duration(i+1)*time.Second))
			}
		}},
		"reserve an origin": {1, kind(fault.Conflict), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			return func(s *store.Store, i int) error {
				return s.Reserve(ctx, newCertificate("order:same", "a.test", "b.test"), nil, event("certificate.intent"))
			}
		}},
		"complete or abandon": {1, kind(fault.Conflict), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			putIssuer(t, s, "ca-1")
			c := newCertificate("order:1")
			noErr(t, s.Reserve(ctx, c, nil, event("certificate.intent")))
			return func(s *store.Store, i int) error {
				if i%2 == 0 {
					return s.Complete(ctx, c.ID, []byte("der"), base, event("certificate.issued"))
				}
				return s.Abandon(ctx, c.ID, true, event("certificate.void"))
			}
		}},
		"revoke": {1, kind(fault.AlreadyRevoked), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			putIssuer(t, s, "ca-1")
			c := issue(t, s, newCertificate("order:1"))
			return func(s *store.Store, i int) error {
				return s.Revoke(ctx, c.ID, store.Revocation{Reason: pki.Superseded, RevokedAt: base}, true, event("certificate.revoked"))
			}
		}},
		"use an EAB key": {5, kind(fault.Denied), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			noErr(t, s.CreateEAB(ctx, store.EABKey{KID: "k", HMAC: []byte{1}, MaxUses: 5, CreatedAt: base}, event("eab.created")))
			return func(s *store.Store, i int) error {
				id := store.NewID()
				a := store.Account{ID: id, Endpoint: "e", Thumbprint: id, JWK: []byte(`{}`), Status: "valid", CreatedAt: base}
				_, err := s.CreateAccount(ctx, a, &store.Claim{Kind: "eab", ID: "k"}, event("account.created"))
				return err
			}
		}},
		"create an account": {1, is(errNotWon), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			return func(s *store.Store, i int) error {
				a := store.Account{ID: store.NewID(), Endpoint: "e", Thumbprint: "t", JWK: []byte(`{}`), Status: "valid", CreatedAt: base}
				existing, err := s.CreateAccount(ctx, a, nil, event("account.created"))
				return won(existing == nil, err)
			}
		}},
		"change to the same key": {1, kind(fault.Conflict), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			var accounts [racers]store.Account
			for i := range accounts {
				accounts[i] = newAccount(t, s)
			}
			return func(s *store.Store, i int) error {
				return s.ChangeAccountKey(ctx, accounts[i].ID, accounts[i].Thumbprint, "new", []byte(`{}`), event("account.key_changed"))
			}
		}},
		"take a limit": {7, is(errNotWon), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			return func(s *store.Store, i int) error {
				ok, _, err := s.UpdateLimit(ctx, "k", base, time.Minute, 6*time.Minute)
				return won(ok, err)
			}
		}},
		"acquire a lease": {1, is(errNotWon), func(t *testing.T, s *store.Store) func(*store.Store, int) error {
			return func(s *store.Store, i int) error {
				_, ok, err := s.AcquireLease(ctx, "l", fmt.Sprint(i), base, time.Minute)
				return won(ok, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			nodes(t, func(t *testing.T, one, two *store.Store) {
				act := c.setup(t, one)
				wins, lost := race(racers, func(i int) error { return act([]*store.Store{one, two}[i%2], i) })
				if wins != c.wins {
					t.Errorf("%d won, want %d", wins, c.wins)
				}
				for _, err := range lost {
					if !c.loses(err) {
						t.Fatalf("a loser got %v", err)
					}
				}
				checkChains(t, one)
			})
		})
	}
}

func is(target error) func(error) bool   { return func(err error) bool { return errors.Is(err, target) } }
func kind(k fault.Kind) func(error) bool { return func(err error) bool { return fault.Is(err, k) } }

// TestACME_A5_OneNonceWins is apart: SQLite keeps nonces in one process.
func TestACME_A5_OneNonceWins(t *testing.T) {
	nodes(t, func(t *testing.T, one, two *store.Store) {
		ctx, a := context.Background(), newAccount(t, one)
		stores := []*store.Store{one, two}
		if t.Name() == "TestACME_A5_OneNonceWins/sqlite" {
			stores[1] = one
		}
		wins, lost := race(racers, func(i int) error {
			if i%4 < 2 {
				return stores[i%2].SpendNonce(ctx, []byte("n"), base)
			}
			_, _, err := stores[i%2].AccountAndNonce(ctx, a.ID, []byte("n"), base, pki.KeyHash{})
			return err
		})
		if wins != 1 {
			t.Errorf("%d won", wins)
		}
		for _, err := range lost {
			wantKind(t, err, fault.BadNonce)
		}
	})
}

func TestSecretIsPutOnce(t *testing.T) {
	nodes(t, func(t *testing.T, one, two *store.Store) {
		ctx := context.Background()
		var mu sync.Mutex
		seen := map[string]int{}
		_, lost := race(racers, func(i int) error {
			winner, err := []*store.Store{one, two}[i%2].PutSecretOnce(ctx, "nonce", fmt.Appendf(nil, "secret %d", i))
			mu.Lock()
			defer mu.Unlock()
			seen[string(winner)]++
			return err
		})
		if len(lost) > 0 || len(seen) != 1 {
			t.Errorf("secrets %v, errors %v", seen, lost)
		}
	})
}

func TestCountersLoseNothing(t *testing.T) {
	nodes(t, func(t *testing.T, one, two *store.Store) {
		ctx := context.Background()
		putIssuer(t, one, "ca-1")
		var certs [racers]store.Certificate
		for i := range certs {
			certs[i] = issue(t, one, newCertificate(fmt.Sprint("order:", i)))
		}
		var numbers sync.Map
		var twice atomic.Int64
		_, lost := race(racers, func(i int) error {
			s := []*store.Store{one, two}[i%2]
			number, err := s.NextCRLNumber(ctx, "ca-1", base, 0)
			if _, again := numbers.LoadOrStore(number, true); again {
				twice.Add(1)
			}
			return errors.Join(err, s.Revoke(ctx, certs[i].ID, store.Revocation{RevokedAt: base}, false, event("certificate.revoked")))
		})
		if len(lost) > 0 || twice.Load() > 0 {
			t.Fatalf("errors %v, %d numbers came twice", lost, twice.Load())
		}
		r, err := one.Issuer(ctx, "ca-1")
		if err != nil || r.RevocationSeq != racers || r.LastCRLNumber != base.UnixMilli()+racers-1 {
			t.Errorf("issuer %+v, %v", r, err)
		}
		seqs := map[int64]bool{}
		for _, c := range certs {
			got, err := two.CertificateByID(ctx, c.ID)
			noErr(t, err)
			seqs[got.Revocation.Seq] = true
		}
		if len(seqs) != racers {
			t.Errorf("%d different sequence numbers for %d revocations", len(seqs), racers)
		}
		checkChains(t, one)
	})
}
