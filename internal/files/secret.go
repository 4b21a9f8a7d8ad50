package files

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/privyseal/privyseal/internal/fault"
)

// MaxSecret is the most octets that a file with a secret has.
const MaxSecret = 64 << 10

// ReadSecret reads a file that holds a secret: a key, a passphrase, a PIN. Only its
// owner and its group may have rights to it.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err == nil {
		err = kept(path, info.Mode())
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSecret+1))
	if len(text) > MaxSecret {
		clear(text)
		return nil, fmt.Errorf("%s is larger than %d octets", path, MaxSecret)
	}
	return text, err
}

// CheckSecret tells what ReadSecret would refuse, without opening the file.
func CheckSecret(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, fault.Cause(err))
	}
	return kept(path, info.Mode())
}

// kept is the rule of all files that hold secrets. A pipe is one that a shell or a
// supervisor hands over.
func kept(path string, mode fs.FileMode) error {
	switch {
	case !mode.IsRegular() && mode.Type() != fs.ModeNamedPipe:
		return fmt.Errorf("%s is not a regular file", path)
	case mode.Perm()&0o007 != 0:
		return fmt.Errorf("%s has mode %04o: others may reach the secret in it; chmod 600 %s", path, mode.Perm(), path)
	}
	return nil
}
