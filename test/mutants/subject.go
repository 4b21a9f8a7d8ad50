package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// subject is a package that was compiled with its conditions asked.
type subject struct {
	options
	dir, temp, hash string
	conditions      []condition
	tests           []string // folder and name, a blank between them
	took            map[string]time.Duration
	asked           map[int][]string // tests that come by a condition
	taken           map[int]bool     // conditions that were true in a test
}

// folders are those whose tests count, the subject's own first.
func (p *subject) folders() []string { return append([]string{p.dir}, p.with...) }

// binary is the file of a folder's tests.
func (p *subject) binary(dir string) string {
	return filepath.Join(p.temp, fmt.Sprint("tests-", slices.Index(p.folders(), dir)))
}

func newSubject(ctx context.Context, dir string, o options) (*subject, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	all, texts, pkg, err := find(dir, abs, o.passedOn)
	if err != nil {
		return nil, err
	}
	p := &subject{options: o, dir: dir, took: map[string]time.Duration{}, asked: map[int][]string{},
		taken: map[int]bool{}}
	if p.temp, err = os.MkdirTemp("", "mutants-"); err != nil {
		return nil, err
	}
	for _, c := range all {
		if strings.Contains(filepath.Base(c.file), o.only) {
			p.conditions = append(p.conditions, c)
		}
	}
	texts[filepath.Join(abs, "privyseal_mutant.go")] = harness(pkg, len(all))
	if p.hash, err = hashOf(p.folders()); err != nil {
		return p, err
	}
	overlay, err := p.overlay(texts)
	for _, folder := range p.folders() {
		if err == nil {
			err = p.compile(ctx, overlay, folder)
		}
	}
	return p, err
}

func (p *subject) close() { _ = os.RemoveAll(p.temp) }

// hashOf stands for the Go files of folders, tests included.
func hashOf(dirs []string) (string, error) {
	sum := sha256.New()
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return "", err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(name), len(text), text)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// overlay writes the changed texts, and the file that says to the go command what they
// stand for.
func (p *subject) overlay(texts map[string][]byte) (string, error) {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, name := range sortedKeys(texts) {
		copied := filepath.Join(p.temp, fmt.Sprint(i, ".go"))
		if err := os.WriteFile(copied, texts[name], 0o600); err != nil {
			return "", err
		}
		overlay.Replace[name] = copied
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file := filepath.Join(p.temp, "overlay.json")
	return file, os.WriteFile(file, text, 0o600)
}

// compile compiles a folder's tests and lists them.
func (p *subject) compile(ctx context.Context, overlay, dir string) error {
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", p.binary(dir), ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("compile: %w\n%s", err, out)
	}
	list := exec.CommandContext(ctx, p.binary(dir), "-test.list", "^(Test|Fuzz|Example)")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("list tests: %w", err)
	}
	for _, name := range strings.Fields(string(out)) {
		p.tests = append(p.tests, dir+" "+name)
	}
	return nil
}

// test runs tests; failed says that one of them failed, err that none could be run.
func (p *subject) test(
	ctx context.Context, within time.Duration, env string, tests ...string,
) (failed bool, text []byte, err error) {
	for _, dir := range p.folders() {
		var names []string
		for _, t := range tests {
			if name, ok := strings.CutPrefix(t, dir+" "); ok {
				names = append(names, regexp.QuoteMeta(name))
			}
		}
		if len(names) > 0 && !failed && err == nil {
			failed, text, err = p.testIn(ctx, dir, within, env, names)
		}
	}
	return failed, text, err
}

func (p *subject) testIn(
	ctx context.Context, dir string, within time.Duration, env string, quoted []string,
) (failed bool, text []byte, err error) {
	ctx, stop := context.WithTimeout(ctx, within+10*time.Second)
	defer stop()
	args := []string{"-test.run", "^(" + strings.Join(quoted, "|") + ")$", "-test.failfast", "-test.timeout",
		within.String()}
	if p.short {
		args = append(args, "-test.short")
	}
	cmd := exec.CommandContext(ctx, p.binary(dir), args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env)
	text, err = cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return true, text, nil
	}
	return false, text, err
}

