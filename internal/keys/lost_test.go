//go:build cgo

package keys

import (
	"context"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// folderOf is the folder in which SoftHSM keeps the token that was made last.
func foldersOf(t *testing.T, tok *hsmtest.Token) map[string]bool {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(tok.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, f := range found {
		all[f] = true
	}
	return all
}

// twoTokens makes another token, with a key in each, and returns the other's folder.
func twoTokens(t *testing.T, module string, tok *hsmtest.Token, cfg Config) (stays, goes *Key, folder string) {
	t.Helper()
	before := foldersOf(t, tok)
	tok.Add(t, "other")
	for f := range foldersOf(t, tok) {
		if !before[f] {
			folder = f
		}
	}
	for _, label := range []string{tok.Label, "other"} {
		k, err := GenerateIn(Ref("pkcs11:token="+label+";object=k?module-path="+module), "ec-p256", tok.Secret, cfg)
		if err != nil {
			t.Fatal(err)
		}
		closeAfter(t, k)
		stays, goes = goes, k
	}
	return stays, goes, folder
}

// use signs with a key until it is stopped, and reports the first failure.
func use(ctx context.Context, k *Key, callers int) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := k.Sign(nil, digest("m"), crypto.SHA256); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	return func() error {
		cancel()
		wg.Wait()
		close(failed)
		return <-failed
	}
}

// A token that was away for some seconds under load, beside another that stays in
// use, signs again without a restart, and the other loses no signature.
func TestFT9_LostBesideAnother(t *testing.T) {
	tok := hsmtest.New(t)
	stays, goes, folder := twoTokens(t, tok.Module, tok, Config{})
	stop := use(t.Context(), stays, 8)
	away := filepath.Join(filepath.Dir(tok.Dir), "away")
	if err := os.Rename(folder, away); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); goes.Healthy() == nil || time.Since(begun) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
		_, err := goes.SignContext(t.Context(), digest("m"), crypto.SHA256)
		if err == nil && time.Since(begun) > healing {
			t.Fatal("the token that is away signs")
		}
	}
	if err := os.Rename(away, folder); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, err := goes.SignContext(t.Context(), digest("m"), crypto.SHA256)
		if err == nil {
			t.Logf("back after %v", time.Since(begun).Round(time.Millisecond))
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("not back: %v", err)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("the token that stayed: %v", err)
	}
}

// Where the module cannot be started anew, the error says what a person has to do.
func TestFT9_RestartThisNode(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	pin := tok.PIN
	stays, goes, folder := twoTokens(t, shim.Module, tok, Config{Deadline: 5 * time.Second})
	stays.backend.(*tokenKey).secret = func() ([]byte, error) { return []byte(pin), nil }
	pin = "another"
	logins := shim.Calls(t, "C_Login")
	if err := os.Rename(folder, filepath.Join(filepath.Dir(tok.Dir), "away")); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, err := goes.SignContext(t.Context(), digest("m"), crypto.SHA256)
		if err != nil && strings.Contains(err.Error(), "restart this node") {
			if h := goes.Healthy(); h == nil || !strings.Contains(h.Error(), "restart this node") {
				t.Errorf("health: %v", h)
			}
			break
		}
		if time.Since(begun) > 2*healing {
			t.Fatalf("the token is away, and the module cannot be started anew: %v", err)
		}
	}
	signsAgain(t, stays) // its login was not risked
	if n := shim.Calls(t, "C_Login") - logins; n > 1 {
		t.Errorf("%d logins", n)
	}
}

// A token that is made after the module was started is found, also while another
// is in use.
func TestFT9_TokenMadeLater(t *testing.T) {
	tok := hsmtest.New(t)
	k := newKeyIn(t, tok, tok.Ref("k"), "ec-p256")
	stop := use(t.Context(), k, 4)
	tok.Add(t, "later")
	ref := Ref("pkcs11:token=later;object=k?module-path=" + tok.Module)
	if _, err := Open(t.Context(), ref, tok.Secret, Config{}); err == nil || strings.Contains(err.Error(), "no token") {
		t.Errorf("a token made later: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("the token in use: %v", err)
	}
	_, err := Open(t.Context(), Ref("pkcs11:token=none;object=k?module-path="+tok.Module), tok.Secret, Config{})
	if err == nil || !strings.Contains(err.Error(), `it has label "`) || !strings.Contains(err.Error(), "later") {
		t.Errorf("no such token: %v", err)
	}
}
