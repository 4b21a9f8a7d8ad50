package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// KnownKeys are the keys that strangers know (rule X13), of the lists as they were
// when the configuration was read.
func (f *File) KnownKeys() pki.KeyList { return f.known }

// readBlockedKeys takes in a list, which may be long, and what identifies it.
func (f *File) readBlockedKeys(b BlockedKeys) error {
	file, err := os.Open(b.File)
	if err != nil {
		return fmt.Errorf("blocked keys: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	sum := sha256.New()
	if err := f.known.Read(io.TeeReader(file, sum), b.Format); err != nil {
		return fmt.Errorf("blocked keys: %s: %w", b.File, err)
	}
	f.knownFrom = append(f.knownFrom, hex.EncodeToString(sum.Sum(nil)))
	return nil
}

func (f *File) checkBlockedKeys(d *strictyaml.Document) {
	for i, b := range f.BlockedKeys {
		if err := f.readBlockedKeys(b); err != nil {
			d.Report(fmt.Sprintf("blocked_keys[%d].file", i), "%v", err)
		}
	}
}
