package ceremony

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/opensslca"
)

// Index returns the folder's entries in the order in which they were made.
func (ca CA) Index() ([]opensslca.Entry, error) {
	text, err := os.ReadFile(ca.path(indexFile))
	if errors.Is(err, fs.ErrNotExist) && !exists(ca.path(certFile)) {
		return nil, nil // a CA that is founded writes an empty one
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return opensslca.ParseIndex(text)
}

func (ca CA) writeIndex(entries []opensslca.Entry) error {
	return files.Write(ca.path(indexFile), opensslca.FormatIndex(entries), 0o644)
}

// revoked returns the index's revoked entries.
func (ca CA) revoked() ([]issuer.Revoked, error) {
	index, err := ca.Index()
	if err != nil {
		return nil, err
	}
	var list []issuer.Revoked
	for _, e := range index {
		if r := e.Revoked; r != nil {
			list = append(list, issuer.Revoked{Serial: e.Serial, At: r.At, Reason: r.Reason,
				InvalidityAt: r.InvalidityAt})
		}
	}
	return list, nil
}
