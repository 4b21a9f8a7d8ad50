package web

import (
	"syscall"
	"testing"
)

func TestFS14_LimitIsRaised(t *testing.T) {
	n, err := OpenFiles()
	var l syscall.Rlimit
	if failed := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || failed != nil || l.Cur != l.Max ||
		uint64(n) != min(uint64(l.Max), 1<<30) {
		t.Errorf("%d, %v, %+v", n, err, l)
	}
}
