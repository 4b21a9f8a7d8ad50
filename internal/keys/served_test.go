//go:build cgo

package keys

import (
	"crypto"
	"syscall"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// A token behind a serving process: while that is stopped, callers are answered
// within the deadline; when it goes on, or was killed and is started again, the
// key signs again by itself.
func TestTokenBehindAServer(t *testing.T) {
	tok := hsmtest.New(t)
	made := newKeyIn(t, tok, tok.Ref("k"), "ec-p256")
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	served := hsmtest.Serve(t, tok)
	k, err := Open(t.Context(), Ref(served.Ref("k")), tok.Secret, Config{Deadline: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close() //nolint:errcheck // the server may be gone
	signsAgain(t, k)

	served.Signal(t, syscall.SIGSTOP)
	begun := time.Now()
	if _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the server is stopped: %v", err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("answered after %v", took)
	}
	served.Signal(t, syscall.SIGCONT)
	signsAgain(t, k)

	served.Kill(t)
	if _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the server is gone: %v", err)
	}
	served.Restart(t)
	signsAgain(t, k)
}
