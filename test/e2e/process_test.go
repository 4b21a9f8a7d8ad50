package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/test/lab"
)

// launch starts the program and ends it with the test.
func launch(t testing.TB, dir string, args ...string) *lab.Process {
	t.Helper()
	p, err := lab.Launch(dir, binary, args...)
	if err != nil {
		t.Fatal(err)
	}
	mind(t, p)
	return p
}

// mind stops a process after the test if it still runs, and shows what it said
// if the test failed.
func mind(t testing.TB, p *lab.Process) {
	t.Helper()
	t.Cleanup(func() {
		select {
		case <-p.Exited:
		default:
			stop(t, p)
		}
		if t.Failed() {
			t.Logf("output of process %d:\n%s%s", p.PID(), p.Out.Tail(4000), p.Log.Tail(12000))
		}
	})
}

func stop(t testing.TB, p *lab.Process) {
	t.Helper()
	if err := p.Stop(); err != nil {
		t.Errorf("stop the server: %v", err)
	}
}

// execute runs a program to its end and fails the test unless it succeeds.
func execute(t testing.TB, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := attempt(t, dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// attempt runs a program to its end, for at most two minutes.
func attempt(t testing.TB, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
