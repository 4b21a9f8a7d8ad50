package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What serve refuses when it opens it, the check refuses too: others may reach
// neither a secret nor a key file. The group may.
func TestFS16_FilesThatOthersMayRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"secrets/issuer", "secrets/audit", "secrets/state", "secrets/kek", "keys/dev-a-1.key", "keys/audit.key",
	} {
		l := newLab(t)
		file := filepath.Join(l.dir, filepath.FromSlash(name))
		for mode, good := range map[os.FileMode]bool{
			0o400: true, 0o640: true, 0o644: false, 0o604: false, 0o602: false, 0o601: false,
		} {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(l.file())
			switch {
			case good && err != nil:
				t.Errorf("%s with mode %o: %v", name, mode, err)
			case good:
			case err == nil:
				t.Errorf("%s with mode %o is taken", name, mode)
			case !strings.Contains(err.Error(), fmt.Sprintf("%s has mode %04o", file, mode)) ||
				!strings.Contains(err.Error(), "chmod 600 "+file):
				t.Errorf("%s with mode %o: %v", name, mode, err)
			}
		}
	}
}
