//go:build linux

// Package image tests the artefact that the container image consists of, in the
// surroundings that the image gives it: an empty root folder and a numeric user.
package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const user = 65532

// TestArtefactInAnEmptyRoot starts what `make release` built as the image would.
func TestArtefactInAnEmptyRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("chroot needs root")
		}
		t.Skip("chroot needs root")
	}
	dist, root := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "make", "release", "DIST="+dist, "PLATFORMS=linux/"+runtime.GOARCH)
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make release: %v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(dist, "privyseal-linux-"+runtime.GOARCH), filepath.Join(root, "privyseal")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(root, "data"), user, user); err != nil {
		t.Fatal(err)
	}
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the test's folders
			t.Fatal(err)
		}
	}
	ops := free(t)
	cmd := exec.CommandContext(t.Context(), "/privyseal", "dev", "--dir", "/data/d", "--ops-addr", ops,
		"--https-addr", free(t), "--est-addr", free(t), "--http-addr", free(t))
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user}}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	if err := ready("http://"+ops+"/readyz", exited); err != nil {
		_ = cmd.Process.Kill()
		t.Fatalf("%v\n%s", err, log.String())
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err != nil {
		t.Errorf("it ended with %v\n%s", err, log.String())
	}
}

func ready(url string, exited <-chan error) error {
	last := "no answer"
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		select {
		case err := <-exited:
			return fmt.Errorf("it ended at start: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
		res, err := http.Get(url) //nolint:noctx // bounded by the deadline
		if err != nil {
			continue
		}
		var h struct {
			Ready  bool
			Checks json.RawMessage
		}
		err = json.NewDecoder(res.Body).Decode(&h)
		_ = res.Body.Close()
		if err == nil && h.Ready {
			return nil
		}
		last = string(h.Checks)
	}
	return fmt.Errorf("not ready after 30 s: %s", last)
}

func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
