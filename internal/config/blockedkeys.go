package config

import (
	"fmt"
	"os"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// KnownKeys reads the lists of keys that strangers know (rule X13).
func (f *File) KnownKeys() (pki.KeyList, error) {
	var list pki.KeyList
	for _, b := range f.BlockedKeys {
		if err := b.read(&list); err != nil {
			return list, err
		}
	}
	return list, nil
}

func (b BlockedKeys) read(list *pki.KeyList) error {
	f, err := os.Open(b.File)
	if err != nil {
		return fmt.Errorf("blocked keys: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	if err := list.Read(f, b.Format); err != nil {
		return fmt.Errorf("blocked keys: %s: %w", b.File, err)
	}
	return nil
}

func (f *File) checkBlockedKeys(d *strictyaml.Document) {
	for i, b := range f.BlockedKeys {
		if err := b.read(&pki.KeyList{}); err != nil {
			d.Report(fmt.Sprintf("blocked_keys[%d].file", i), "%v", err)
		}
	}
}
