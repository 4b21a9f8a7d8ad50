package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"privyseal-ceremony": main})
}

// TestScripts runs testdata/script/*.txtar with the real binary. Its command hold
// plays the people in the room.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"hold": hold, "mode": mode, "flip": flip},
	})
}

// TestG1_11_G1_52_Token runs a ceremony whose key is in a token. It is apart from the other
// scripts since SoftHSM is configured for a whole process.
func TestG1_11_G1_52_Token(t *testing.T) {
	token := hsmtest.New(t)
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/token.txtar"},
		Setup: func(e *testscript.Env) error {
			e.Setenv("SOFTHSM2_CONF", token.Conf)
			e.Setenv("KEY", token.Ref("root"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"hold": hold, "flip": flip},
	})
}

// people answers the prompts of one run.
type people struct {
	ts      *testscript.TestScript
	pending []string          // sheets of the custodians who come to open keys, in order
	say     map[string]string // answers that differ from the right ones, by their name
	kill    string            // text upon which the program is killed

	lines []string // of the share that is being typed
	seen  string   // all output so far
}

// hold runs `privyseal-ceremony run`, or, if the first argument is import,
// `import openssl-ca` of the CA with the certificate=FILE. Arguments with a hyphen are the program's,
// name=value replaces an answer (yes, fingerprint, passphrase, name) or says
// upon which text the program is killed (kill), the rest are the file and the
// sheets of those who come to open keys.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	p := &people{ts: ts, say: map[string]string{"yes": "yes", "passphrase": "correct horse battery", "pin": "1234"}}
	command := []string{"run"}
	file := false
	if args[0] == "import" {
		command, file, args = []string{"import", "openssl-ca"}, true, args[1:]
	}
	for _, a := range args {
		name, value, named := strings.Cut(a, "=")
		switch {
		case strings.HasPrefix(a, "-"):
			command = append(command, a)
		case named && name == "kill":
			p.kill = value
		case named:
			p.say[name] = value
		case !file:
			file = true
			command = append(command, a)
		default:
			found, err := filepath.Glob(ts.MkAbs(a))
			ts.Check(err)
			if len(found) != 1 {
				ts.Fatalf("%s: %d files", a, len(found))
			}
			p.pending = append(p.pending, found[0])
		}
	}
	failed := p.run(command)
	ts.Check(os.WriteFile(ts.MkAbs("said"), []byte(p.seen), 0o600))
	if failed != neg {
		ts.Fatalf("run: failed is %t\n%s", failed, p.seen)
	}
}

func (p *people) run(args []string) (failed bool) {
	program, err := exec.LookPath("privyseal-ceremony")
	p.ts.Check(err)
	cmd := exec.Command(program, args...)
	cmd.Dir = p.ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "TMPDIR="+p.ts.Getenv("WORK"), "SOFTHSM2_CONF="+p.ts.Getenv("SOFTHSM2_CONF"))
	in, err := cmd.StdinPipe()
	p.ts.Check(err)
	out, write, err := os.Pipe()
	p.ts.Check(err)
	cmd.Stdout, cmd.Stderr = write, write
	p.ts.Check(cmd.Start())
	p.ts.Check(write.Close())
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		p.seen += string(buf[:n])
		if err != nil {
			break
		}
		if p.kill != "" && strings.Contains(p.seen, p.kill) {
			p.ts.Check(cmd.Process.Kill())
			break
		}
		if strings.HasSuffix(p.seen, ": ") {
			answer, ok := p.answer()
			if !ok {
				_ = in.Close()
				continue
			}
			p.seen += "\n"
			_, _ = in.Write([]byte(answer + "\n"))
		}
	}
	return cmd.Wait() != nil
}

var (
	inputLine = regexp.MustCompile(`(?m)^The input of act \d+, [a-z-]+, is (.*):$`)
	sheetLine = regexp.MustCompile(`(?m)your sheet is (.*)\. Print it`)
	shareLine = regexp.MustCompile(`(?m)^  [1-5] \| (.*)$`)
)

func (p *people) answer() (string, bool) {
	prompt := p.seen[strings.LastIndex(p.seen, "\n")+1:]
	switch {
	case strings.Contains(prompt, "fingerprint"):
		if f, other := p.say["fingerprint"]; other {
			return f, true
		}
		if c := p.say["certificate"]; c != "" {
			return p.fingerprint(c), true
		}
		found := inputLine.FindAllStringSubmatch(p.seen, -1)
		return p.fingerprint(found[len(found)-1][1]), true
	case strings.Contains(prompt, "Type yes"):
		return p.say["yes"], true
	case strings.Contains(prompt, "line 1 of your sheet"):
		return p.share()
	case strings.Contains(prompt, "of your sheet"):
		return p.next(), true
	case strings.Contains(prompt, "name of the CA"):
		return p.say["name"], true
	case strings.Contains(prompt, "PIN of the token"):
		return p.say["pin"], true
	case strings.Contains(prompt, "assphrase"), strings.Contains(prompt, "once more"):
		return p.say["passphrase"], true
	case strings.Contains(prompt, "Enter"):
		return "", true
	}
	return "", false
}

// share takes the sheet that was just handed out, or that of the next custodian.
func (p *people) share() (string, bool) {
	text := p.seen
	handed := strings.Contains(p.seen[max(strings.LastIndex(p.seen, "taken."), 0):], "type your share from the paper")
	switch found := sheetLine.FindAllStringSubmatch(p.seen, -1); {
	case handed && len(found) > 0:
		text = p.read(found[len(found)-1][1])
	case !handed && len(p.pending) == 0:
		return "", false
	case !handed:
		text, p.pending = p.read(p.pending[0]), p.pending[1:]
	}
	p.lines = nil
	for _, l := range shareLine.FindAllStringSubmatch(text, -1) {
		p.lines = append(p.lines, l[1])
	}
	p.lines = p.lines[len(p.lines)-5:]
	return p.next(), true
}

func (p *people) next() string {
	line := p.lines[0]
	p.lines = p.lines[1:]
	return line
}

func (p *people) read(path string) string {
	text, err := os.ReadFile(p.ts.MkAbs(path))
	p.ts.Check(err)
	return string(text)
}

func (p *people) fingerprint(path string) string {
	text := []byte(p.read(path))
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
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

// flip replaces the first occurrence of a text in a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	after := bytes.Replace(text, []byte(args[1]), []byte(args[2]), 1)
	if bytes.Equal(text, after) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), after, 0o600))
}
