package lab

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Server is a `privyseal dev`, or a `privyseal serve`, in a folder of its own.
type Server struct {
	Binary   string
	Serve    bool     // serve what privyseal.yaml in Dir says: see Hierarchy
	Dir      string   // DIR of privyseal dev
	Database string   // URL; empty is SQLite in Dir
	Resolver string   // HOST:PORT of the name server
	Flags    []string // of privyseal dev, beside those that follow from the others
	Addr     Addresses
	*Process // the running server; nil before Start
}

// Addresses are the HOST:PORTs of a server and of the clients' answers.
type Addresses struct {
	HTTPS, EST, HTTP, Ops string
	HTTP01, ALPN          string
}

// FreeAddresses returns loopback addresses that nobody listens on.
func FreeAddresses() (Addresses, error) {
	var held []net.Listener
	var failed error
	next := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			failed = err
			return ""
		}
		held = append(held, l)
		return l.Addr().String()
	}
	a := Addresses{HTTPS: next(), EST: next(), HTTP: next(), Ops: next(), HTTP01: next(), ALPN: next()}
	for _, l := range held {
		_ = l.Close()
	}
	return a, failed
}

// Start starts the server and waits until it says that it is ready. A server
// that was started before goes on with what is in Dir.
func (s *Server) Start() error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.Ready(time.Minute)
}

// Launch starts the server and does not wait.
func (s *Server) Launch() error {
	args := []string{
		"dev", "--dir", s.Dir, "--https-addr", s.Addr.HTTPS, "--est-addr", s.Addr.EST, "--http-addr", s.Addr.HTTP,
		"--ops-addr", s.Addr.Ops, "--http01-port", Port(s.Addr.HTTP01), "--tls-alpn01-port", Port(s.Addr.ALPN),
	}
	if s.Resolver != "" {
		args = append(args, "--dns-resolver", s.Resolver)
	}
	if s.Database != "" {
		args = append(args, "--database", s.Database)
	}
	args = append(args, s.Flags...)
	if s.Serve {
		args = []string{"serve", "--config", filepath.Join(s.Dir, "privyseal.yaml")}
	}
	var err error
	s.Process, err = Launch(filepath.Dir(s.Dir), s.Binary, args...)
	return err
}

// Ready waits until /readyz answers 200.
func (s *Server) Ready(within time.Duration) error {
	last := errors.New("no answer")
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		select {
		case <-s.Exited:
			return fmt.Errorf("the server ended at start\n%s", s.Log.Tail(4000))
		case <-time.After(20 * time.Millisecond):
		}
		resp, err := http.Get("http://" + s.Addr.Ops + "/readyz")
		if err != nil {
			last = err
			continue
		}
		body, _ := io.ReadAll(resp.Body) // only adds to the error
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	return fmt.Errorf("the server is not ready after %v: %w\n%s", within, last, s.Log.Tail(4000))
}

// Verify runs `privyseal verify` over the whole store.
func (s *Server) Verify() error {
	_, err := Run(s.Dir, nil, s.Binary, "verify", "--config", filepath.Join(s.Dir, "privyseal.yaml"))
	return err
}

// Directory is the URL of an ACME endpoint's directory.
func (s *Server) Directory(endpoint string) string {
	return "https://localhost:" + Port(s.Addr.HTTPS) + "/acme/" + endpoint + "/directory"
}

// Client returns an HTTP client that trusts the server's root and nothing else,
// and keeps up to conns connections.
func (s *Server) Client(conns int) (*http.Client, error) {
	pem, err := os.ReadFile(filepath.Join(s.Dir, "root.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("root.pem holds no certificate")
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: conns,
		MaxIdleConns: conns,
	}}, nil
}

// Port returns the port of HOST:PORT.
func Port(hostport string) string {
	_, p, _ := net.SplitHostPort(hostport)
	return p
}
