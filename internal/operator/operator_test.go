package operator

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
)

// place makes a short temporary folder: a socket's path is limited.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "psop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestSocketIsFound(t *testing.T) { // not parallel: it changes the working directory
	dir, far := place(t), place(t)
	t.Chdir(dir)
	c := New(time.Now, func(string) string { return "" })
	found := func(flag string) bool {
		client, err := c.dial(t.Context(), flag)
		if err == nil {
			client.Close()
		}
		return err == nil
	}
	if found("") {
		t.Skip("a server runs at /run/privyseal on this machine")
	}

	if err := os.Mkdir("privyseal-dev", 0o700); err != nil {
		t.Fatal(err)
	}
	// The server wrote where its socket really is, because the path was too long.
	listen(t, filepath.Join(far, "s"))
	note := filepath.Join("privyseal-dev", "socket")
	if err := os.WriteFile(note, []byte(filepath.Join(far, "s")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"", "privyseal-dev", "privyseal-dev/privyseal.sock", dir + "/privyseal-dev", far + "/s"} {
		if !found(flag) {
			t.Errorf("--socket %q: not found by way of the note", flag)
		}
	}
	for _, text := range []string{"relative/s", far + "/s\n" + far + "/s", ""} {
		if err := os.WriteFile(note, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if found("") {
			t.Errorf("a note that says %q was followed", text)
		}
	}
	l := listen(t, "privyseal.sock")
	if !found("") || !found(".") {
		t.Error("./privyseal.sock is not found")
	}

	// A file that a dead server left behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := c.dial(t.Context(), "privyseal.sock")
	if !errors.Is(err, api.ErrUnreachable) || !strings.Contains(err.Error(), "nobody listens") {
		t.Errorf("a dead socket: %v", err)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{&api.Problem{Status: 403}, 1},
		{fmt.Errorf("flags: %w", usagef("x")), 2},
		{errors.New(`unknown command "cret" for "privyseal"`), 2},
		{errors.New("unknown flag: --x"), 2},
		{fmt.Errorf("call: %w", api.ErrUnreachable), 3},
		{errWarning, 5},
		{errFailed, 1},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("ExitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "2027-01-31": time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), "2027-01-31T10:00:00+02:00": time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC),
		"36h": now.Add(36 * time.Hour), "30d": now.AddDate(0, 0, 30), "-1d": now.AddDate(0, 0, -1), "0h": now,
	} {
		if got, err := parseTime("x", text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseTime(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"soon", "30", "1.5d", "2027-13-01", "d"} {
		if got, err := parseTime("x", text, now); !errors.Is(err, errUsage) {
			t.Errorf("parseTime(%q) = %v, %v; want a usage error", text, got, err)
		}
	}
}

func TestParseName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]api.Identifier{
		"a.test": {Type: "dns", Value: "a.test"}, "192.0.2.7": {Type: "ip", Value: "192.0.2.7"}, "2001:db8::1": {Type: "ip", Value: "2001:db8::1"},
		"email:a@b.test": {Type: "email", Value: "a@b.test"}, "uri:spiffe://a.test/b": {Type: "uri", Value: "spiffe://a.test/b"},
	} {
		if got := parseName(text); got != want {
			t.Errorf("parseName(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestProgressCountsMarksThatAreCut(t *testing.T) {
	t.Parallel()
	clock := time.Unix(0, 0)
	var reports []int
	c := &counter{mark: []byte("-----END"), now: func() time.Time { return clock }, last: clock, report: func(n int) { reports = append(reports, n) }}
	text := []byte(strings.Repeat("x-----END CERTIFICATE-----\n", 50))
	for i := 0; i < len(text); i += 7 {
		_, _ = c.Write(text[i:min(i+7, len(text))])
	}
	clock = clock.Add(progressEvery)
	_, _ = c.Write(nil)
	if c.n != 50 || len(reports) != 1 || reports[0] != 50 {
		t.Errorf("counted %d, reported %v; want 50, once", c.n, reports)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("cut") }

func TestBrokenExportLeavesNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := New(time.Now, os.Getenv)
	cmd := c.certExport()
	var errs bytes.Buffer
	cmd.SetErr(&errs)
	err := c.save(cmd, brokenReader{}, api.FormatCSV, filepath.Join(dir, "x.csv"))
	left, readErr := os.ReadDir(dir)
	if err == nil || !strings.Contains(err.Error(), "broke off") || readErr != nil || len(left) != 0 {
		t.Errorf("%v, left %v (%v)", err, left, readErr)
	}
}

func TestCleanKeepsTheTerminalSafe(t *testing.T) {
	t.Parallel()
	if got := clean("a\x1b[2Jb\u202ec\tÜ"); got != "a?[2Jb?c?Ü" {
		t.Errorf("clean: %q", got)
	}
}
