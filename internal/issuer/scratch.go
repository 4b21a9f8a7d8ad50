package issuer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// scratch is where a list is put together.
type scratch interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// whole returns the first n octets in one piece, until free is called.
	whole(n int64) (all []byte, free func(), err error)
}

// scratchFile is a file without a name: it is gone when it is closed, however the
// process ends.
type scratchFile struct{ *os.File }

func newScratch(dir string) (scratch, error) {
	f, err := os.CreateTemp(dir, "list-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make temporary file: %w", err), f.Close())
	}
	return scratchFile{f}, nil
}

// memory is a scratch for small lists.
type memory struct{ b []byte }

// ReadAt implements io.ReaderAt.
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if missing := int(off) + len(p) - len(m.b); missing > 0 {
		m.b = slices.Grow(m.b, missing)[:len(m.b)+missing]
	}
	return copy(m.b[off:], p), nil
}

// Close implements io.Closer.
func (m *memory) Close() error { return nil }

func (m *memory) whole(n int64) ([]byte, func(), error) { return m.b[:n], func() {}, nil }
