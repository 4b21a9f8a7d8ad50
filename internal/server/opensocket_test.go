package server

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/privyseal/privyseal/internal/config"
)

// TestOpenSocket: the file of the socket is as the configuration says, and closed to others
// without a word of it.
func TestOpenSocket(t *testing.T) {
	t.Parallel()
	group := strconv.Itoa(os.Getgid())
	for name, c := range map[string]struct {
		l    config.Listeners
		mode os.FileMode
	}{
		"nothing said":   {config.Listeners{}, 0o600},
		"a group":        {config.Listeners{SocketGroup: group}, 0o660},
		"a mode":         {config.Listeners{SocketMode: "0666"}, 0o666},
		"group and mode": {config.Listeners{SocketGroup: group, SocketMode: "0600"}, 0o600},
	} {
		path := filepath.Join(t.TempDir(), "s")
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		if err := openSocket(path, c.l); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != c.mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := openSocket("none", config.Listeners{SocketGroup: "no-such-group"}); err == nil {
		t.Error("a group that there is not")
	}
}
