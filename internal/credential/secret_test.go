package credential

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func kek(b byte) []byte { return bytes.Repeat([]byte{b}, seal.KEKSize) }

func newSealer(t *testing.T, kek []byte, older ...[]byte) *seal.Sealer {
	t.Helper()
	s, err := seal.New(kek, older...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSharedSecretHasOneWinner(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		sealer := newSealer(t, kek(1))
		got := make([][]byte, 16)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				var err error
				if got[i], err = SharedSecret(context.Background(), st, sealer, "nonce", 32); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, g := range got[1:] {
			if len(g) != 32 || !bytes.Equal(g, got[0]) {
				t.Fatalf("two nodes have two secrets: %x and %x", g, got[0])
			}
		}
		sealed, err := st.Secret(t.Context(), "nonce")
		if err != nil || bytes.Contains(sealed, got[0]) {
			t.Errorf("the row holds the secret in clear (%v)", err)
		}
		rotated := newSealer(t, kek(2), kek(1))
		if again, err := SharedSecret(t.Context(), st, rotated, "nonce", 32); err != nil || !bytes.Equal(again, got[0]) {
			t.Errorf("after a rotation: %x, %v", again, err)
		}
	})
}

func TestSharedSecretRefuses(t *testing.T) {
	t.Parallel()
	st := openStore(t)
	if _, err := SharedSecret(t.Context(), st, newSealer(t, kek(1)), "nonce", 32); err != nil {
		t.Fatal(err)
	}
	if _, err := SharedSecret(t.Context(), st, newSealer(t, kek(2)), "nonce", 32); !errors.Is(err, seal.ErrKey) {
		t.Errorf("another key-encryption key: %v, want seal.ErrKey", err)
	}
	if _, err := SharedSecret(t.Context(), st, newSealer(t, kek(1)), "nonce", 64); err == nil {
		t.Error("another size: no error")
	}
}
