package web

import (
	"fmt"
	"syscall"
)

// Open files that listeners leave to the database, lists, keys and the connections
// that the server makes itself: 64 validations at a time, 16 to PostgreSQL.
const reservedFiles = 512

// leastConnections are left to every listener, and to every address, however few files
// there are: a listener that takes nobody cannot be asked why.
const leastConnections = 4

// OpenFiles raises the limit of open files of this process as far as it may, and
// returns it, at most 2^30. The number is good beside an error, too.
func OpenFiles() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	if l.Cur < l.Max {
		raised := syscall.Rlimit{Cur: l.Max, Max: l.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
			return int(min(l.Cur, 1<<30)), fmt.Errorf("raise the limit of open files from %d: %w", l.Cur, err)
		}
		l = raised
	}
	return int(min(l.Cur, 1<<30)), nil
}

// Share returns how many connections each listener may have, by its name, of those that
// it wants: all together leave files for what the server does besides. Where PerSource
// is 0, an address may have a quarter of a listener.
func Share(files int, wanted map[string]Bounds) map[string]Bounds {
	sum := 0
	for _, b := range wanted {
		sum += b.Total
	}
	budget := files - min(files/2, reservedFiles)
	all := make(map[string]Bounds, len(wanted))
	for name, b := range wanted {
		total := b.Total
		if sum > budget {
			total = max(min(leastConnections, b.Total), int(int64(b.Total)*int64(budget)/int64(sum)))
		}
		each := b.PerSource
		if each == 0 {
			each = max(total/4, leastConnections)
		}
		all[name] = Bounds{Total: total, PerSource: min(each, total)}
	}
	return all
}
