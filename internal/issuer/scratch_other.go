//go:build !unix

package issuer

// whole reads the file into memory where it cannot be mapped.
func (f scratchFile) whole(n int64) ([]byte, func(), error) {
	all := make([]byte, n)
	_, err := f.ReadAt(all, 0)
	return all, func() {}, err
}
