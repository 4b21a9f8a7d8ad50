package files_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/privyseal/privyseal/internal/files"
)

func TestFS20_Links(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sub", "file")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"direct": "sub/file", "twice": "direct", "new": "sub/new", "absolute": file,
		"null": os.DevNull, "loop": "loop", "folder": "sub"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for link, want := range map[string]string{"direct": "sub/file", "twice": "sub/file", "new": "sub/new",
		"absolute": "sub/file", "null": ""} {
		link := filepath.Join(dir, link)
		if err := files.Write(link, []byte(link), 0o644); err != nil {
			t.Errorf("%s: %v", link, err)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s is no link any more: %v", link, err)
		}
		if want == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, want))
		if info, _ := os.Lstat(filepath.Join(dir, want)); err != nil || string(text) != link || info.Mode() != 0o644 {
			t.Errorf("%s: %q, %v, %v", link, text, info.Mode(), err)
		}
	}
	for _, name := range []string{"loop", "folder", "sub", "missing/file"} {
		path := filepath.Join(dir, name)
		if err := files.Write(path, nil, 0o644); err == nil || !strings.HasPrefix(err.Error(), "write "+path+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	left(t, dir, "absolute", "direct", "folder", "loop", "new", "null", "sub", "twice")
	left(t, filepath.Join(dir, "sub"), "file", "new")
}

func TestFS20_Pipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		f, err := os.Open(pipe)
		if err != nil {
			read <- err.Error()
			return
		}
		defer f.Close() //nolint:errcheck // read only
		text, _ := io.ReadAll(f)
		read <- string(text)
	}()
	if err := files.Write(pipe, []byte("through"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "through" {
		t.Errorf("read %q", got)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A name for an open file of the process is that file, whatever it is.
func TestFS20_Descriptor(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // read only
	if err := files.Write("/dev/fd/"+fd(w), []byte("through"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "through" {
		t.Errorf("%q, %v", text, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // for its number
	before, _ := os.Lstat(file)
	if err := files.Write("/dev/fd/"+fd(f), []byte("through"), 0o644); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Lstat(file)
	if text, err := os.ReadFile(file); err != nil || string(text) != "through" || !os.SameFile(before, after) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := files.Create(file, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	o.Discard()
	left(t, dir, "file")
	o, err = files.Create(file, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, file); err != nil { // meanwhile
		t.Fatal(err)
	}
	if err := o.Commit(); err == nil {
		t.Error("a link that came meanwhile was replaced")
	}
	o.Discard()
	left(t, dir, "file")
}

func fd(f *os.File) string { return strconv.Itoa(int(f.Fd())) }

func left(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %v, want %v", dir, names, want)
	}
}
