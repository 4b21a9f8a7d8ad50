package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/files"
)

// manifestFile lists what the out folder holds, as sha256sum -c reads it.
const manifestFile = "SHA256SUMS"

func (r *run) out() string {
	if r.file.Out == "" {
		return r.abs("out")
	}
	return r.abs(r.file.Out)
}

// apart refuses folders by whose carrying away a key would leave the machine, or
// come together with the sheets that open it.
func (r *run) apart() error {
	for name, ca := range r.cas {
		switch {
		case within(r.out(), ca.Dir) || within(ca.path("private"), r.out()):
			return refuse("out", "the out folder %s and the folder of %s, which holds a key, are not apart: name "+
				"another folder with out", r.out(), name)
		case r.options.Sheets != "" && within(ca.Dir, r.options.Sheets):
			return refuse("sheets", "the sheets and the key that they open are not kept apart: name a folder outside "+
				"of %s", ca.Dir)
		}
	}
	if r.options.Sheets != "" && within(r.out(), r.options.Sheets) {
		return refuse("sheets", "the sheets are not kept apart from what leaves the machine: name a folder outside of "+
			"%s", r.out())
	}
	return nil
}

// within reports whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(resolved(dir), resolved(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// resolved is the path without symbolic links, as far as it is there.
func resolved(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	rest := ""
	for at := path; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if found, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(found, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
	}
}

// checkOut refuses a folder with anything in it but what this ceremony put there
// before it was interrupted.
func (r *run) checkOut() error {
	if err := r.apart(); err != nil {
		return err
	}
	found, err := os.ReadDir(r.out())
	if errors.Is(err, fs.ErrNotExist) || r.journal.resumed() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("out folder: %w", err)
	}
	if len(found) > 0 {
		return refuse("out", "%s is not empty: carry its files away first, or name another folder with out", r.out())
	}
	return nil
}

// finish fills the out folder and ends the journal.
func (r *run) finish() error {
	texts, err := r.collectOut()
	if err != nil {
		return fmt.Errorf("write out folder: %w", err)
	}
	if err := writeOut(r.out(), texts); err != nil {
		return fmt.Errorf("write out folder: %w", err)
	}
	if err := r.journal.close(); err != nil {
		return err
	}
	r.console.say("\nDone. What may leave this machine is in %s (%d files and %s). No private key is among it.",
		r.out(), len(texts), manifestFile)
	return nil
}

// collectOut returns the content of the out folder: one folder for each CA that
// has acted, with its certificate and those above it, its list, its transcript,
// and what it has signed in this ceremony.
func (r *run) collectOut() (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, d := range r.journal.Acts {
		ca := r.cas[d.CA]
		for from, to := range map[string]string{certFile: "ca.pem", crlFile: "ca.crl",
			transcriptFile: "transcript.json"} {
			text, err := os.ReadFile(ca.path(from))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			texts[d.CA+"/"+to] = text
		}
		texts[d.CA+"/transcript.md"] = []byte(r.ledgers[d.CA].Markdown())
		if d.Serial == "" || d.SaveAs == "ca" {
			continue
		}
		signed, err := os.ReadFile(ca.path(filed("newcerts", d.Serial)))
		if err != nil {
			return nil, err
		}
		name := d.CA + "/" + d.SaveAs
		texts[name+".pem"] = signed
		texts[name+"-chain.pem"] = append(bytes.Clone(signed), texts[d.CA+"/ca.pem"]...)
	}
	return texts, nil
}

// writeOut writes the files and, last, their manifest. It refuses to let a
// private key leave.
func writeOut(dir string, texts map[string][]byte) error {
	var manifest strings.Builder
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if bytes.Contains(texts[name], []byte("PRIVATE KEY")) {
			return fmt.Errorf("%s holds a private key", name)
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // it is to be read
			return err
		}
		if err := files.Write(to, texts[name], 0o644); err != nil {
			return err
		}
		sum := sha256.Sum256(texts[name])
		fmt.Fprintf(&manifest, "%s  %s\n", hex.EncodeToString(sum[:]), path.Clean(name))
	}
	return files.Write(filepath.Join(dir, manifestFile), []byte(manifest.String()), 0o644)
}

// printable keeps what others wrote from disturbing a record.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
}

// checkNames refuses acts whose files would have the same name in the out folder.
func (f *File) checkNames() error {
	seen := map[string]bool{"ca": true, "transcript": true}
	for n, act := range f.Acts {
		name := ""
		switch {
		case act.SignCA != nil && act.SignCA.CSR != "":
			name = base(act.SignCA.CSR)
		case act.SignCA != nil:
			name = act.SignCA.New
		case act.CrossSign != nil:
			name = base(act.CrossSign.Certificate) + "-cross"
		case act.ReplaceCA != nil:
			name = base(act.ReplaceCA.CSR)
		case act.Responder != nil:
			name = base(act.Responder.CSR)
		default:
			continue
		}
		_, by := act.name()
		if key := by + "/" + name; seen[name] || seen[key] || seen[key+"-chain"] ||
			seen[strings.TrimSuffix(key, "-chain")] {
			return fmt.Errorf("act %d: its certificate would be called %s.pem in the out folder, as another is: "+
				"rename the request", n+1, name)
		}
		seen[by+"/"+name] = true
	}
	return nil
}
