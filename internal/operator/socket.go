package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// socketVariable names the environment variable that says where the socket is.
const socketVariable = "PRIVYSEAL_SOCKET"

// serverVariable names the environment variable that says which server in the network is
// meant, tokenVariable that with the secret of a token, which is in no argument list.
const (
	serverVariable = "PRIVYSEAL_SERVER"
	tokenVariable  = "PRIVYSEAL_TOKEN"
)

// usualSockets are tried in this order when nothing says where the socket is.
var usualSockets = []string{"privyseal.sock", "privyseal-dev/privyseal.sock", "/run/privyseal/privyseal.sock"}

// target is which server a command is to talk to.
type target struct{ socket, server, root string }

// connect returns a client of the server that is meant: by the flags, by the environment,
// by the current context, or the first whose socket answers.
func (c *CLI) connect(cmd *cobra.Command, to target) (*api.Client, error) {
	if to.socket != "" && to.server != "" || to.root != "" && to.server == "" {
		return nil, usagef("%s: either --socket or --server, and --root with --server", cmd.CommandPath())
	}
	if to.socket != "" || to.server == "" && c.getenv(socketVariable) != "" {
		return c.dial(cmd.Context(), to.socket)
	}
	all, err := c.contexts()
	if err != nil {
		return nil, err
	}
	name := cmp.Or(to.server, c.getenv(serverVariable), all.Current)
	if name == "" {
		return c.dial(cmd.Context(), "")
	}
	s := all.named(strings.TrimSuffix(name, "/"))
	if s == nil {
		s = &savedContext{Name: name, URL: name}
	}
	r, err := s.remote()
	if err != nil {
		return nil, err
	}
	r.Root, r.Bearer = to.root, cmp.Or(c.getenv(tokenVariable), r.Bearer)
	client, err := api.DialURL(r)
	if err != nil {
		return nil, usagef("%s: --server: %s, or a name of privyseal context list", cmd.CommandPath(), err)
	}
	return client, nil
}

// dial returns a client of the first server that answers.
func (c *CLI) dial(ctx context.Context, flag string) (*api.Client, error) {
	places, source := usualSockets, ""
	if env := c.getenv(socketVariable); env != "" {
		places, source = []string{env}, socketVariable
	}
	if flag != "" {
		places, source = []string{flag}, "--socket"
	}
	var tried strings.Builder
	for _, place := range places {
		path := resolve(place)
		err := probe(ctx, path)
		if err == nil {
			return api.Dial(path), nil
		}
		fmt.Fprintf(&tried, "  %s: %s\n", display(place, path), why(err))
	}
	advice := "Start one with `privyseal dev` or `privyseal serve`, or say where it is with --socket or " +
		socketVariable + "."
	if source != "" {
		advice = "That is what " + source + " says; is the server running?"
	}
	return nil, fmt.Errorf("%w: no server answers at\n%s%s", api.ErrUnreachable, tried.String(), advice)
}

// resolve returns the socket that a place means: itself, the one in a folder, or
// the one that a file called socket in its folder names, which the server writes
// when the path is too long for a socket's address.
func resolve(place string) string {
	if info, err := os.Stat(place); err == nil && info.IsDir() {
		place = filepath.Join(place, "privyseal.sock")
	}
	if info, err := os.Stat(place); err == nil && info.Mode().Type() == fs.ModeSocket {
		return place
	}
	note, err := os.ReadFile(filepath.Join(filepath.Dir(place), "socket"))
	if err != nil || len(note) > 4096 {
		return place
	}
	if named := strings.TrimSpace(string(note)); filepath.IsAbs(named) && !strings.Contains(named, "\n") {
		return named
	}
	return place
}

// probe reports whether somebody listens.
func probe(ctx context.Context, path string) error {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}

func why(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket"
	case errors.Is(err, fs.ErrPermission):
		return "not allowed: only the server's own user may open it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "a socket, but nobody listens"
	default:
		return err.Error()
	}
}

// display shows a place so that a person can find it.
func display(place, path string) string {
	if !filepath.IsAbs(place) {
		place = "./" + filepath.Clean(place)
	}
	if path != place && filepath.IsAbs(path) &&
		filepath.Base(filepath.Dir(path)) != filepath.Base(filepath.Dir(place)) {
		return place + " (" + path + ")"
	}
	return place
}
