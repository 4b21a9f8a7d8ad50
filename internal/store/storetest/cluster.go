package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Cluster is a PostgreSQL server of the test's own. It ends with the test
// binary, however that ends: see keeper.
type Cluster struct {
	bin, dir string // folder of the binaries; temporary folder with data and socket
	login    *syscall.SysProcAttr
	flags    []string
	alive    []*os.File // open as long as the server is to live; a keeper of an earlier Start would remove the folder
}

// StartCluster makes a new server that listens on a Unix socket only. A durable
// one waits for its disk, as in production.
func StartCluster(durable bool) (*Cluster, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "privyseal-pg-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the cluster: %w", err)
	}
	c := &Cluster{bin: bin, dir: dir, flags: []string{"-c", "listen_addresses=", "-k", dir}}
	if !durable {
		c.flags = append(c.flags, "-c", "fsync=off")
	}
	if err := c.init(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, c.Start()
}

func (c *Cluster) init() error {
	if os.Geteuid() == 0 { // the server refuses to run as root
		if err := c.dropTo("postgres"); err != nil {
			return err
		}
	}
	cmd := exec.Command(filepath.Join(c.bin, "initdb"), "-A", "trust", "--no-sync", "-U", "postgres", "-E", "UTF8",
		"--locale=C", "-D", c.data())
	cmd.SysProcAttr, cmd.Dir = c.login, c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (c *Cluster) dropTo(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("run PostgreSQL as another user than root: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("user id of %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("group id of %s: %w", name, err)
	}
	c.login = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := os.Chown(c.dir, uid, gid); err != nil {
		return fmt.Errorf("hand the cluster's folder to %s: %w", name, err)
	}
	return nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// keeper runs the server and waits for its own standard input to end. That is a
// pipe which the test binary holds open, so the server stops and its folder goes
// when the binary exits, panics or is killed.
const keeper = `dir=$1; shift; "$@" >>"$dir/log" 2>&1 </dev/null & pid=$!; cat >/dev/null; kill -INT $pid 2>/dev/null; wait $pid; rm -rf "$dir"`

// Start starts the server and waits until it answers.
func (c *Cluster) Start() error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start cluster: %w", err)
	}
	args := append([]string{"-c", keeper, "keeper", c.dir, filepath.Join(c.bin, "postgres"), "-D", c.data()},
		c.flags...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir, cmd.Stdin, cmd.SysProcAttr = c.dir, read, c.login
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start cluster: %w", err)
	}
	_ = read.Close() // the keeper has its own
	c.alive = append(c.alive, write)
	return c.await()
}

// PID returns the process id of the postmaster.
func (c *Cluster) PID() (int, error) {
	raw, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find the server's process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(string(raw), "\n", 2)[0]))
	if err != nil {
		return 0, fmt.Errorf("find the server's process: %w", err)
	}
	return pid, nil
}

// Stop ends the server at once, as a crash would: it says good-bye to nobody and
// recovers at the next start.
func (c *Cluster) Stop() error {
	pid, err := c.PID()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("stop cluster: %w", err)
	}
	for range 1000 {
		if _, err := os.Stat(filepath.Join(c.data(), "postmaster.pid")); os.IsNotExist(err) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("stop cluster: it does not stop")
}

// Close ends the server and removes its folder.
func (c *Cluster) Close() {
	for _, pipe := range c.alive {
		_ = pipe.Close() // the keeper does the rest
	}
}

func (c *Cluster) await() error {
	var err error
	for range 500 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		var conn *pgx.Conn
		if conn, err = pgx.Connect(ctx, c.URL("postgres")); err == nil {
			err = conn.Close(ctx)
			cancel()
			return err
		}
		cancel()
		time.Sleep(20 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(c.dir, "log")) // only adds to the error
	return fmt.Errorf("await cluster: %w: %s", err, log)
}

// URL returns the URL of a database of the server.
func (c *Cluster) URL(database string) string {
	q := url.Values{"host": {c.dir}, "user": {"postgres"}}
	return (&url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: q.Encode()}).String()
}

// findBinaries returns the folder of initdb and postgres.
func findBinaries() (string, error) {
	var folders []string
	if path, err := exec.LookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",         // Debian
		"/opt/homebrew/opt/postgresql*/bin", // brew, arm64
		"/usr/local/opt/postgresql*/bin",    // brew, amd64
		"/usr/pgsql-*/bin",                  // Red Hat
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for PostgreSQL: %w", err)
		}
		folders = append(folders, found...)
	}
	for i := len(folders) - 1; i >= 0; i-- { // the newest version sorts last
		if _, err := os.Stat(filepath.Join(folders[i], "postgres")); err == nil {
			return folders[i], nil
		}
	}
	return "", errors.New("no PostgreSQL: set PRIVYSEAL_TEST_POSTGRES or install it (apt-get install postgresql, brew " +
		"install postgresql)")
}
