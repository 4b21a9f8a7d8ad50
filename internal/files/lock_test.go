package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/privyseal/privyseal/internal/files"
)

// A lock that was given back is free, although somebody still has the file open that
// came with it, as a child has between fork and exec.
func TestUnlockBesideACopy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := open(), open()
	copied, err := syscall.Dup(int(first.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(copied) //nolint:errcheck // nothing was written
	if err := files.Lock(first); err != nil {
		t.Fatal(err)
	}
	if err := files.Lock(second); !errors.Is(err, files.ErrLocked) {
		t.Fatalf("while another has it: %v", err)
	}
	if err := files.Unlock(first); err != nil {
		t.Fatal(err)
	}
	if err := files.Lock(second); err != nil {
		t.Errorf("given back: %v", err)
	}
	if err := files.Unlock(second); err != nil {
		t.Fatal(err)
	}
}
