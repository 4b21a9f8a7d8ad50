package server

import (
	"fmt"
	"os"

	"github.com/privyseal/privyseal/internal/pki"
)

// knownKeys reads the lists of keys that strangers know (rule X13).
func (l *loaded) knownKeys() (pki.KeyList, error) {
	var list pki.KeyList
	for _, b := range l.BlockedKeys {
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

func (l *loaded) checkBlockedKeys(d *document) {
	for i, b := range l.BlockedKeys {
		if err := b.read(&pki.KeyList{}); err != nil {
			d.say(fmt.Sprintf("blocked_keys[%d].file", i), "%v", err)
		}
	}
}
