package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// block is a fenced block of a page: sh is run, yaml is written to the file that
// its first line names.
var block = regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```$")

// TestGuides does what docs/guides.md says, from top to bottom: the founding of a
// two-tier PKI, its next list, the compromise drill, a root out of OpenSSL
// (G1-05, G1-22 … G1-38, G2-25).
func TestGuides(t *testing.T) {
	need.Programs(t, "openssl", "curl", "sh")
	page := read(t, "../../docs/guides.md")
	blocks := block.FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 10 {
		t.Fatalf("%d blocks", len(blocks))
	}
	g := newGuide(t)
	for _, b := range blocks {
		text := g.ports.Replace(b[2])
		if b[1] == "yaml" {
			name, body, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
			g.write(name, body)
			continue
		}
		for line := range strings.Lines(text) {
			g.line(strings.TrimSpace(line))
		}
	}
}

// guide is who follows the page, in one folder.
type guide struct {
	t       *testing.T
	dir     string
	env     []string
	ports   *strings.Replacer
	holders []string // sheets of those who open the root's key from now on
}

func newGuide(t *testing.T) *guide {
	t.Helper()
	addr, err := lab.FreeAddresses()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/privyseal/privyseal/cmd/privyseal-ceremony").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.Symlink(binary, filepath.Join(bin, "privyseal")); err != nil {
		t.Fatal(err)
	}
	path := "PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH")
	return &guide{
		t: t, dir: t.TempDir(), env: append(os.Environ(), path),
		ports: strings.NewReplacer("8443", lab.Port(addr.HTTPS), "8080", lab.Port(addr.HTTP), "9090", lab.Port(addr.Ops)),
	}
}

func (g *guide) write(name, text string) {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		g.t.Fatal(err)
	}
	write(g.t, path, []byte(text))
}

// line runs one line of the page.
func (g *guide) line(line string) {
	g.t.Helper()
	switch words := strings.Fields(line); {
	case len(words) == 0:
	case words[0] == "export":
		g.env = append(g.env, words[1])
	case words[len(words)-1] == "&":
		g.serve(words[:len(words)-1])
	case words[0] == "privyseal-ceremony" && (words[1] == "run" || words[1] == "import") && !strings.Contains(line, "--dry-run"):
		g.hold(line)
	default:
		out, err := g.shell(line)
		// A reader has waited until the server is up.
		for tries := 0; err != nil && tries < 50 && (words[0] == "curl" || words[0] == "privyseal"); tries++ {
			time.Sleep(100 * time.Millisecond)
			out, err = g.shell(line)
		}
		if err != nil {
			g.t.Fatalf("%s\n%v\n%s", line, err, out)
		}
	}
}

func (g *guide) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = g.dir, g.env
	return cmd
}

func (g *guide) shell(line string) (string, error) {
	out, err := g.command("sh", "-c", "umask 077; "+line).CombinedOutput()
	return string(out), err
}

func (g *guide) serve(words []string) {
	g.t.Helper()
	p, err := lab.Launch(g.dir, binary, words[1:]...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			g.t.Errorf("the server: %v\n%s", err, p.Log.Tail(2000))
		}
	})
}

// hold holds a ceremony: it answers every prompt as the people in the room do.
func (g *guide) hold(line string) {
	g.t.Helper()
	cmd := g.command("sh", "-c", "exec "+line)
	in, err := cmd.StdinPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	people := custodians{g: g, line: line}
	for buf := make([]byte, 4096); ; {
		n, err := out.Read(buf)
		people.seen += string(buf[:n])
		if err != nil {
			break
		}
		if strings.HasSuffix(people.seen, ": ") {
			_, _ = in.Write([]byte(people.answer() + "\n"))
			people.seen += "\n"
		}
	}
	if err := cmd.Wait(); err != nil {
		g.t.Fatalf("%s\n%v\n%s", line, err, people.seen)
	}
	if dealt := handed.FindAllStringSubmatch(people.seen, -1); dealt != nil && g.holders == nil {
		for _, sheet := range dealt[len(dealt)-3:] { // three of five
			g.holders = append(g.holders, sheet[1])
		}
	}
}

// custodians are the people at one ceremony.
type custodians struct {
	g     *guide
	line  string
	seen  string
	came  int      // how many have opened the key
	share []string // lines that are still to be typed
}

var (
	requested = regexp.MustCompile(`(?m)^The input of act \d+, [a-z-]+, is (.*):$`)
	handed    = regexp.MustCompile(`(?m)your sheet is (.*)\. Print it`)
	words     = regexp.MustCompile(`(?m)^  [1-5] \| (.*)$`)
	oldFolder = regexp.MustCompile(`--dir (\S+)`)
)

func (c *custodians) answer() string {
	prompt := c.seen[strings.LastIndex(c.seen, "\n")+1:]
	switch {
	case strings.Contains(prompt, "fingerprint"):
		if old := oldFolder.FindStringSubmatch(c.line); old != nil {
			return c.fingerprint(old[1] + "/certs/root-ca.crt")
		}
		inputs := requested.FindAllStringSubmatch(c.seen, -1)
		return c.fingerprint(inputs[len(inputs)-1][1])
	case strings.Contains(prompt, "Type yes"):
		return "yes"
	case strings.Contains(prompt, "Passphrase of the key in"):
		return strings.TrimSpace(c.read("secrets/passphrase"))
	case strings.Contains(prompt, "of your sheet"):
		if strings.Contains(prompt, "line 1 ") {
			c.fetch()
		}
		line := c.share[0]
		c.share = c.share[1:]
		return line
	}
	c.g.t.Fatalf("nobody knows what to answer:\n%s", c.seen)
	return ""
}

// fetch takes the sheet that was just handed out, or that of the next who comes.
func (c *custodians) fetch() {
	sheets := handed.FindAllStringSubmatch(c.seen, -1)
	path := ""
	if len(sheets) > 0 {
		path = sheets[len(sheets)-1][1]
	} else {
		path = c.g.holders[c.came]
		c.came++
	}
	c.share = nil
	for _, l := range words.FindAllStringSubmatch(c.read(path), -1) {
		c.share = append(c.share, l[1])
	}
}

func (c *custodians) read(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.g.dir, path)
	}
	return string(read(c.g.t, path))
}

func (c *custodians) fingerprint(path string) string {
	block, _ := pem.Decode([]byte(c.read(path)))
	if block == nil {
		c.g.t.Fatalf("%s is not PEM", path)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}
