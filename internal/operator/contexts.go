package operator

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/pki"
)

// maxContexts bounds the file of contexts.
const maxContexts = 200

// contexts is the file contexts.json in the user's configuration folder: the servers
// that somebody logged in at. It holds sessions, so only its owner may read it.
type contexts struct {
	Current string         `json:"current,omitempty"` // name; empty: the socket
	All     []savedContext `json:"contexts"`
}

// savedContext is a server with what it is known by, and a session there.
type savedContext struct {
	Name      string    `json:"name"`
	URL       string    `json:"url"`
	Root      string    `json:"root,omitempty"` // PEM; empty: the system's
	Token     string    `json:"token,omitempty"`
	Caller    string    `json:"caller,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// named returns the context with a name or URL.
func (c *contexts) named(name string) *savedContext {
	i := slices.IndexFunc(c.All, func(s savedContext) bool { return s.Name == name || s.URL == name })
	if i < 0 {
		return nil
	}
	return &c.All[i]
}

// remote is how to reach the server of a context.
func (s *savedContext) remote() (api.Remote, error) {
	r := api.Remote{URL: s.URL, Bearer: s.Token}
	if s.Root == "" {
		return r, nil
	}
	roots, err := pki.ParseChain([]byte(s.Root))
	if err != nil {
		return r, fmt.Errorf("the root that is kept for %s: %w", s.Name, err)
	}
	r.Roots = []*x509.Certificate{roots[0]}
	return r, nil
}

// configDir is the user's configuration folder.
func (c *CLI) configDir() (string, error) {
	dir := c.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return "", fmt.Errorf("where sessions are kept: %w", err)
		}
	}
	return filepath.Join(dir, "privyseal"), nil
}

// contexts reads the file; one that is not there is empty.
func (c *CLI) contexts() (*contexts, error) {
	dir, err := c.configDir()
	if err != nil {
		return nil, err
	}
	return readContexts(filepath.Join(dir, "contexts.json"))
}

func readContexts(path string) (*contexts, error) {
	text, err := files.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &contexts{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	all := &contexts{}
	if err := json.Unmarshal(text, all); err != nil {
		return nil, fmt.Errorf("read sessions: %s: %w: take it away, and log in again", path, err)
	}
	return all, nil
}

// changeContexts reads, changes and writes the file while no other process does.
func (c *CLI) changeContexts(ctx context.Context, change func(*contexts) error) error {
	dir, err := c.configDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep session: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "contexts.lock"), os.O_CREATE|os.O_RDWR, private)
	if err != nil {
		return fmt.Errorf("keep session: %w", err)
	}
	if err := await(ctx, lock); err != nil {
		return errors.Join(fmt.Errorf("keep session: %s: %w", lock.Name(), err), lock.Close())
	}
	defer files.Unlock(lock) //nolint:errcheck // nothing was written to it
	path := filepath.Join(dir, "contexts.json")
	all, err := readContexts(path)
	if err == nil {
		err = change(all)
	}
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("keep session: %w", err)
	}
	return files.Write(path, append(text, '\n'), private)
}

// await takes a lock that others hold for moments only.
func await(ctx context.Context, lock *os.File) error {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := files.Lock(lock)
		if !errors.Is(err, files.ErrLocked) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// remember keeps a context, and makes it the current one.
func (c *CLI) remember(ctx context.Context, s savedContext) error {
	return c.changeContexts(ctx, func(all *contexts) error {
		if known := all.named(s.Name); known != nil {
			*known = s
		} else if all.All = append(all.All, s); len(all.All) > maxContexts {
			return fmt.Errorf("there are %d contexts already: log out of some", maxContexts)
		}
		all.Current = s.Name
		return nil
	})
}
