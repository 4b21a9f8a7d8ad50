package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/test/need"
)

// build makes the program as `make build` does.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "privyseal-ceremony")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// network are what a program needs to speak HTTP or to listen. That the linker
// keeps net.Dialer, which a variable of net/http holds, is known: nothing calls
// it, which the system calls show.
var network = regexp.MustCompile(`(?m) (net/http\.\(\*Client\)\.Do|net/http\.\(\*Server\)\.Serve|` +
	`net/http\.\(\*Transport\)\.RoundTrip|net\.Listen\w*|net\.\(\*ListenConfig\)\.Listen\w*)$`)

// call is a line of strace for a call that a network needs.
var call = regexp.MustCompile(`\b(socket|connect|bind|listen|accept4?|send(to|msg)|recv(from|msg))[( ]`)

// inNetworkNamespace runs a command without any network where the machine allows.
func inNetworkNamespace(name string, args ...string) *exec.Cmd {
	if exec.Command("unshare", "-n", "true").Run() == nil {
		return exec.Command("unshare", append([]string{"-n", name}, args...)...)
	}
	return exec.Command(name, args...)
}

// G1-08: the program holds nothing to reach a network with, and a whole ceremony
// makes no system call of that kind.
func TestG1_08_NoNetwork(t *testing.T) {
	t.Parallel()
	program := build(t)
	symbols, err := exec.Command("go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(symbols), "main.main") {
		t.Fatal("the program has no symbols to look at")
	}
	if found := network.FindAllString(string(symbols), -1); found != nil {
		t.Errorf("the program holds %q", found)
	}
	need.Program(t, "strace")
	dir := t.TempDir()
	file := filepath.Join(dir, "ceremony.yaml")
	if err := os.WriteFile(file, []byte(`
name: Without a network
cas: [{name: root}, {name: policy}]
acts:
  - root: {ca: root, subject: "CN=Root"}
  - sign-ca: {ca: root, new: policy, subject: "CN=Policy", path_len: 1}
  - crl: {ca: root}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(dir, "trace")
	cmd := inNetworkNamespace("strace", "-f", "-qq", "-e", "trace=socket,connect,bind,listen,accept,accept4,sendto,sendmsg,recvfrom,recvmsg,execve",
		"-o", trace, program, "run", file)
	cmd.Stdin = strings.NewReader("yes\n" + strings.Repeat("correct horse battery\n", 4))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(calls)), "\n")
	for _, l := range lines {
		if call.MatchString(l) {
			t.Errorf("system call %s", l)
		}
	}
	if n := strings.Count(string(calls), "execve("); n != 1 {
		t.Errorf("%d programs were started, which would not be this one: %s", n, calls)
	}
}
