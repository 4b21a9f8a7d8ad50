package files

import (
	"errors"
	"os"
	"syscall"
)

// ErrLocked says that another process has a file.
var ErrLocked = errors.New("another process has it")

// Lock takes an open file or folder for this process, ErrLocked if another has it. The
// lock is gone when the process is, however it ended.
func Lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// Unlock gives a file back and closes it. Closing would not do: until a child that is
// being started has become its program, it has the file too, and the lock with it.
func Unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}
