package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Severity says what a finding means for the ceremony.
type Severity string

// The severities, from the one that needs nothing to the one that stops.
const (
	Fine    Severity = "ok"
	Unknown Severity = "unknown" // this machine does not tell; look yourself
	Warning Severity = "warning" // the custodians decide, and the transcript holds it
	Fatal   Severity = "error"   // the ceremony does not begin
)

// Finding is what one check of the machine found.
type Finding struct {
	Check    string   `json:"check"` // network, clock, entropy, swap, folder or tool
	Severity Severity `json:"severity"`
	Found    string   `json:"found"`
	Do       string   `json:"do,omitempty"` // what to do about it
}

// Findings is the result of Preflight.
type Findings []Finding

// Moment is something that has happened, after which the clock must stand.
type Moment struct {
	What string
	At   time.Time
}

// Fitness says what Preflight compares the machine with.
type Fitness struct {
	CA       CA        // its folder; it need not be there yet
	Built    time.Time // when the program was built; zero is what is stamped into it
	Before   []Moment  // what was before this ceremony, such as the transcript's last record
	Tool     string    // path of the running program
	ToolHash string    // SHA-256 that was published for it; empty is not compared
	Root     string    // where the machine's file system begins; empty is "/", tests have their own
}

// Preflight looks whether this machine is fit for a ceremony: no live network, a
// clock that can be right, randomness, no swap, a folder that only its owner
// reads, the program that was reviewed. It opens no socket and changes nothing.
// What it cannot learn is Unknown, not Fine.
func Preflight(f Fitness) Findings {
	if f.Root == "" {
		f.Root = "/"
	}
	found := slices.Concat(f.network(), f.clock(), randomness(), f.swap(), f.folder())
	return append(found, f.tool())
}

// Worst returns the gravest severity among the findings.
func (list Findings) Worst() Severity {
	order := []Severity{Fine, Unknown, Warning, Fatal}
	worst := 0
	for _, f := range list {
		worst = max(worst, slices.Index(order, f.Severity))
	}
	return order[worst]
}

// Warnings returns one line for each finding that is not Fine, for the transcript.
func (list Findings) Warnings() []string {
	var lines []string
	for _, f := range list {
		if f.Severity != Fine {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", f.Check, f.Severity, f.Found))
		}
	}
	return lines
}

// Text returns the findings for a person to read.
func (list Findings) Text() string {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%-8s %-8s %s\n", f.Severity, f.Check, f.Found)
		if f.Do != "" {
			fmt.Fprintf(&b, "%-17s → %s\n", "", f.Do)
		}
	}
	return b.String()
}

// clock compares the clock with everything that must be in its past.
func (f Fitness) clock() Findings {
	now := f.CA.Now()
	if f.Built.IsZero() {
		f.Built = built()
	}
	past := append([]Moment{{"this program was built", f.Built}}, f.Before...)
	chain, err := f.CA.Chain()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Findings{{"clock", Unknown, err.Error(), "repair the CA's folder from its copy"}}
	}
	var ended Findings
	for _, c := range chain {
		past = append(past, Moment{"the certificate of " + c.Subject.String() + " began", c.NotBefore})
		if now.After(c.NotAfter) {
			ended = append(ended, Finding{"clock", Warning,
				fmt.Sprintf("it says %s; the certificate of %s ended %s", stamp(now), c.Subject, stamp(c.NotAfter)),
				"compare the clock with a watch; a CA whose certificate ended signs nothing that is accepted"})
		}
	}
	if last, err := f.CA.lastCRL(); err == nil && last != nil {
		past = append(past, Moment{"the last list was signed", last.ThisUpdate})
	}
	latest := slices.MaxFunc(past, func(a, b Moment) int { return a.At.Compare(b.At) })
	switch {
	case now.Before(latest.At):
		return Findings{{"clock", Fatal, fmt.Sprintf("it says %s, but %s at %s", stamp(now), latest.What,
			stamp(latest.At)), "set the clock: date -u -s …"}}
	case now.After(latest.At.AddDate(5, 0, 0)):
		return append(ended, Finding{"clock", Warning,
			fmt.Sprintf("it says %s, more than 5 years after the last thing known here (%s at %s)", stamp(now),
				latest.What, stamp(latest.At)),
			"compare the clock with a watch"})
	}
	return append(ended, Finding{"clock", Fine, fmt.Sprintf("it says %s; compare it with a watch", stamp(now)), ""})
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// built returns the time of the commit that the program was built from, which
// the go command stamps into it.
func built() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return at
			}
		}
	}
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // no program of this name is older
}

