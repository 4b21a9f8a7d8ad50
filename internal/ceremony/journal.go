package ceremony

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/pki"
)

// journalFile is there while a ceremony is under way, beside its file.
const journalFile = "unfinished.json"

// journal is how far a ceremony has come, so that it may be interrupted at any
// point and run again. It is on disk before what it announces is done.
type journal struct {
	path string

	Config  string   `json:"config_sha256"` // of the ceremony's file
	File    string   `json:"file"`          // its name
	Acts    []done   `json:"acts,omitempty"`
	Pending *pending `json:"pending,omitempty"`
}

// done is an act that was performed and is in the transcript.
type done struct {
	Act    int        `json:"act"` // from 0
	CA     string     `json:"ca"`
	Serial pki.Serial `json:"serial,omitempty"`
	SaveAs string     `json:"save_as,omitempty"`
}

// pending is the act that is under way, and the serial that its key may have
// signed.
type pending struct {
	Act    int        `json:"act"`
	Serial pki.Serial `json:"serial,omitempty"`
	Opens  string     `json:"opens,omitempty"` // what opened the key before custodians change
}

// openJournal returns the journal of the ceremony in dir whose file has the given
// hash: the one that an interruption left, or a new one, which is not on disk yet.
func openJournal(dir, file, config string) (*journal, error) {
	j := &journal{path: filepath.Join(dir, journalFile), Config: config, File: file}
	text, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var found journal
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&found); err != nil {
		return nil, fmt.Errorf("read journal %s: %w", j.path, err)
	}
	if found.Config != config {
		return nil, refuse("unfinished", "the ceremony of %s was interrupted and its file was another then, SHA-256 "+
			"%s: bring that file back and run it to its end first",
			found.File, found.Config)
	}
	found.path = j.path
	return &found, nil
}

func (j *journal) write() error {
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return files.Write(j.path, append(text, '\n'), 0o600)
}

// begun announces an act, and finished says that it is in the transcript.
func (j *journal) begun(act int) error {
	j.Pending = &pending{Act: act}
	return j.write()
}

func (j *journal) signing(s pki.Serial) error {
	j.Pending.Serial = s
	return j.write()
}

// replacing announces that something else than opens will open the key.
func (j *journal) replacing(opens string) error {
	if j.Pending.Opens != "" {
		return nil
	}
	j.Pending.Opens = opens
	return j.write()
}

func (j *journal) finished(d done) error {
	j.Acts, j.Pending = append(j.Acts, d), nil
	return j.write()
}

func (j *journal) done(act int) bool {
	for _, d := range j.Acts {
		if d.Act == act {
			return true
		}
	}
	return false
}

// resumed reports whether the ceremony was interrupted before.
func (j *journal) resumed() bool { return j.Pending != nil || len(j.Acts) > 0 }

// close removes the journal of a ceremony that is complete.
func (j *journal) close() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove journal: %w", err)
	}
	return files.SyncDir(filepath.Dir(j.path))
}
