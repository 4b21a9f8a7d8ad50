// Package lab builds and runs the program for tests and load runs that look at
// it from outside: as a process that is started, asked, stopped or killed by its
// pid. It knows nothing of testing, so that programs can use it too.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/privyseal/privyseal/test/logtest"
)

// Build builds cmd/privyseal into dir and returns the path of the binary. It
// runs from any folder inside the module.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "privyseal")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/privyseal/privyseal/cmd/privyseal")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return binary, nil
}

// Process is one running program.
type Process struct {
	cmd    *exec.Cmd
	Out    Buffer        // standard output
	Log    Buffer        // standard error
	Exited chan struct{} // closed when the program has ended
	err    error
}

// Launch starts a program in a folder.
func Launch(dir, program string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(program, args...), Exited: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = &p.Out, &p.Log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s %s: %w", program, strings.Join(args, " "), err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.Exited)
	}()
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the program to end, as an operator does, and waits for it.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already, which Exited tells
	select {
	case <-p.Exited:
		return p.err
	case <-time.After(40 * time.Second):
		p.Kill()
		return errors.New("the program did not end within 40 s of SIGTERM")
	}
}

// Kill ends the program at once, as a crash does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.Exited
}

// Run runs a program to its end and returns what it printed. It fails with the
// output in the error.
func Run(dir string, env []string, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Buffer collects output that is read while it grows.
type Buffer struct{ logtest.Buffer }

// Tail returns the last n bytes of it.
func (b *Buffer) Tail(n int) string {
	s := b.String()
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
