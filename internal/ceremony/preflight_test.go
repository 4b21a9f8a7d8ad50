package ceremony

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// machine is a root folder with the files of a kernel: text by path.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	loFiles  = "sys/class/net/lo/"
	ethFiles = "sys/class/net/eth0/"
	noSwap   = "Filename\tType\tSize\tUsed\tPriority\n"
)

// found returns the findings of one check as "severity: text" lines.
func found(list Findings, check string) string {
	var lines []string
	for _, f := range list {
		if f.Check == check {
			lines = append(lines, string(f.Severity)+": "+f.Found)
		}
	}
	return strings.Join(lines, "\n")
}

func TestG1_22_PreflightNetwork(t *testing.T) {
	t.Parallel()
	lo := map[string]string{loFiles + "type": "772\n", loFiles + "flags": "0x9\n", loFiles + "operstate": "unknown\n"}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"loopback only", nil, "ok: no interface is up"},
		{"down", map[string]string{ethFiles + "type": "1\n", ethFiles + "flags": "0x1002\n", ethFiles + "operstate": "down\n"}, "ok: no interface is up"},
		{"up", map[string]string{ethFiles + "type": "1\n", ethFiles + "flags": "0x1003\n", ethFiles + "operstate": "up\n"}, "warning: eth0 is up"},
		{"tunnel", map[string]string{ethFiles + "type": "65534\n", ethFiles + "flags": "0x10d1\n", ethFiles + "operstate": "unknown\n"}, "warning: eth0 is up"},
		{"state not told", map[string]string{ethFiles + "type": "1\n", ethFiles + "flags": "0x1002\n"}, "ok: no interface is up"},
		{"nothing told", map[string]string{ethFiles + "type": "1\n", ethFiles + "flags": "?\n"}, "warning: eth0 is up"},
		{"radio", map[string]string{ethFiles + "type": "1\n", ethFiles + "flags": "0x1002\n", ethFiles + "operstate": "down\n", ethFiles + "wireless/status": "0"}, "warning: eth0 is a radio"},
		{"not an interface", map[string]string{"sys/class/net/bonding_masters": ""}, "ok: no interface is up"},
	} {
		files := map[string]string{}
		for _, m := range []map[string]string{lo, c.files} {
			for k, v := range m {
				files[k] = v
			}
		}
		list := Preflight(Fitness{CA: newCA(t), Root: machine(t, files)})
		if got := found(list, "network"); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := found(Preflight(Fitness{CA: newCA(t), Root: t.TempDir()}), "network"); !strings.HasPrefix(got, "unknown: ") {
		t.Errorf("a machine that does not tell: %s", got)
	}
}

