package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/store"
)

// Folder is the part of a state folder in which a node keeps what it knows of the
// audit record, outside of the database: its newest checkpoints, over its own chain
// and those of others that it saw, what was accepted, and whether it began when the
// record was there already.
type Folder struct{ dir string }

// FolderIn returns the Folder of a state folder.
func FolderIn(state string) Folder { return Folder{filepath.Join(state, "audit")} }

// Bounds of what a Folder holds.
const (
	keptCheckpoints = 32
	maxKept         = 16 << 20 // octets of one file
)

// Names of files.
const (
	checkpointPrefix = "checkpoint-"
	acceptedPrefix   = "accepted-"
	lateFile         = "late.json" // the folder was begun beside a record that was there
	// whileFile holds the newest checkpoint while the record is contradicted: what
	// contradicts it is kept.
	whileFile = checkpointPrefix + "contradicted.json"
)

// Kept is what a Folder holds.
type Kept struct {
	Checkpoints []store.Checkpoint // oldest first, but for one that was made under a contradiction
	Accepted    []Acceptance
	Late        bool
}

// Read returns what the folder holds: nothing if there is no folder.
func (f Folder) Read() (*Kept, error) {
	k := &Kept{}
	all, err := os.ReadDir(f.dir) // by name, and so by id
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kept checkpoints: %w", err)
	}
	for _, e := range all {
		var err error
		switch name := e.Name(); {
		case strings.HasPrefix(name, checkpointPrefix):
			err = readInto(f, name, &k.Checkpoints)
		case strings.HasPrefix(name, acceptedPrefix):
			err = readInto(f, name, &k.Accepted)
		case name == lateFile:
			k.Late = true
		}
		if err != nil {
			return nil, fmt.Errorf("read kept checkpoints: %w", err)
		}
	}
	return k, nil
}

func readInto[T any](f Folder, name string, all *[]T) error {
	path := filepath.Join(f.dir, name)
	if info, err := os.Stat(path); err != nil || info.Size() > maxKept {
		return errors.Join(err, fmt.Errorf("%s is longer than %d octets", path, maxKept))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var one T
	if err := json.Unmarshal(text, &one); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	*all = append(*all, one)
	return nil
}

func (f Folder) write(name string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(f.dir, 0o700)
	}
	if err == nil {
		err = files.Write(filepath.Join(f.dir, name), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	return nil
}

// put keeps a checkpoint, and drops the oldest of too many, unless the record is
// contradicted by one of them.
func (f Folder) put(c store.Checkpoint, contradicted bool) error {
	if contradicted {
		return f.write(whileFile, c)
	}
	if err := f.write(checkpointPrefix+c.ID+".json", c); err != nil {
		return err
	}
	all, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	all = slices.DeleteFunc(all, func(e os.DirEntry) bool {
		return !strings.HasPrefix(e.Name(), checkpointPrefix) || e.Name() == whileFile
	})
	for _, e := range all[:max(len(all)-keptCheckpoints, 0)] {
		err = errors.Join(err, os.Remove(filepath.Join(f.dir, e.Name())))
	}
	return err
}

// accept keeps what was accepted.
func (f Folder) accept(a Acceptance) error { return f.write(acceptedPrefix+a.ID+".json", a) }

// inTime takes back that the folder was begun late.
func (f Folder) inTime() error {
	err := os.Remove(filepath.Join(f.dir, lateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
