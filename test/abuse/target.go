package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/privyseal/privyseal/test/acmeclient"
	"github.com/privyseal/privyseal/test/dnstest"
	"github.com/privyseal/privyseal/test/lab"
)

// Where clients come from, and where attackers point to.
const (
	customers = "127.0.0.1"
	attackers = "127.0.0.9"
	tarPit    = "127.0.0.3"
)

// target is the server, who asks it for certificates, and a host that accepts
// connections and says nothing.
type target struct {
	server    *lab.Server
	responder *acmeclient.Responder
	honest    *honest
	ends      []func()
}

func newTarget(ctx context.Context, dir string, workers int) (*target, error) {
	t := &target{}
	if err := t.open(ctx, dir, workers); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *target) open(ctx context.Context, dir string, workers int) error {
	names, stopNames, err := dnstest.New("lab.test")
	if err != nil {
		return err
	}
	t.ends = append(t.ends, stopNames)
	binary, err := lab.Build(filepath.Dir(dir))
	if err != nil {
		return err
	}
	t.server = &lab.Server{Binary: binary, Dir: dir, Resolver: names.Addr()}
	if t.server.Addr, err = lab.FreeAddresses(); err != nil {
		return err
	}
	if t.responder, err = acmeclient.NewResponder(t.server.Addr.HTTP01); err != nil {
		return err
	}
	t.ends = append(t.ends, func() { _ = t.responder.Close() })
	if err := errors.Join(t.dig(names), t.start()); err != nil {
		return err
	}
	t.honest, err = newHonest(ctx, t, workers)
	return err
}

// start sets up a server, adds an endpoint at which strangers wait for an operator, and
// serves it within limits.
func (t *target) start() error {
	if err := t.server.Start(); err != nil {
		return err
	}
	t.ends = append(t.ends, func() { t.server.Kill() })
	if err := t.server.Stop(); err != nil {
		return err
	}
	file := filepath.Join(t.server.Dir, "privyseal.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	const manual = "  - {name: manual, protocol: scep, issuer: dev-a-1, profiles: [vetted], scep: {path: manual, manual: true}}\n"
	const vetted = "profiles:\n  vetted: {approval: true, subject: {fields: [{attribute: CN}]}, ext_key_usage: [clientAuth]}\n"
	before, after, found := strings.Cut(string(text), "\nchallenge:\n")
	if !found {
		return fmt.Errorf("%s has no section challenge", file)
	}
	if err := os.WriteFile(file, []byte(before+"\n"+manual+vetted+"challenge:\n"+after), 0o600); err != nil {
		return err
	}
	limited := fmt.Sprintf("ulimit -n %d && ulimit -d %d && exec %s serve --config %s", openFiles, dataMiB<<10,
		t.server.Binary, file)
	if t.server.Process, err = lab.Launch(t.server.Dir, "sh", "-c", limited); err != nil {
		return err
	}
	return t.server.Ready(time.Minute)
}

// dig opens a tar pit on the port of http-01, and points names below tar.lab.test there.
func (t *target) dig(names *dnstest.Server) error {
	pit, err := net.Listen("tcp", net.JoinHostPort(tarPit, lab.Port(t.server.Addr.HTTP01)))
	if err != nil {
		return err
	}
	t.ends = append(t.ends, func() { _ = pit.Close() })
	go func() {
		for {
			c, err := pit.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }() // when nobody is accepted any more
		}
	}()
	for n := range tarPits {
		if err := names.AddRecords(fmt.Sprintf("%s. 60 IN A %s", tarName(n), tarPit)); err != nil {
			return err
		}
	}
	return nil
}

func tarName(n int) string { return fmt.Sprintf("t%d.tar.lab.test", n) }

// client returns an HTTP client that comes from an address and opens no more
// connections than it is said: those of one source are bounded, and one that idles goes
// for one that comes. They are closed when ctx ends.
func (t *target) client(ctx context.Context, from string, connections int) (*http.Client, error) {
	hc, err := t.server.Client(connections)
	if err != nil {
		return nil, err
	}
	transport, ok := hc.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("the laboratory's client has another transport")
	}
	transport.DialContext = dialer(from).DialContext
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	transport.MaxConnsPerHost = connections
	return hc, nil
}

func dialer(from string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
}

// stop ends the server as an operator does and looks whether its records hold.
func (t *target) stop() error {
	if err := t.server.Stop(); err != nil {
		return err
	}
	return t.server.Verify()
}

func (t *target) close() {
	for i := len(t.ends) - 1; i >= 0; i-- {
		t.ends[i]()
	}
}