func TestPreflightClock(t *testing.T) {
	t.Parallel()
	root := newRoot(t, RootSpec{Years: 1})
	listed := root
	listed.Now = func() time.Time { return epoch.Add(time.Hour) }
	makeCRL(t, listed)
	later := epoch.Add(2 * time.Hour)
	for _, c := range []struct {
		name string
		now  time.Time
		f    Fitness
		want string
	}{
		{"right", later, Fitness{}, "ok: it says 2026-"},
		{"before the build", later, Fitness{Built: epoch.AddDate(0, 0, 1)}, "error: it says"},
		{"before this year", time.Unix(0, 0), Fitness{}, "error: it says 1970-01-01 00:00:00 UTC, but "},
		{"before the last record", later, Fitness{Before: []Moment{{"the transcript's last record was made", epoch.AddDate(0, 0, 1)}}}, "but the transcript's last record was made at"},
		{"before the list", epoch.Add(time.Minute), Fitness{}, "but the last list was signed at"},
		{"certificate ended", epoch.AddDate(2, 0, 0), Fitness{}, "ended"},
		{"far ahead", epoch.AddDate(6, 0, 0), Fitness{}, "more than 5 years after"},
	} {
		c.f.CA = root
		c.f.CA.Now = func() time.Time { return c.now }
		if got := found(Preflight(c.f), "clock"); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if err := os.Chmod(root.path(certFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root.path(certFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := found(Preflight(Fitness{CA: root}), "clock"); !strings.HasPrefix(got, "unknown") {
		t.Errorf("a damaged certificate: %s", got)
	}
}

func TestPreflightSwapAndEntropy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		noSwap: "ok: off",
		noSwap + "/dev/zram0 partition 1 0 100\n":                      "ok: off",
		noSwap + "/dev/sda2 partition 1 0 -2\n/swap.img file 1 0 -3\n": "warning: memory, keys with it, may be written to /dev/sda2, /swap.img",
	} {
		if got := found(Preflight(Fitness{CA: newCA(t), Root: machine(t, map[string]string{"proc/swaps": text})}), "swap"); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
	list := Preflight(Fitness{CA: newCA(t), Root: t.TempDir()})
	if got := found(list, "swap"); !strings.HasPrefix(got, "unknown") {
		t.Errorf("a machine that does not tell: %s", got)
	}
	if got := found(list, "entropy"); runtime.GOOS == "linux" && !strings.HasPrefix(got, "ok") {
		t.Errorf("entropy: %s", got)
	}
}

func TestG1_25_PreflightFolder(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	if got := found(Preflight(Fitness{CA: ca}), "folder"); !strings.HasPrefix(got, "ok: ") {
		t.Errorf("a new root: %s", got)
	}
	missing := ca
	missing.Dir = filepath.Join(t.TempDir(), "none")
	if got := found(Preflight(Fitness{CA: missing}), "folder"); !strings.Contains(got, "will be made") {
		t.Errorf("no folder yet: %s", got)
	}
	for _, c := range []struct {
		path string
		mode os.FileMode
		want string
	}{
		{"private", 0o755, "error: private has mode 0755"},
		{keyFile, 0o440, "error: private/ca.key has mode 0440"},
		{indexFile, 0o664, "warning: index.txt has mode 0664: others may write"},
	} {
		info, err := os.Stat(ca.path(c.path))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(ca.path(c.path), c.mode); err != nil {
			t.Fatal(err)
		}
		if got := found(Preflight(Fitness{CA: ca}), "folder"); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", c.path, got)
		}
		if err := os.Chmod(ca.path(c.path), info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		if err := os.Symlink("index.txt", ca.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := found(Preflight(Fitness{CA: ca}), "folder"); !strings.Contains(got, "a is a symbolic link") || !strings.HasSuffix(got, "warning: and 2 more") {
		t.Errorf("links: %s", got)
	}
}

func TestPreflightTool(t *testing.T) {
	t.Parallel()
	path := filepath.Join(machine(t, map[string]string{"tool": "program"}), "tool")
	sum, err := FileHash(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, hash, want string }{
		{path, strings.ToUpper(sum), "ok: SHA-256 " + sum + ", as reviewed"},
		{path, "", "unknown: SHA-256 " + sum},
		{path, strings.Repeat("0", 64), "error: SHA-256 " + sum + " is not the one"},
		{path + "-none", "", "unknown: its checksum cannot be made"},
		{filepath.Dir(path), "", "unknown: its checksum cannot be made"},
	} {
		list := Preflight(Fitness{CA: newCA(t), Tool: c.path, ToolHash: c.hash})
		if got := found(list, "tool"); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s", got)
		}
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	list := Findings{{"a", Fine, "x", ""}, {"b", Warning, "y", "z"}, {"c", Unknown, "w", ""}}
	if list.Worst() != Warning || Findings(nil).Worst() != Fine || append(list, Finding{Severity: Fatal}).Worst() != Fatal {
		t.Error("worst")
	}
	if got := strings.Join(list.Warnings(), "|"); got != "b: warning: y|c: unknown: w" {
		t.Error(got)
	}
	if got, want := list.Text(), "ok       a        x\nwarning  b        y\n                  → z\nunknown  c        w\n"; got != want {
		t.Errorf("%q", got)
	}
}
