package operator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/operator"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/verify"
)

// command runs the operator's command line in this process.
func command(ctx context.Context, socket, in string, args ...string) (out, errs string, err error) {
	cmd := root()
	var o, e bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	cmd.SetIn(strings.NewReader(in))
	cmd.SetArgs(append(args, "--socket", socket))
	err = cmd.ExecuteContext(ctx)
	return o.String(), e.String(), err
}

// pems returns the certificates of a folder by name.
func pems(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := pki.ParseChain(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		found[strings.TrimSuffix(filepath.Base(file), ".pem")] = fmt.Sprintf("%x", chain[0].SerialNumber)
	}
	return found
}

func issuedRows(t *testing.T, st *store.Store) int {
	t.Helper()
	n := 0
	for after := ""; ; {
		rows, next, err := st.SearchCertificates(t.Context(), store.Search{Status: "issued", After: after, Limit: 500})
		if err != nil {
			t.Fatal(err)
		}
		if n += len(rows); next == "" {
			return n
		}
		after = next
	}
}

// A batch is broken off twice, and some of its answers are lost: none
// is missing in the end, and none was issued twice.
func TestBatchIsResumed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		s := admintest.Start(t, st, "web-a-1")
		total := 1000
		if testing.Short() {
			total = 300
		}
		dir := filepath.Join(t.TempDir(), "line 3")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range total {
			name := fmt.Sprintf("d%06d", i)
			if err := os.WriteFile(filepath.Join(dir, name+".csr"), []byte(admintest.CSR(t, name+".test")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run := func(stopAt int) (string, error) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for stopAt > 0 && ctx.Err() == nil {
					if files, _ := filepath.Glob(filepath.Join(dir, "*.pem")); len(files) >= stopAt {
						cancel()
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
			_, errs, err := command(ctx, s.Socket, "", "cert", "issue", "--batch", dir, "--profile", "tls-server")
			return errs, err
		}
		lost := map[string]string{}
		for _, stopAt := range []int{total / 4, total / 2} {
			if _, err := run(stopAt); err == nil || !strings.Contains(err.Error(), "run the same command again") {
				t.Fatalf("stopped at %d: %v", stopAt, err)
			}
			for name, serial := range pems(t, dir) {
				if strings.HasSuffix(name, "7") {
					lost[name] = serial
					if err := os.Remove(filepath.Join(dir, name+".pem")); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		errs, err := run(0)
		if err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
		lines := strings.Split(strings.TrimSpace(errs), "\n")
		t.Log(lines[len(lines)-1])
		have := pems(t, dir)
		for name, serial := range lost {
			if have[name] != serial {
				t.Errorf("%s was %s and is %s", name, serial, have[name])
			}
		}
		if n := issuedRows(t, st); len(have) != total || n != total || len(lost) == 0 {
			t.Errorf("%d files and %d certificates for %d requests; %d answers were lost", len(have), n, total, len(lost))
		}
		report, err := verify.CheckCA(t.Context(), st, verify.Config{Now: time.Now()})
		if err != nil || len(report.Findings) != 0 {
			t.Errorf("%v, %v", report.Findings, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".privyseal-*")); len(left) != 0 {
			t.Errorf("temporary files are left: %v", left)
		}
	})
}

func TestBatchFromStandardInput(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	var lines, blocks strings.Builder
	for i := range 3 {
		csr := admintest.CSR(t, fmt.Sprintf("h%d.test", i))
		blocks.WriteString(csr)
		line, err := json.Marshal(map[string]string{"name": fmt.Sprintf("item-%d", i), "csr": csr})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	args := []string{"cert", "issue", "--batch", "-", "--batch-name", "monday", "--profile", "tls-server"}
	serials := func(in string) map[string]string {
		out, errs, err := command(t.Context(), s.Socket, in, append(args, "--json")...)
		if err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
		got := map[string]string{}
		for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
			var r api.BatchResult
			if err := d.Decode(&r); err != nil {
				t.Fatal(err)
			}
			got[r.Name] = r.Certificate.Serial
		}
		return got
	}
	first, again := serials(lines.String()), serials(blocks.String())
	for i := range 3 {
		if a, b := first[fmt.Sprintf("item-%d", i)], again[fmt.Sprint(i+1)]; a == "" || a != b {
			t.Errorf("request %d got %q, then %q", i, a, b)
		}
	}
	out, _, err := command(t.Context(), s.Socket, blocks.String(), args...)
	if chain, parseErr := pki.ParseChain([]byte(out)); err != nil || parseErr != nil || len(chain) != 6 {
		t.Errorf("%d certificates, %v, %v", len(chain), err, parseErr)
	}
	other, _, err := command(t.Context(), s.Socket, blocks.String(), "cert", "issue", "--batch", "-", "--batch-name", "tuesday", "--profile", "tls-server")
	if err != nil || other == out {
		t.Errorf("a batch of another name got the same certificates, or %v", err)
	}
}

func TestBatchSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	good := admintest.CSR(t, "a.test")
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("good.csr", good)
	write("empty.csr", "")
	write("nameless.csr", admintest.CSR(t))
	for name, tt := range map[string]struct {
		in, says string
		code     int
		args     []string
	}{
		"two refused":       {"", "2 of the requests were refused", 1, []string{"--batch", dir, "--profile", "tls-server"}},
		"no folder":         {"", "is no folder", 2, []string{"--batch", filepath.Join(dir, "x"), "--profile", "tls-server"}},
		"no profile":        {"", "needs --profile", 2, []string{"--batch", dir}},
		"no such profile":   {good, `there is no profile "x"`, 1, []string{"--batch", dir, "--batch-name", "again", "--profile", "x"}},
		"with --csr":        {"", "--batch needs", 2, []string{"--batch", dir, "--profile", "tls-server", "--csr", "x"}},
		"no name":           {good, "needs --batch-name", 2, []string{"--batch", "-", "--profile", "tls-server"}},
		"bad name":          {good, "batch_name", 1, []string{"--batch", "-", "--batch-name", "a b", "--profile", "tls-server"}},
		"cut PEM":           {good[:100], "has no end", 1, []string{"--batch", "-", "--batch-name", "n", "--profile", "tls-server"}},
		"bad JSON":          {`{"name":`, "line of JSON 1", 1, []string{"--batch", "-", "--batch-name", "n", "--profile", "tls-server"}},
		"wants a person":    {admintest.CSR(t, "b.test"), "wait for a person", 4, []string{"--batch", "-", "--batch-name", "n", "--profile", "asked"}},
		"nothing to be had": {"", "", 0, []string{"--batch", "-", "--batch-name", "n", "--profile", "tls-server"}},
	} {
		_, errs, err := command(t.Context(), s.Socket, tt.in, append([]string{"cert", "issue"}, tt.args...)...)
		if operator.ExitCode(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: exit %d, %v\n%s", name, operator.ExitCode(err), err, errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "good.pem")); err != nil {
		t.Error(err)
	}
}

// While the key is away a batch tries again; it does not take that for refusals.
func TestBatchOutlivesAKeyThatIsAway(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	s.KeyFails.Store(true)
	back := time.AfterFunc(300*time.Millisecond, func() { s.KeyFails.Store(false) })
	defer back.Stop()
	out, errs, err := command(t.Context(), s.Socket, admintest.CSR(t, "a.test"), "cert", "issue", "--batch", "-", "--batch-name", "n", "--profile", "tls-server")
	if err != nil || !strings.Contains(out, "BEGIN CERTIFICATE") {
		t.Errorf("%v\n%s", err, errs)
	}
}
