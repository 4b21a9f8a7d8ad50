package keys

import (
	"fmt"
	"syscall"
)

// NoCoreDumps keeps the memory of this process, keys and passphrases among it, out
// of files and out of reach of other processes of the same user. Both programs
// begin with it.
func NoCoreDumps() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return undumpable()
}
