package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Limits bound what one client can hold.
type Limits struct {
	ReadHeader  time.Duration // from the connection's first byte to the end of the header
	Read        time.Duration // to the end of the body
	Write       time.Duration // from the end of the header to the end of the answer
	Idle        time.Duration // between two requests of one connection
	HeaderBytes int
	Body        int64 // bytes
}

// DefaultLimits suit every protocol of the house: the largest body of a client
// is 64 KiB, and the slowest answer is an issuance (20 s).
func DefaultLimits() Limits {
	return Limits{
		ReadHeader: 5 * time.Second, Read: 10 * time.Second, Write: 30 * time.Second, Idle: 2 * time.Minute,
		HeaderBytes: 16 << 10, Body: 64 << 10,
	}
}

// Config is what Start needs beside the handler. TLS, Quiet and ConnContext may
// be left out.
type Config struct {
	Name    string // of the listener, for logs, metrics and errors
	Limits  Limits
	TLS     *tls.Config // nil: plain HTTP
	Log     *slog.Logger
	Now     func() time.Time
	Observe func(Event)

	Proxies           Proxies // whose word is taken for who a client is
	Bounds            Bounds
	ObserveConnection func(Connection) // may be nil

	// Direct, if set, sees every request before anything else. It answers and
	// returns true, or leaves the request alone. What it answers has no request id,
	// no log line and no event: it is for what must cost next to nothing, and it
	// counts by itself.
	Direct func(w http.ResponseWriter, r *http.Request) bool
	// Quiet logs requests at debug level: for what monitors ask all the time.
	Quiet bool
	// ConnContext may add to a connection's context what only the connection
	// knows, such as the uid of a unix socket's peer.
	ConnContext func(ctx context.Context, c net.Conn) context.Context
}

// Listen opens a TCP listener. Its error names the listener and the address.
func Listen(ctx context.Context, name, addr string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, listenError(name, addr, err)
	}
	return ln, nil
}

// maxSocketPath is under the smallest limit of a sockaddr_un's path (macOS 104,
// Linux 108).
const maxSocketPath = 100

// ListenUnix opens a unix socket that only its owner can use. A socket file
// left over by a process that is gone is replaced; one that answers is an
// address in use. A path that is too long for the system moves to a 0700
// temporary folder whose socket path is written to a file named "socket" beside
// the intended place.
func ListenUnix(ctx context.Context, name, path string) (net.Listener, error) {
	note := filepath.Join(filepath.Dir(path), "socket")
	if err := os.Remove(note); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	if len(path) > maxSocketPath {
		dir, err := os.MkdirTemp("", "privyseal-")
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", name, err)
		}
		path = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(note, []byte(path+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", name, err)
		}
	}
	if err := removeStale(ctx, name, path); err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{Control: private}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, listenError(name, path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", name, err), ln.Close())
	}
	return ln, nil
}

// private gives a socket its mode before it has a name: Linux makes the file with
// that of the descriptor. Other systems refuse, and the file has the mode of the
// umask until it is changed. The umask itself is the whole process's: to change it
// would change what other goroutines create meanwhile.
func private(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
}

func removeStale(ctx context.Context, name, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", name, err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("listen on %s: %s is there and is not a socket", name, path)
	}
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(listenError(name, path, syscall.EADDRINUSE), c.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("listen on %s: %w", name, err)
	}
	return nil
}

func listenError(name, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: address %s is in use by another process: %w", name, addr, syscall.EADDRINUSE)
	}
	return fmt.Errorf("listen on %s: %w", name, err)
}

// Server is one listener being served.
type Server struct {
	name string
	http *http.Server
	addr net.Addr
	done chan struct{}
	err  error // valid once done is closed
}

// Start serves h on ln until Shutdown. It takes over ln.
func Start(ln net.Listener, h http.Handler, cfg Config) *Server {
	if cfg.TLS != nil && cfg.TLS.NextProtos == nil {
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.NextProtos = []string{"h2", "http/1.1"}
	}
	g := newGate(ln, cfg)
	s := &Server{
		name: cfg.Name, addr: ln.Addr(), done: make(chan struct{}),
		http: &http.Server{
			Handler:           wrap(h, cfg),
			ReadHeaderTimeout: cfg.Limits.ReadHeader,
			ReadTimeout:       cfg.Limits.Read,
			WriteTimeout:      cfg.Limits.Write,
			IdleTimeout:       cfg.Limits.Idle,
			MaxHeaderBytes:    cfg.Limits.HeaderBytes,
			ConnState:         g.state,
			TLSConfig:         cfg.TLS,
			// What net/http says here is about broken handshakes and clients
			// that went away.
			ErrorLog: slog.NewLogLogger(cfg.Log.With("listener", cfg.Name).Handler(), slog.LevelDebug),
		},
	}
	if cfg.ConnContext != nil {
		s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			if counted, ok := c.(*conn); ok {
				c = counted.raw
			}
			return cfg.ConnContext(ctx, c)
		}
	}
	go func() {
		defer close(s.done)
		err := s.http.Serve(g)
		g.all.Wait()
		if !errors.Is(err, http.ErrServerClosed) {
			s.err = fmt.Errorf("serve %s: %w", cfg.Name, err)
		}
	}()
	return s
}

// Name returns the listener's name.
func (s *Server) Name() string { return s.name }

// Addr returns the address that the listener is bound to.
func (s *Server) Addr() net.Addr { return s.addr }

// Done is closed when the listener has stopped; Err tells why.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the listener stopped by itself, nil after Shutdown.
func (s *Server) Err() error {
	<-s.done
	return s.err
}

// Shutdown stops taking connections and waits for the requests under way. When
// ctx ends first it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("drain %s: %w", s.name, err), s.http.Close())
	}
	<-s.done
	return s.err
}
