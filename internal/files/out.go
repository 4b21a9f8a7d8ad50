// Package files writes the files that people name and reads those that hold
// secrets. It knows nothing of what is in them.
//
// Write writes a file at once; Create is for what is streamed, or for a place that
// must be found good before something is done that cannot be undone. A regular
// file is replaced in one step: after a crash it is the old one or the new one,
// whole. A device or pipe stays what it is and is written to. A symbolic link
// stays, too: what it points to is written.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
)

// maxLinks is how many symbolic links are followed, as on Linux.
const maxLinks = 40

// Out is a file that is being written.
type Out struct {
	file   *os.File
	name   string // as it was given
	target string // what is replaced in the end; none for a device or pipe
	mode   fs.FileMode
	ended  bool
}

// Create begins to write a file, which has the given mode when Commit has put it
// into place. Discard must follow, whatever happens.
func Create(path string, mode fs.FileMode) (*Out, error) {
	target, stream, err := resolve(path)
	if err != nil {
		return nil, wrong(path, err)
	}
	o := &Out{name: path, mode: mode}
	if stream {
		o.file, err = os.OpenFile(target, os.O_WRONLY|os.O_APPEND, 0)
	} else {
		o.target = target
		o.file, err = os.CreateTemp(filepath.Dir(target), ".privyseal-*") // O_EXCL, mode 0600
	}
	if err != nil {
		return nil, wrong(path, err)
	}
	return o, nil
}

// Write adds to the file.
func (o *Out) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	return n, wrong(o.name, err)
}

// Commit puts the file into place. It is on disk when Commit returns.
func (o *Out) Commit() error {
	if o.target == "" {
		o.ended = true
		return wrong(o.name, o.file.Close())
	}
	if err := errors.Join(o.file.Chmod(o.mode), o.file.Sync(), o.file.Close()); err != nil {
		return wrong(o.name, err)
	}
	if info, err := os.Lstat(o.target); err == nil && !info.Mode().IsRegular() {
		return wrong(o.name, errors.New("has become something else than a regular file"))
	}
	if err := os.Rename(o.file.Name(), o.target); err != nil {
		return wrong(o.name, err)
	}
	o.ended = true
	return wrong(o.name, SyncDir(filepath.Dir(o.target)))
}

// Discard gives up what was not committed. What went to a device or pipe is gone.
func (o *Out) Discard() {
	if o.ended {
		return
	}
	_ = o.file.Close() // closed by then, if Commit failed
	if o.target != "" {
		_ = os.Remove(o.file.Name())
	}
}

// Write writes a whole file.
func Write(path string, content []byte, mode fs.FileMode) error {
	o, err := Create(path, mode)
	if err != nil {
		return err
	}
	defer o.Discard()
	if _, err := o.Write(content); err != nil {
		return err
	}
	return o.Commit()
}

// SyncDir makes a rename in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// resolve follows symbolic links to what is written, which need not exist, and
// says whether it is written to as it is.
func resolve(path string) (target string, stream bool, err error) {
	for range maxLinks {
		if descriptor(path) {
			return path, true, nil
		}
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return path, false, nil
		case err != nil:
			return "", false, err
		case info.IsDir():
			return "", false, errors.New("is a folder")
		case info.Mode().IsRegular():
			return path, false, nil
		case info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe) != 0:
			return path, true, nil
		case info.Mode()&fs.ModeSymlink == 0:
			return "", false, errors.New("is neither a file, a device nor a pipe")
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", false, err
		}
		if !filepath.IsAbs(to) { // not Join, which would take .. for the folder above a link
			to = filepath.Dir(path) + string(filepath.Separator) + to
		}
		path = to
	}
	return "", false, errors.New("too many symbolic links")
}

// descriptor reports whether a name stands for an open file of a process, such as
// what /dev/stdout points to: what is read of that link need not be a path.
func descriptor(path string) bool {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return false
	}
	return dir == "/dev/fd" || strings.HasPrefix(dir, "/proc/") && filepath.Base(dir) == "fd"
}

func wrong(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write %s: %w", path, fault.Cause(err))
}
