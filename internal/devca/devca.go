// Package devca makes and changes the folder of `privyseal dev`: a root, an issuing
// CA, their secrets, and the configuration of a server for one machine.
package devca

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/scep"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// The names of dev's small hierarchy, and of the files that it makes in Dir.
const (
	Root   = "dev-root"
	Issuer = "dev-a-1"

	ConfigFile    = "privyseal.yaml"
	ChallengeFile = "scep-challenge"
)

// Options are the flags of `privyseal dev`. They win over DIR/privyseal.yaml
// and are written back to it.
type Options struct {
	Dir          string // the folder
	Database     string // a URL; empty is SQLite in Dir
	HTTPS, EST   string // addresses to listen on, HOST:PORT
	HTTP, Ops    string
	HTTP01, ALPN int    // ports on which challenges are fetched
	Resolver     string // HOST:PORT; empty is the system's
	UnsafeListen bool   // addresses that other machines can reach are allowed
	FreeNames    bool   // the root has no name constraints
	Tiers        int    // 1 or 2

	Given func(flag string) bool // reports whether the flag is on the command line
}

// Flags gives a command the flags, and o their values.
func (o *Options) Flags(f *pflag.FlagSet) {
	f.StringVar(&o.Dir, "dir", "./privyseal-dev", "folder of everything that the server keeps")
	f.StringVar(&o.Database, "database", "", "sqlite:PATH or postgres://… (default sqlite:privyseal.db in DIR)")
	f.StringVar(&o.HTTPS, "https-addr", "127.0.0.1:8443", "address of ACME")
	f.StringVar(&o.EST, "est-addr", "127.0.0.1:8444", "address of EST")
	f.StringVar(&o.HTTP, "http-addr", "127.0.0.1:8080", "address of CRLs, OCSP and CA certificates")
	f.StringVar(&o.Ops, "ops-addr", "127.0.0.1:9090", "address of metrics and health")
	f.IntVar(&o.HTTP01, "http01-port", 5002, "port on which http-01 challenges are fetched")
	f.IntVar(&o.ALPN, "tls-alpn01-port", 5001, "port on which tls-alpn-01 challenges are fetched")
	f.StringVar(&o.Resolver, "dns-resolver", "", "DNS server to ask, HOST:PORT (default the system's)")
	f.BoolVar(&o.UnsafeListen, "unsafe-listen", false, "allow addresses that other machines can reach")
	f.IntVar(&o.Tiers, "tiers", 2,
		"2, or 1: one self-signed CA that issues by itself, for experiments only (first start only)")
	f.BoolVar(&o.FreeNames, "unconstrained", false, "make the root without name constraints (first start only)")
	o.Given = f.Changed
}

// Check refuses what dev must not do before anything is touched.
func (o *Options) Check() error {
	for _, a := range []struct{ flag, addr string }{
		{"--https-addr", o.HTTPS}, {"--est-addr", o.EST}, {"--http-addr", o.HTTP}, {"--ops-addr", o.Ops},
	} {
		host, port, err := net.SplitHostPort(a.addr)
		if err != nil {
			return fmt.Errorf("%s %q: want HOST:PORT", a.flag, a.addr)
		}
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) && !o.UnsafeListen {
			return fmt.Errorf("%s %s: other machines could reach it; a development server is for this machine, "+
				"unless --unsafe-listen is given", a.flag, a.addr)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%s %q: want a port from 1 to 65535", a.flag, a.addr)
		}
	}
	if o.Tiers != 1 && o.Tiers != 2 {
		return fmt.Errorf("--tiers %d: want 2, or 1 for experiments; deeper trees come from privyseal-ceremony",
			o.Tiers)
	}
	for flag, port := range map[string]int{"--http01-port": o.HTTP01, "--tls-alpn01-port": o.ALPN} {
		if port < 1 || port > 65535 {
			return fmt.Errorf("%s %d: want a port from 1 to 65535", flag, port)
		}
	}
	return nil
}

// SetUp makes Dir ready to serve and returns its configuration file, which is
// written last: a folder that has it is complete. What a person must know stands in
// out: the passphrase of a new root's key, which is kept nowhere. The caller has the
// folder to itself.
func (o *Options) SetUp(ctx context.Context, now func() time.Time, out io.Writer) (file string, err error) {
	file = filepath.Join(o.Dir, ConfigFile)
	cfg := config.Default()
	text, err := os.ReadFile(file)
	switch {
	case err == nil:
		if o.Given("tiers") && (o.Tiers == 1) != OneTier(o.Dir) {
			return "", fmt.Errorf("--tiers %d: %s has been set up with another number of tiers: choose another --dir",
				o.Tiers, o.Dir)
		}
		if err := strictyaml.Decode(file, text, &cfg).Err(); err != nil {
			return "", err
		}
		before, err := strictyaml.Marshal(cfg)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", file, err)
		}
		if err := o.apply(&cfg, o.Given); err != nil {
			return "", err
		}
		after, err := strictyaml.Marshal(cfg)
		if err != nil || string(after) == string(before) {
			return file, err
		}
		return file, writeConfig(file, &cfg)
	case !errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("read %s: %w", file, fault.Cause(err))
	}
	if err := makeSecrets(o.Dir); err != nil {
		return "", err
	}
	if err := o.ceremony(ctx, now, out); err != nil {
		return "", err
	}
	cfg = devDefaults()
	if o.Tiers == 1 {
		cfg.Issuers[0].Key, cfg.Offline = "file:offline/private/ca.key", nil
	}
	if err := o.apply(&cfg, func(string) bool { return true }); err != nil {
		return "", err
	}
	return file, writeConfig(file, &cfg)
}

