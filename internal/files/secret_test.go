package files_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/files"
)

func TestFS16_Secret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("secret"), 0o600), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	for mode := fs.FileMode(0o400); mode <= 0o777; mode++ {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, link} {
			text, err := files.ReadSecret(path)
			if again := files.CheckSecret(path); fmt.Sprint(again) != fmt.Sprint(err) {
				t.Errorf("%o: read says %v, check says %v", mode, err, again)
			}
			if mode&0o007 == 0 {
				if err != nil || string(text) != "secret" {
					t.Errorf("%o: %q, %v", mode, text, err)
				}
				continue
			}
			want := fmt.Sprintf("%s has mode %04o: others may reach the secret in it; chmod 600 %s", path, mode, path)
			if err == nil || err.Error() != want || text != nil {
				t.Errorf("%o: %v", mode, err)
			}
		}
	}
	if _, err := files.ReadSecret(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a folder: %v", err)
	}
	for _, err := range []error{files.CheckSecret(filepath.Join(dir, "gone")),
		func() error { _, err := files.ReadSecret(filepath.Join(dir, "gone")); return err }()} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("none: %v", err)
		}
	}
	if err := errors.Join(os.Chmod(file, 0o600), os.Truncate(file, files.MaxSecret+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := files.ReadSecret(file); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("too large: %v", err)
	}
}
