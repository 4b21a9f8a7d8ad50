package admin

import (
	"net"
	"syscall"
)

// peerUID asks the kernel who connected (SO_PEERCRED, unix(7)).
func peerUID(c *net.UnixConn) (uid uint32, err error) {
	err = control(c, func(fd int) error {
		cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err == nil {
			uid = cred.Uid
		}
		return err
	})
	return uid, err
}