// swap reports where memory may be written to a disk.
func (f Fitness) swap() Findings {
	text, err := os.ReadFile(filepath.Join(f.Root, "proc/swaps"))
	if err != nil {
		return Findings{{"swap", Unknown, "this machine does not tell whether it swaps",
			"make sure that memory is not written to a disk"}}
	}
	var on []string
	for n, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		if fields := strings.Fields(string(line)); n > 0 && len(fields) > 0 &&
			!strings.HasPrefix(fields[0], "/dev/zram") {
			on = append(on, fields[0])
		}
	}
	if len(on) > 0 {
		return Findings{{"swap", Warning, "memory, keys with it, may be written to " + strings.Join(on, ", "),
			"swapoff -a"}}
	}
	return Findings{{"swap", Fine, "off", ""}}
}

// folder looks at the modes in the CA's folder.
func (f Fitness) folder() Findings {
	if !exists(f.CA.Dir) {
		return Findings{{"folder", Fine, f.CA.Dir + " is not there yet and will be made", ""}}
	}
	var list Findings
	err := filepath.WalkDir(f.CA.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if bad := f.mode(path, info); bad != nil {
			list = append(list, *bad)
		}
		return nil
	})
	switch {
	case err != nil:
		return append(list, Finding{"folder", Unknown, "it cannot be read: " + err.Error(),
			"run as the owner of the folder"})
	case len(list) == 0:
		return Findings{{"folder", Fine, f.CA.Dir + ": only its owner may write, private/ is closed", ""}}
	case len(list) > 5:
		list = append(list[:5], Finding{"folder", list[0].Severity, fmt.Sprintf("and %d more", len(list)-5),
			"a stick formatted as FAT has no modes: use a file system that has"})
	}
	return list
}

// mode returns what is wrong with the mode of one file, or nil.
func (f Fitness) mode(path string, info fs.FileInfo) *Finding {
	perm := info.Mode().Perm()
	rel, err := filepath.Rel(f.CA.Dir, path)
	if err != nil {
		rel = path
	}
	secret := rel == "private" || strings.HasPrefix(filepath.ToSlash(rel), "private/")
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return &Finding{"folder", Warning, rel + " is a symbolic link", "put the file itself there"}
	case secret && perm&0o077 != 0:
		want := "400"
		if info.IsDir() {
			want = "700"
		}
		return &Finding{"folder", Fatal, fmt.Sprintf("%s has mode %04o: others may reach the key", rel, perm),
			"chmod " + want + " " + path}
	case perm&0o022 != 0:
		return &Finding{"folder", Warning, fmt.Sprintf("%s has mode %04o: others may write", rel, perm),
			"chmod go-w " + path}
	}
	return nil
}

// tool reports the checksum of the running program.
func (f Fitness) tool() Finding {
	sum, err := FileHash(f.Tool)
	switch {
	case err != nil:
		return Finding{"tool", Unknown, "its checksum cannot be made: " + err.Error(),
			"compare sha256sum of the program with the published one"}
	case f.ToolHash == "":
		return Finding{"tool", Unknown, "SHA-256 " + sum,
			"compare it with the published one, or put it into the configuration"}
	case !strings.EqualFold(sum, f.ToolHash):
		return Finding{"tool", Fatal, "SHA-256 " + sum + " is not the one that was reviewed, " + f.ToolHash,
			"bring the right program; find out where this one came from"}
	}
	return Finding{"tool", Fine, "SHA-256 " + sum + ", as reviewed", ""}
}

// FileHash returns the SHA-256 of a file in lower-case hexadecimal.
func FileHash(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
