package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/test/need"
)

// device is a backend whose behaviour a test decides.
type device struct {
	crypto.Signer
	mu     sync.Mutex
	sign   func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
	calls  atomic.Int64
	closed atomic.Bool
}

func newDevice(t *testing.T) *device {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &device{Signer: priv}
}

func (d *device) behave(f func([]byte, crypto.SignerOpts) ([]byte, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sign = f
}

func (d *device) Sign(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	d.calls.Add(1)
	d.mu.Lock()
	f := d.sign
	d.mu.Unlock()
	if f != nil {
		return f(digest, opts)
	}
	return d.Signer.Sign(rand.Reader, digest, opts)
}

func (d *device) Close() error { d.closed.Store(true); return nil }

func digest(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func TestKeySignsAndReports(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	var events []Event
	clock := time.Unix(0, 0)
	k := newKey("file:x", d, Config{
		Observe: func(e Event) { events = append(events, e) },
		Now:     func() time.Time { clock = clock.Add(time.Second); return clock },
	})
	sig, err := k.Sign(nil, digest("m"), crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(d.Public().(*ecdsa.PublicKey), digest("m"), sig) {
		t.Fatalf("Sign: %v", err)
	}
	d.behave(func([]byte, crypto.SignerOpts) ([]byte, error) { return nil, errors.New("device removed") })
	_, err = k.SignContext(t.Context(), digest("m"), crypto.SHA256)
	if !fault.Is(err, fault.Unavailable) || errors.Is(err, ErrNotSigned) {
		t.Fatalf("a failing device: %v: want Unavailable, outcome unknown", err)
	}
	if k.Healthy() == nil || !strings.Contains(k.Healthy().Error(), "device removed") {
		t.Fatalf("Healthy() = %v", k.Healthy())
	}
	d.behave(nil)
	if err := k.KeepAlive(t.Context()); err != nil || k.Healthy() != nil {
		t.Fatalf("KeepAlive: %v, Healthy: %v", err, k.Healthy())
	}
	if len(events) != 3 || events[0].Op != "sign" || events[0].Duration != time.Second || events[1].Err == nil || events[2].Op != "keepalive" {
		t.Fatalf("events: %+v", events)
	}
}

// A device that hangs costs its callers the deadline, never more, holds a bounded
// number of goroutines, and turns the rest away at once.
func TestX16_HangingDevice(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		d.behave(func([]byte, crypto.SignerOpts) ([]byte, error) { <-hang; return nil, errors.New("late") })
		k := newKey("file:x", d, Config{Deadline: 10 * time.Second, Queue: 8})
		defer func() { _ = k.Close() }() // its workers end
		start := time.Now()
		const callers = parallel + 8 + 5
		errs := make(chan error, callers)
		for range callers {
			go func() { _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); errs <- err }()
		}
		synctest.Wait()
		if n := len(errs); n != 5 {
			t.Fatalf("%d callers were turned away at once: want 5", n)
		}
		for range 5 {
			err := <-errs
			if !errors.Is(err, ErrNotSigned) || !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
				t.Fatalf("queue full: %v", err)
			}
		}
		unknown, certain := 0, 0
		for range parallel + 8 {
			err := <-errs
			if !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
				t.Fatalf("deadline: %v", err)
			}
			if errors.Is(err, ErrNotSigned) {
				certain++
			} else {
				unknown++
			}
		}
		if unknown != parallel || certain != 8 {
			t.Fatalf("%d unknown and %d certain outcomes: want %d and 8", unknown, certain, parallel)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Fatalf("callers waited %v", d)
		}
		if n := d.calls.Load(); n != parallel {
			t.Fatalf("the device saw %d calls: want %d", n, parallel)
		}
		if k.Healthy() == nil {
			t.Fatal("a hanging key calls itself healthy")
		}
		d.behave(nil)
		close(hang)
		synctest.Wait()
		if _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); err != nil || k.Healthy() != nil {
			t.Fatalf("after the device came back: %v, %v", err, k.Healthy())
		}
	})
}

func TestCallerWhoLeavesSaysNothingOfTheKey(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		d.behave(func([]byte, crypto.SignerOpts) ([]byte, error) { <-hang; return []byte{1}, nil })
		k := newKey("file:x", d, Config{})
		defer func() { _ = k.Close() }() // its workers end
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.SignContext(ctx, digest("m"), crypto.SHA256); err == nil || errors.Is(err, ErrNotSigned) {
			t.Fatalf("cancelled while signing: %v", err)
		}
		if err := k.Healthy(); err != nil {
			t.Fatalf("Healthy() = %v", err)
		}
		close(hang)
		synctest.Wait()
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		d.behave(func([]byte, crypto.SignerOpts) ([]byte, error) { <-hang; return nil, errors.New("late") })
		k := newKey("file:x", d, Config{Deadline: time.Minute, Queue: 1})
		defer func() { _ = k.Close() }() // its workers end
		errs := make(chan error, parallel+1)
		for range parallel + 1 {
			go func() { _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); errs <- err }()
		}
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- k.Close() }()
		synctest.Wait()
		if err := <-errs; !errors.Is(err, ErrNotSigned) {
			t.Fatalf("the waiting caller: %v", err)
		}
		if d.closed.Load() {
			t.Fatal("the backend was closed under a running operation")
		}
		close(hang)
		if err := <-closed; err != nil || !d.closed.Load() {
			t.Fatalf("Close: %v", err)
		}
		if _, err := k.Sign(nil, digest("m"), crypto.SHA256); !errors.Is(err, ErrNotSigned) || k.Healthy() == nil {
			t.Fatalf("a closed key: %v", err)
		}
	})
}

