// Package statedir is the folder in which a process keeps what is its own: it
// belongs to one process at a time, names it, and is written file by file, whole.
package statedir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/store"
)

// Node is who this process is. The name stays over restarts, so that what a
// former process left unfinished is ours to settle; the chain is new with each
// process, because an audit chain has one writer.
type Node struct {
	Name   string `json:"node"`
	Chain  string `json:"chain"`
	Former string `json:"-"` // the chain of the process before
	lock   *os.File
}

// Claim takes the state folder for this process and names it. The lock is
// the system's: it is gone when the process is, however it ended. Its error says so
// when another process has the folder.
func Claim(dir string) (*Node, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("claim state folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim state folder: %w", err)
	}
	if err := files.Lock(lock); err != nil {
		_ = lock.Close()
		if errors.Is(err, files.ErrLocked) {
			return nil, fmt.Errorf("claim state folder: another privyseal runs on %s", dir)
		}
		return nil, fmt.Errorf("claim state folder: %w", err)
	}
	n := &Node{lock: lock}
	if err := n.name(filepath.Join(dir, "node.json")); err != nil {
		return nil, errors.Join(err, files.Unlock(lock))
	}
	return n, nil
}

func (n *Node) name(file string) error {
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		n.Name = store.NewID()
	case err != nil:
		return fmt.Errorf("read node name: %w", err)
	default:
		if err := json.Unmarshal(text, n); err != nil || n.Name == "" {
			return fmt.Errorf("read node name: %s is damaged; remove it to start as a new node", file)
		}
	}
	n.Former, n.Chain = n.Chain, store.NewID()
	text, err = json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write node name: %w", err)
	}
	return files.Write(file, append(text, '\n'), 0o600)
}

// Release gives the state folder up.
func (n *Node) Release() error { return files.Unlock(n.lock) }
