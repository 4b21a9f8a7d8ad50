// Package hsmtest gives tests a PKCS#11 token: SoftHSM with a folder of its own,
// and a module in front of it that fails on demand. Only tests import it.
//
// SoftHSM reads its configuration from the environment of the process, so a test
// that uses this package must not run in parallel with another that does.
package hsmtest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// places are where packages put the module: Debian, Fedora, Homebrew.
var places = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/*/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// Token is a token in a temporary folder.
type Token struct {
	Module string // path of SoftHSM's library
	Label  string
	PIN    string
	Dir    string // the token directory
	Conf   string // what SOFTHSM2_CONF must name
}

// New makes a token with the label "lab". Where SoftHSM is missing the test is
// skipped, or fails with CI=true.
func New(t testing.TB) *Token {
	t.Helper()
	dir := t.TempDir()
	tok := &Token{Module: module(t), Label: "lab", PIN: "1234", Dir: filepath.Join(dir, "tokens"),
		Conf: filepath.Join(dir, "softhsm2.conf")}
	if err := os.Mkdir(tok.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := "directories.tokendir = " + tok.Dir + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	if err := os.WriteFile(tok.Conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", tok.Conf)
	tok.Add(t, tok.Label)
	return tok
}

// Add makes another token in the same folder.
func (tok *Token) Add(t testing.TB, label string) {
	t.Helper()
	run(t, "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", tok.PIN, "--so-pin", "5678")
}

// Served is a token behind a serving process: p11-kit server, which the module
// p11-kit-client.so reaches over a socket, as a network HSM is reached.
type Served struct {
	Module string // of the client
	tok    *Token
	socket string
	server *exec.Cmd
}

// Serve starts p11-kit's server for the token. Where p11-kit is missing the test
// is skipped, or fails with CI=true.
func Serve(t testing.TB, tok *Token) *Served {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/pkcs11/p11-kit-client.so")
	if _, missed := exec.LookPath("p11-kit"); missed != nil || err != nil || len(found) == 0 {
		missing(t, "p11-kit")
	}
	dir, err := os.MkdirTemp("", "p11") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Served{Module: found[0], tok: tok, socket: filepath.Join(dir, "s")}
	t.Setenv("P11_KIT_SERVER_ADDRESS", "unix:path="+s.socket)
	s.Restart(t)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// Restart starts the server, which must not run.
func (s *Served) Restart(t testing.TB) {
	t.Helper()
	s.server = exec.Command("p11-kit", "server", "--foreground", "--name", s.socket, "--provider", s.tok.Module, "pkcs11:token="+s.tok.Label) //nolint:noctx // it outlives a test's context for its cleanup
	s.server.Env = append(os.Environ(), "SOFTHSM2_CONF="+s.tok.Conf)
	s.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it forks for each connection
	if err := s.server.Start(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := os.Stat(s.socket); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("p11-kit server does not listen")
}

// Signal sends a signal to the server and the processes of its connections.
func (s *Served) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-s.server.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server and all its connections at once.
func (s *Served) Kill(t testing.TB) {
	t.Helper()
	if s.server == nil {
		return
	}
	s.Signal(t, syscall.SIGKILL)
	_ = s.server.Wait() // it was killed
	_ = os.Remove(s.socket)
	s.server = nil
}

// Ref is the reference of a key with the label, by way of the server.
func (s *Served) Ref(object string) string {
	return "pkcs11:token=" + s.tok.Label + ";object=" + object + "?module-path=" + s.Module
}

// Secret returns the PIN, as a key's secret.
func (tok *Token) Secret() ([]byte, error) { return []byte(tok.PIN), nil }

// Ref is the reference of a key with the label.
func (tok *Token) Ref(object string) string {
	return "pkcs11:token=" + tok.Label + ";object=" + object + "?module-path=" + tok.Module
}

// module finds SoftHSM's library.
func module(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("softhsm2-util"); err == nil {
		for _, p := range places {
			if found, err := filepath.Glob(p); err == nil && len(found) > 0 {
				return found[0]
			}
		}
	}
	missing(t, "SoftHSM")
	return ""
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: make setup-test says what to install", what)
	}
	t.Skipf("%s is missing: make setup-test says what to install", what)
}

//go:embed shim.c.txt
var shimSource []byte

// Shim is a module that forwards to a token's and fails as it is told.
type Shim struct {
	Module  string
	control string
}

// NewShim builds the module in front of SoftHSM.
func NewShim(t testing.TB, tok *Token) *Shim {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		missing(t, "a C compiler")
	}
	headers := strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11"))
	dir := t.TempDir()
	s := &Shim{Module: filepath.Join(dir, "shim.so"), control: filepath.Join(dir, "control")}
	source := filepath.Join(dir, "shim.c")
	if err := os.WriteFile(source, shimSource, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, cc, "-shared", "-fPIC", "-O1", "-I", headers, "-o", s.Module, source, "-ldl", "-lpthread")
	t.Setenv("SHIM_MODULE", tok.Module)
	t.Setenv("SHIM_CONTROL", s.control)
	s.Do(t)
	return s
}

// Ref is the reference of a key with the label, through the shim.
func (s *Shim) Ref(tok *Token, object string) string {
	return "pkcs11:token=" + tok.Label + ";object=" + object + "?module-path=" + s.Module
}

// Do sets the rules that every call follows from now on: "C_Sign 0x30" answers
// with the code, "C_Sign hang" waits until the rule is gone. "flags 0x20000" is
// added to what the token says of itself, "sessions 16" is how many sessions it
// has, with "silent 1" without saying so. No rules forwards.
func (s *Shim) Do(t testing.TB, rules ...string) {
	t.Helper()
	text := ""
	for _, r := range rules {
		text += r + "\n"
	}
	next := s.control + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, s.control); err != nil {
		t.Fatal(err)
	}
}

// Calls counts the calls of a function so far. The shim records C_Login,
// C_Initialize, C_SignInit and C_Sign.
func (s *Shim) Calls(t testing.TB, function string) int {
	t.Helper()
	text, err := os.ReadFile(s.control + ".log")
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), function+"\n")
}

// MostSessions is how many sessions were open at a time so far.
func (s *Shim) MostSessions(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(s.control + ".most")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w\n%s", name, err, out))
	}
	return string(out)
}