// devDefaults is the configuration of a first start, but for what flags say.
func devDefaults() config.Config {
	profiles := []string{"tls-server", "tls-server-short", "tls-client"}
	c := config.Config{
		State:         config.State{Passphrase: "file:secrets/state"},
		KeyEncryption: "file:secrets/kek",
		Issuers: []config.Issuer{{
			ID: Issuer, Certificate: "chain.pem",
			Key: "file:keys/" + Issuer + ".key", Passphrase: "file:secrets/issuer",
		}},
		Offline: []config.Offline{{ID: Root, Certificate: "root.pem", CRL: "root.crl"}},
		Endpoints: []config.Endpoint{
			{Name: "default", Protocol: "acme", Issuer: Issuer, Profiles: profiles, ExternalAccount: "optional"},
			{Name: "eab", Protocol: "acme", Issuer: Issuer, Profiles: profiles, ExternalAccount: "required"},
			{
				Name: "est", Protocol: "est", Issuer: Issuer, Profiles: []string{"device"},
				EST: config.ESTEndpoint{Serverkeygen: true, AcceptProtocols: enrolment.Protocols},
			},
			{
				Name: "scep", Protocol: config.ProtocolSCEP, Issuer: Issuer, Profiles: []string{"device"},
				// Clients that are easily had (scepclient, sscep) know SHA-1 and DES only.
				SCEP: scep.Options{
					Path: "default", Challenge: "file:" + ChallengeFile, ChallengeAnyName: true,
					SHA1: true, TripleDES: true, SingleDES: true,
					AcceptProtocols: enrolment.Protocols,
				},
			},
		},
		Challenge: challenge.Config{LocalhostIsLoopback: true},
		Limits:    limit.Defaults(),
		Audit:     config.Audit{Key: "file:keys/audit.key", Passphrase: "file:secrets/audit"},
	}
	c.Database.Migrate = true
	for _, s := range []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} {
		c.Challenge.AllowCIDRs = append(c.Challenge.AllowCIDRs, netip.MustParsePrefix(s))
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	c.Listeners.HTTPS.TLS = config.TLS{Issuer: Issuer, Names: names}
	c.Listeners.EST.TLS = config.TLS{Issuer: Issuer, Names: names}
	return c
}

// apply writes the flags for which given holds into the configuration.
func (o *Options) apply(c *config.Config, given func(flag string) bool) error {
	for flag, set := range map[string]func(){
		"https-addr": func() {
			c.Listeners.HTTPS.Addr, c.PublicURLs.HTTPS = o.HTTPS, "https://"+reachable(o.HTTPS)
			c.Listeners.HTTPS.TLS.Names = withHost(c.Listeners.HTTPS.TLS.Names, o.HTTPS)
		},
		"est-addr": func() {
			c.Listeners.EST.Addr, c.PublicURLs.EST = o.EST, "https://"+reachable(o.EST)
			c.Listeners.EST.TLS.Names = withHost(c.Listeners.EST.TLS.Names, o.EST)
		},
		"http-addr":       func() { c.Listeners.HTTP.Addr, c.PublicURLs.HTTP = o.HTTP, "http://"+reachable(o.HTTP) },
		"ops-addr":        func() { c.Listeners.Ops.Addr = o.Ops },
		"http01-port":     func() { c.Challenge.HTTPPort = o.HTTP01 },
		"tls-alpn01-port": func() { c.Challenge.TLSPort = o.ALPN },
		"dns-resolver":    func() { c.Challenge.Resolver = o.Resolver },
	} {
		if given(flag) {
			set()
		}
	}
	if given("database") {
		return o.applyDatabase(c)
	}
	return nil
}

// applyDatabase makes a path absolute, and moves a URL with a password into a
// secret file.
func (o *Options) applyDatabase(c *config.Config) error {
	c.Database.URL = o.Database
	path, isPath := strings.CutPrefix(o.Database, "sqlite:")
	switch {
	case o.Database == "":
		c.Database.URL = "sqlite:privyseal.db"
	case isPath:
		abs, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("--database: %w", err)
		}
		c.Database.URL = "sqlite:" + abs
	default:
		u, err := url.Parse(o.Database)
		if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			return errors.New("--database: want sqlite:PATH or postgres://USER@HOST:PORT/NAME")
		}
		if _, secret := u.User.Password(); secret || u.Query().Has("password") {
			c.Database.URL = "file:secrets/database"
			return files.Write(filepath.Join(o.Dir, "secrets", "database"), []byte(o.Database+"\n"), 0o600)
		}
	}
	return nil
}

// reachable is how a client on this machine reaches a listener.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsLoopback() && !ip.IsUnspecified() {
		return addr
	}
	return "localhost:" + port
}

// withHost adds the address of a listener that is not on loopback to the names
// of its certificate.
func withHost(names []string, addr string) []string {
	host, _, _ := net.SplitHostPort(reachable(addr))
	if slices.Contains(names, host) {
		return names
	}
	return append(names[:len(names):len(names)], host)
}

func writeConfig(file string, c *config.Config) error {
	text, err := strictyaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	const head = "# Written by `privyseal dev`, whose flags win over it and are written back.\n" +
		"# `privyseal serve --config` with this file starts the same server.\n"
	return files.Write(file, append([]byte(head), text...), 0o600)
}
