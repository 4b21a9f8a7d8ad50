package pkitest

import (
	"context"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
)

// Busy fills the queue of strangers' keys for the rest of a test, which must not
// run beside others: they would be refused too.
func Busy(t testing.TB) {
	t.Helper()
	release, full := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	once := sync.OnceFunc(func() { close(full) })
	for {
		running.Go(func() {
			if pki.KeyUses.Do(context.Background(), func() { <-release }) != nil {
				once()
			}
		})
		select {
		case <-full:
			t.Cleanup(func() { close(release); running.Wait() })
			return
		default:
		}
	}
}