// trace runs each test alone and notes which conditions it comes by.
func (p *subject) trace(ctx context.Context) error {
	for i, name := range p.tests {
		file := filepath.Join(p.temp, fmt.Sprint("trace-", i))
		began := time.Now() //nolint:forbidigo // it is measured
		failed, text, err := p.test(ctx, patience, "PRIVYSEAL_MUTANT_TRACE="+file, name)
		if err == nil && failed {
			err = fmt.Errorf("it fails without a mutant:\n%s", text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, errors.Join(err, ctx.Err()))
		}
		p.took[name] = time.Since(began)
		lines, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for line := range bytes.Lines(lines) {
			var id, value int
			if _, err := fmt.Sscan(string(line), &id, &value); err != nil {
				return err
			}
			if !slices.Contains(p.asked[id], name) {
				p.asked[id] = append(p.asked[id], name)
			}
			p.taken[id] = p.taken[id] || value == 1
		}
		fmt.Fprintf(os.Stderr, "\r%s: %d of %d tests traced ", p.dir, i+1, len(p.tests))
	}
	fmt.Fprintln(os.Stderr)
	return nil
}

func (p *subject) key(c condition, mode string) string {
	return fmt.Sprintf("%s %s %v %d %s", p.dir, p.hash, p.passedOn, c.id, mode)
}

// hunt runs every mutant that has no result yet.
func (p *subject) hunt(ctx context.Context, results *store) error {
	left := slices.DeleteFunc(slices.Clone(p.conditions), func(c condition) bool {
		return results.of[p.key(c, dropped)] != "" && results.of[p.key(c, negated)] != ""
	})
	if len(left) == 0 {
		return nil
	}
	if err := p.trace(ctx); err != nil {
		return err
	}
	for i, c := range left {
		for _, mode := range []string{dropped, negated} {
			fate, err := p.fate(ctx, c, mode)
			if err != nil {
				return err
			}
			if err := results.put(p.key(c, mode), fate); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "\r%s: %d of %d conditions ", p.dir, i+1, len(left))
	}
	fmt.Fprintln(os.Stderr)
	return nil
}

// fate tells what becomes of one mutant.
func (p *subject) fate(ctx context.Context, c condition, mode string) (string, error) {
	tests := byTime(p.took, p.asked[c.id])
	switch {
	case len(tests) == 0:
		return unasked, nil
	case mode == dropped && !p.taken[c.id]:
		return never, nil
	}
	for len(tests) > 0 {
		group := tests[:min(len(tests), 4)] // the fastest by themselves, then all others
		if len(group) < 4 || p.took[group[3]] > 5*time.Second {
			group = tests[:1]
		}
		if len(tests) < len(p.asked[c.id]) {
			group = tests
		}
		tests = tests[len(group):]
		within := 20 * time.Second
		for _, name := range group {
			within += 5 * p.took[name]
		}
		failed, _, err := p.test(ctx, min(within, patience), fmt.Sprintf("PRIVYSEAL_MUTANT=%d %s", c.id, mode),
			group...)
		if err != nil || ctx.Err() != nil {
			return "", errors.Join(err, ctx.Err())
		}
		if failed {
			return killed, nil
		}
	}
	return unseen, nil
}

// store keeps results in a file, a line each.
type store struct {
	of   map[string]string
	file *os.File
}

func load(name string) (*store, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s := &store{of: map[string]string{}, file: f}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line [2]string
		if json.Unmarshal(lines.Bytes(), &line) == nil { // the last one may be half a line
			s.of[line[0]] = line[1]
		}
	}
	return s, lines.Err()
}

func (s *store) put(key, fate string) error {
	s.of[key] = fate
	line, err := json.Marshal([2]string{key, fate})
	if err != nil {
		return err
	}
	_, err = s.file.Write(append(line, '\n'))
	return err
}

func (s *store) close() { _ = s.file.Close() }
