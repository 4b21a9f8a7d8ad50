package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A package of a test's own: one refusal is tested, one is never taken, and one is taken
// by a test that looks at nothing.
const (
	code = `package p

import "errors"

func f(n int) error {
	if n > 9 {
		return errors.New("too large")
	}
	switch {
	case n == 7:
		return errors.New("seven")
	case n < 0:
		return errors.New("negative")
	}
	if err := g(n); err != nil {
		return err
	}
	return nil
}

func g(int) error { return nil }
`
	tests = `package p

import "testing"

func TestF(t *testing.T) {
	if f(10) == nil || f(3) != nil {
		t.Error("wrong")
	}
	_ = f(7)
}
`
)

func TestMutants(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module p\n", "p.go": code, "p_test.go": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for passedOn, want := range map[bool]int{false: 3, true: 4} {
		o := options{state: filepath.Join(dir, "state"), passedOn: passedOn}
		if err := run(context.Background(), o, []string{dir}); err != nil {
			t.Fatal(err)
		}
		results, err := load(o.state)
		if err != nil {
			t.Fatal(err)
		}
		p, err := newSubject(t.Context(), dir, o)
		if err != nil {
			t.Fatal(err)
		}
		s := p.sum(results)
		results.close()
		p.close()
		if s.conditions != want || s.mutants != 2*want {
			t.Errorf("%+v, want %d conditions", s, want)
		}
		var left []string
		for _, v := range s.survivors {
			left = append(left, v.text+" "+v.mode+" "+v.why)
		}
		if got := strings.Join(left[:2], "; "); got != "n == 7 dropped "+unseen+"; n < 0 dropped "+never {
			t.Errorf("survivors: %s", got)
		}
	}
}
