package admin

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerUID asks the kernel who connected (LOCAL_PEERCRED, unix(4)).
func peerUID(c *net.UnixConn) (uid uint32, err error) {
	err = control(c, func(fd int) error {
		cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err == nil {
			uid = cred.Uid
		}
		return err
	})
	return uid, err
}
