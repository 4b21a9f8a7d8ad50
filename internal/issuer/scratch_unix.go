//go:build unix

package issuer

import (
	"fmt"
	"syscall"
)

// whole maps the file: the octets are the page cache's, not the process's heap.
func (f scratchFile) whole(n int64) ([]byte, func(), error) {
	all, err := syscall.Mmap(int(f.Fd()), 0, int(n), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map temporary file: %w", err)
	}
	return all, func() { _ = syscall.Munmap(all) }, nil // nothing depends on it
}