func TestKeepAliveIsNoDER(t *testing.T) {
	t.Parallel()
	if keepAlive[0] != 0 {
		t.Fatal("the keep-alive string must begin with 0x00")
	}
	d := newDevice(t)
	d.behave(func([]byte, crypto.SignerOpts) ([]byte, error) { return []byte("nonsense"), nil })
	k := newKey("file:x", d, Config{})
	if err := k.KeepAlive(t.Context()); err == nil || k.Healthy() == nil {
		t.Fatal("a signature that does not verify is taken for life")
	}
}

func TestX16_InputIsChecked(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	k := newKey("file:x", d, Config{})
	for name, c := range map[string]struct {
		digest []byte
		opts   crypto.SignerOpts
	}{
		"short digest": {digest("m")[:31], crypto.SHA256},
		"other hash":   {digest("m"), crypto.SHA384},
		"SHA-1":        {make([]byte, 20), crypto.SHA1},
		"no hash":      {digest("m"), crypto.Hash(0)},
		"nil options":  {digest("m"), nil},
	} {
		if _, err := k.Sign(nil, c.digest, c.opts); !errors.Is(err, ErrNotSigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d.calls.Load() != 0 {
		t.Error("the device was asked")
	}
}

func pass(s string) Secret { return func() ([]byte, error) { return []byte(s), nil } }

// Every algorithm is generated, found again and read by openssl (G1-24).
func TestG1_24_GenerateOpenOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl")
	algs := []string{"ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072", "ed25519"}
	if !testing.Short() {
		algs = append(algs, "rsa-4096")
	}
	for _, alg := range algs {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			ref := Ref("file:" + filepath.Join(t.TempDir(), "k.pem"))
			made, err := Generate(ref, alg, pass("correct horse"))
			if err != nil {
				t.Fatal(err)
			}
			path, err := ref.path()
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("mode %v, %v", info.Mode(), err)
			}
			k, err := Open(t.Context(), ref, pass("correct horse"), Config{})
			if err != nil {
				t.Fatal(err)
			}
			if !k.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(made.Public()) {
				t.Fatal("another key came back")
			}
			if err := k.KeepAlive(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := Generate(ref, alg, pass("x")); err == nil {
				t.Fatal("an existing key was overwritten")
			}
			if _, err := Open(t.Context(), ref, pass("wrong"), Config{}); !errors.Is(err, ErrWrongPassphrase) {
				t.Fatalf("wrong passphrase: %v", err)
			}
			left, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(left) != 1 {
				t.Fatalf("temporary files stay: %v %v", left, err)
			}
			out, err := exec.Command(openssl, "pkey", "-in", path, "-passin", "pass:correct horse", "-noout", "-check").CombinedOutput()
			if err != nil {
				t.Fatalf("openssl: %v: %s", err, out)
			}
		})
	}
}

// What openssl writes by default is read.
func TestOpenSSLKeyFile(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl")
	for name, args := range map[string]string{
		"pbkdf2": "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -aes256 -pass pass:s",
		"rsa":    "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -aes-256-cbc -pass pass:s",
	} {
		path := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command(openssl, append(strings.Fields(args), "-out", path)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := Open(t.Context(), Ref("file:"+path), pass("s"), Config{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	noModule := "no PKCS#11 module is named"
	if !withPKCS11 {
		noModule = errNoPKCS11.Error()
	}
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, mode os.FileMode, text string) Ref {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return Ref("file:" + p)
	}
	good, err := Encrypt(newDevice(t).Signer, pass("s"))
	if err != nil {
		t.Fatal(err)
	}
	failing := func() ([]byte, error) { return nil, fmt.Errorf("env:CA_PASS is not set") }
	for _, c := range []struct {
		name   string
		ref    Ref
		secret Secret
		want   string
	}{
		{"missing file", Ref("file:" + dir + "/none"), pass("s"), "no such file"},
		{"folder", Ref("file:" + dir), pass("s"), "regular file"},
		{"readable by others", write("open", 0o644, string(good)), pass("s"), "chmod 600"},
		{"no PEM", write("junk", 0o600, "hello"), pass("s"), "no PEM block"},
		{"plain key", write("plain", 0o600, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), pass("s"), "not encrypted"},
		{"certificate", write("cert", 0o600, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), pass("s"), "want ENCRYPTED"},
		{"no secret", write("a", 0o600, string(good)), nil, "passphrase is needed"},
		{"empty secret", write("b", 0o600, string(good)), pass(""), "passphrase is empty"},
		{"secret not there", write("c", 0o600, string(good)), failing, "env:CA_PASS"},
		{"token", "pkcs11:token=ca;object=root", nil, noModule},
		{"bad token", "pkcs11:token=ca", nil, "want object= or id="},
		{"no scheme", "/etc/ca.key", pass("s"), "want file:PATH"},
		{"empty path", "file:", pass("s"), "want file:PATH"},
	} {
		if _, err := Open(t.Context(), c.ref, c.secret, Config{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want %q", c.name, err, c.want)
		}
	}
	if _, err := Generate("pkcs11:token=ca;object=x", "ec-p256", nil); err == nil || !strings.Contains(err.Error(), noModule) {
		t.Errorf("generate in a token: %v", err)
	}
	if _, err := Generate(Ref("file:"+dir+"/n"), "dsa", pass("s")); err == nil || !strings.Contains(err.Error(), "ec-p256") {
		t.Errorf("unknown algorithm: %v", err)
	}
	if _, err := Generate(Ref("file:"+dir+"/n"), "ec-p256", pass("")); err == nil {
		t.Error("a key was written under an empty passphrase")
	}
	if _, err := Generate(Ref("file:"+dir+"/no/such/folder"), "ec-p256", pass("s")); err == nil {
		t.Error("no error from a missing folder")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, write("d", 0o600, string(good)), pass("s"), Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
