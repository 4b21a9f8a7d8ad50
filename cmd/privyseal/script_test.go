package main

import (
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"privyseal": main})
}

// TestScripts runs testdata/script/*.txtar. Each has free addresses in HTTPS,
// EST, HTTP and OPS, and the flags of dev that use them in ADDRS.
func TestScripts(t *testing.T) {
	p := params()
	p.Dir = "testdata/script"
	testscript.Run(t, p)
}

func params() testscript.Params {
	return testscript.Params{
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"HTTPS", "EST", "HTTP", "OPS"} {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				defer ln.Close()
				e.Setenv(name, ln.Addr().String())
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": ready, "sql": execSQL, "occupy": occupy, "mode": mode, "nocore": noCore,
		},
	}
}

// ready waits until the server at OPS is.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + ts.Getenv("OPS") + "/readyz")
		if err != nil {
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("the server is not ready after 30 s")
}

// execSQL runs a statement in a SQLite file.
func execSQL(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec(args[1])
	ts.Check(err)
}

// occupy listens on an address until the script ends.
func occupy(ts *testscript.TestScript, _ bool, args []string) {
	ln, err := net.Listen("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { _ = ln.Close() })
}

// noCore checks that the background process leaves no core dump: what the kernel
// allows is told on Linux only.
func noCore(ts *testscript.TestScript, _ bool, _ []string) {
	if runtime.GOOS != "linux" {
		return
	}
	for _, cmd := range ts.BackgroundCmds() {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
		ts.Check(err)
		if !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
			ts.Fatalf("core dumps are possible:\n%s", limits)
		}
	}
}

// mode checks the permissions of files.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	for _, path := range args[1:] {
		info, err := os.Stat(ts.MkAbs(path))
		ts.Check(err)
		if got := info.Mode().Perm().String(); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", path, got, args[0])
		}
	}
}

// TestOperationsPage runs the commands of docs/operations.md in their order, in
// the folder of a server that dev has made. What serves goes to the background.
func TestOperationsPage(t *testing.T) {
	var script strings.Builder
	script.WriteString("exec privyseal dev --dir d --https-addr $HTTPS --est-addr $EST --http-addr $HTTP --ops-addr $OPS &dev&\nready\nkill -INT dev\nwait dev\ncd d\n")
	lines := commandLines(t, "../../docs/operations.md")
	if len(lines) < 5 {
		t.Fatalf("the page has %d commands; has its form changed?", len(lines))
	}
	for _, line := range lines {
		script.WriteString("exec " + line)
		if strings.HasPrefix(line, "privyseal serve") {
			script.WriteString(" &serve&\nready")
		}
		script.WriteString("\n")
	}
	script.WriteString("kill -INT serve\nwait serve\n")
	run(t, "operations", script.String())
}

// TestSecretsPage runs each block of docs/secrets.md as it stands there, in the folder of
// a server that dev has made, and restarts that after each.
func TestSecretsPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/secrets.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```")
	if len(blocks) < 15 {
		t.Fatalf("the page has %d blocks; has its form changed?", len(blocks)/2)
	}
	var script, files strings.Builder
	script.WriteString("exec privyseal dev --dir d --https-addr $HTTPS --est-addr $EST --http-addr $HTTP --ops-addr $OPS &serve&\nready\ncd d\n")
	for i := 1; i < len(blocks); i += 2 {
		fmt.Fprintf(&files, "-- d/block%d --\n%s", i, strings.TrimPrefix(blocks[i], "sh\n"))
		fmt.Fprintf(&script, "exec sh -e block%d\nkill -INT serve\nwait serve\n"+
			"exec privyseal serve --config privyseal.yaml &serve&\nready\nexec sh -c 'privyseal status || test $? = 5'\n", i)
	}
	script.WriteString("exec privyseal verify --config privyseal.yaml\nkill -INT serve\nwait serve\n")
	run(t, "secrets", script.String()+files.String())
}

// TestDocumentedCommands appends --help to every command of the pages: the
// command and its flags must exist.
func TestDocumentedCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range append(pages, "../../README.md") {
		var script strings.Builder
		for _, line := range commandLines(t, page) {
			line, _, _ = strings.Cut(line, "|")
			line, _, _ = strings.Cut(line, ">")
			script.WriteString("exec " + line + " --help\n")
			seen++
		}
		run(t, filepath.Base(page), script.String())
	}
	if seen < 20 {
		t.Errorf("the pages have %d commands; has their form changed?", seen)
	}
}

// commandLines returns the lines of a page's fenced blocks that call privyseal.
func commandLines(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	fenced := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if fenced && strings.HasPrefix(line, "privyseal ") {
			found = append(found, line)
		}
	}
	return found
}

// run runs one script that was made here.
func run(t *testing.T, name, script string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), strings.TrimSuffix(name, ".md")+".txtar")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p := params()
	p.Files = []string{file}
	testscript.Run(t, p)
}
