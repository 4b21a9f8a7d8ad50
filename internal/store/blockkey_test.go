package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// TestFS10_TheCallerDecidesWhatIsBlocked: no reason blocks a key by itself.
func TestFS10_TheCallerDecidesWhatIsBlocked(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		account := newAccount(t, s)
		for i, block := range []bool{false, true} {
			for _, bulk := range []bool{false, true} {
				c := newCertificate(fmt.Sprint("order:", i, bulk), "a.test")
				var key pki.KeyHash
				copy(key[:], fmt.Sprintf("%t %t", block, bulk))
				c.KeyHash = key[:]
				c = issue(t, s, c)
				if r := revocation(pki.KeyCompromise, 0); bulk {
					noErr(t, s.RevokeAll(ctx, []store.Revocable{{ID: c.ID, IssuerID: c.IssuerID}}, r, block,
						[]store.Event{event("x")}))
				} else {
					noErr(t, s.Revoke(ctx, c.ID, r, block, event("x")))
				}
				if got, err := s.BlockedKey(ctx, key); err != nil || got != block {
					t.Errorf("asked to block %t, bulk %t: blocked %t, %v", block, bulk, got, err)
				}
				_, got, err := s.AccountAndNonce(ctx, account.ID, key[:], base.Add(time.Hour), key)
				if err != nil || got != block {
					t.Errorf("with an account: blocked %t, want %t, %v", got, block, err)
				}
				for range 2 {
					noErr(t, s.BlockKey(ctx, c.ID, base, event("key_blocked")))
				}
				if got, err := s.BlockedKey(ctx, key); err != nil || !got {
					t.Errorf("blocked afterwards: %t, %v", got, err)
				}
			}
		}
		events, _, err := s.AuditTail(ctx, 100, "")
		noErr(t, err)
		n := 0
		for _, e := range events {
			if e.Action == "key_blocked" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d events of a key that was blocked, want 2: one for each that was not yet", n)
		}
	})
}
