package credential

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
)

// SharedSecret returns the secret of the given name and size that all nodes on
// one database share, such as the key of the nonces' MAC. The first caller makes
// it; whoever comes at the same time gets the winner's.
func SharedSecret(ctx context.Context, st *store.Store, sealer *seal.Sealer, name string, size int) ([]byte, error) {
	sealed, err := st.Secret(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		fresh := make([]byte, size)
		_, _ = rand.Read(fresh)
		sealed, err = st.PutSecretOnce(ctx, name, sealer.Seal(secretName(name), fresh))
	}
	if err != nil {
		return nil, fmt.Errorf("shared secret %q: %w", name, err)
	}
	plain, err := sealer.Open(secretName(name), sealed)
	if err != nil {
		return nil, fmt.Errorf("shared secret %q: %w", name, err)
	}
	if len(plain) != size {
		return nil, fmt.Errorf("shared secret %q: has %d bytes, want %d", name, len(plain), size)
	}
	return plain, nil
}

func secretName(name string) string { return "secret:" + name }
