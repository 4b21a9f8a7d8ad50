package operator

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// loginTime is how long a person has for logging in.
const loginTime = 10 * time.Minute

// loginFlags are what `login` takes.
type loginFlags struct {
	root, provider, name  string
	device, noBrowser     bool
	cert, key, passphrase string
}

func (c *CLI) login() *cobra.Command {
	var f loginFlags
	return c.local(verb{
		use: "login URL", short: "log in at a server in the network",
		long: `Logs in at the operator API of a server in the network, by the browser, with
--device by a code that is entered on any device, or with --cert by a client
certificate, and keeps the session in the
configuration folder, in a file that only you may read. Commands use it from then
on; privyseal context use says which server.

The server has to be one that the system trusts, or the one that --root names: the
SHA-256 of a CA above it, or of its own certificate while that is self-signed, as
privyseal status prints it on the server. It is needed once for each server.`,
		example: `  privyseal login https://ca.example.org:8445 --root 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  privyseal login https://ca.example.org:8445 --device
  privyseal login https://ca.example.org:8445 --provider corp
  privyseal login https://ca.example.org:8445 --cert ann.pem --key ann.key`,
		args: cobra.ExactArgs(1),
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&f.root, "root", "", "SHA-256 of a CA above the server, or of its self-signed certificate")
			cmd.Flags().StringVar(&f.provider, "provider", "", "where to log in; needed only where there are several")
			cmd.Flags().StringVar(&f.name, "name", "", "what the server is called here; HOST:PORT if left out")
			cmd.Flags().BoolVar(&f.device, "device", false, "log in by a code, for machines without a browser")
			cmd.Flags().StringVar(&f.cert, "cert", "", "log in by this client certificate, PEM, with what certifies it")
			cmd.Flags().StringVar(&f.key, "key", "", "the private key of --cert, PEM")
			cmd.Flags().StringVar(&f.passphrase, "key-passphrase", "", "file with the passphrase of --key")
			cmd.Flags().BoolVar(&f.noBrowser, "no-browser", false, "print the address and open no browser")
		},
	}, func(cmd *cobra.Command, args []string) error {
		ctx, stop := context.WithTimeout(cmd.Context(), loginTime)
		defer stop()
		saved, err := c.trust(ctx, cmd, args[0], f)
		if err != nil {
			return err
		}
		r, err := saved.remote()
		if err != nil {
			return err
		}
		r.Bearer = ""
		in, err := enter(ctx, cmd, r, f)
		if err != nil {
			return err
		}
		saved.Token, saved.Caller, saved.ExpiresAt = in.Token, in.Caller, in.ExpiresAt
		if err := c.remember(ctx, saved); err != nil {
			return err
		}
		cmd.PrintErrf("logged in at %s as %s (%s) until %s\n", saved.Name, clean(in.Name), clean(in.Caller),
			stamp(in.ExpiresAt))
		return nil
	})
}

// trust finds out what the server is known by, and says so.
func (c *CLI) trust(ctx context.Context, cmd *cobra.Command, address string, f loginFlags) (s savedContext, err error) {
	s = savedContext{Name: f.name, URL: strings.TrimSuffix(address, "/")}
	all, err := c.contexts()
	if err != nil {
		return s, err
	}
	if known := all.named(address); known != nil {
		s.Name, s.URL, s.Root = cmp.Or(f.name, known.Name), known.URL, known.Root
	}
	r, err := s.remote()
	if err != nil {
		return s, err
	}
	if f.root != "" {
		r.Root = f.root
	}
	root, err := r.Trusted(ctx)
	var untrusted *api.UntrustedError
	switch {
	case errors.As(err, &untrusted), errors.Is(err, api.ErrUnreachable):
		return s, err
	case err != nil:
		return s, usagef("%s: %s", cmd.CommandPath(), err)
	}
	if u, err := url.Parse(s.URL); err == nil {
		s.Name = cmp.Or(s.Name, u.Host)
	}
	if f.root == "" {
		return s, nil
	}
	s.Root = string(pki.EncodeChain(root.Raw))
	cmd.PrintErrf("%s\n", trustWords(s.Name, root))
	return s, nil
}

// trustWords says what a server is trusted by.
func trustWords(name string, root *x509.Certificate) string {
	if root.IsCA {
		return fmt.Sprintf("%s is trusted by the CA %q above it", name, clean(root.Subject.String()))
	}
	return name + " is trusted by its own self-signed certificate: once an issuer certifies it, log in again with the " +
		"--root of that"
}

// enter proves who somebody is.
func enter(ctx context.Context, cmd *cobra.Command, r api.Remote, f loginFlags) (*api.LoggedIn, error) {
	client, err := api.DialURL(r)
	if err != nil {
		return nil, usagef("%s: %s", cmd.CommandPath(), err)
	}
	defer client.Close()
	ways, err := client.Ways(ctx)
	if err != nil {
		return nil, err
	}
	if f.cert != "" || f.key != "" {
		return byCertificate(ctx, cmd, r, ways, f)
	}
	var names []string
	for _, w := range ways.OIDC {
		names = append(names, w.Name)
	}
	switch {
	case f.provider == "" && len(names) == 1:
		f.provider = names[0]
	case len(names) == 0:
		return nil, errors.New("the server has no provider to log in at: access.oidc in its configuration")
	case f.provider == "":
		return nil, usagef("%s: there are several providers: --provider %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	if f.device {
		return byDevice(ctx, cmd, client, f.provider)
	}
	return byBrowser(ctx, cmd, client, f)
}

// byCertificate shows a certificate under the server name that asks for it.
func byCertificate(
	ctx context.Context, cmd *cobra.Command, r api.Remote, ways *api.Ways, f loginFlags,
) (*api.LoggedIn, error) {
	if ways.Certificate == nil {
		return nil, errors.New("the server takes no client certificates: access.certificates in its configuration")
	}
	pair, err := readPair(f)
	if err != nil {
		return nil, usagef("%s: %s", cmd.CommandPath(), err)
	}
	r.ServerName, r.Certificate = ways.Certificate.ServerName, pair
	client, err := api.DialURL(r)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.CertificateLogin(ctx)
}

// readPair reads a certificate and its key, which must be readable to its owner alone.
func readPair(f loginFlags) (*tls.Certificate, error) {
	if f.cert == "" || f.key == "" {
		return nil, errors.New("--cert and --key go together")
	}
	text, err := os.ReadFile(f.cert)
	if err != nil {
		return nil, fmt.Errorf("--cert: %w", err)
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return nil, fmt.Errorf("--cert %s: %w", f.cert, err)
	}
	text, err = files.ReadSecret(f.key)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	key, _, err := keys.DecryptForeign(text, func() ([]byte, error) {
		if f.passphrase == "" {
			return nil, errors.New("it is encrypted: --key-passphrase FILE")
		}
		secret, err := files.ReadSecret(f.passphrase)
		return bytes.TrimRight(secret, "\r\n"), err
	})
	if err != nil {
		return nil, fmt.Errorf("--key %s: %w", f.key, err)
	}
	if !pki.SameKey(key.Public(), chain[0].PublicKey) {
		return nil, errors.New("--key is not the key of --cert")
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}

// byDevice waits for somebody to enter a code.
func byDevice(ctx context.Context, cmd *cobra.Command, client *api.Client, provider string) (*api.LoggedIn, error) {
	d, err := client.StartDevice(ctx, provider)
	if err != nil {
		return nil, err
	}
	cmd.PrintErrf("Open %s and enter %s\n", clean(cmp.Or(d.VerificationURIComplete, d.VerificationURI)), clean(d.UserCode))
	for {
		in, err := client.FinishLogin(ctx, provider, api.LoginFinish{Flow: d.Flow})
		var p *api.Problem
		if errors.As(err, &p) && p.Pending() && ctx.Err() == nil {
			continue // the server waited
		}
		return in, err
	}
}

// byBrowser has the provider send the browser back to a listener of our own (RFC 8252).
func byBrowser(ctx context.Context, cmd *cobra.Command, client *api.Client, f loginFlags) (*api.LoggedIn, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("wait for the browser: %w", err)
	}
	back := "http://" + ln.Addr().String() + "/callback"
	begun, err := client.StartLogin(ctx, f.provider, api.LoginStart{RedirectURI: back})
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	answers := make(chan url.Values, 1)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: callback(begun.State, answers)}
	go func() { _ = server.Serve(ln) }() // it ends with Close
	defer server.Close()                 //nolint:errcheck // the login has ended
	cmd.PrintErrf("Log in here: %s\n", begun.AuthorizeURL)
	if !f.noBrowser {
		browse(ctx, begun.AuthorizeURL)
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("nobody has logged in: %w", ctx.Err())
	case q := <-answers:
		if q.Get("code") == "" {
			return nil, fmt.Errorf("the provider refuses: %s %s", clean(q.Get("error")), clean(q.Get("error_description")))
		}
		finish := api.LoginFinish{Flow: begun.Flow, Code: q.Get("code"), State: q.Get("state")}
		return client.FinishLogin(ctx, f.provider, finish)
	}
}

// callback takes the first redirect that is of this login.
func callback(state string, answers chan<- url.Values) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/callback" || q.Get("state") != state {
			http.Error(w, "this is not the login that was begun", http.StatusNotFound)
			return
		}
		select {
		case answers <- q:
		default:
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "Go back to the terminal: this page can be closed.\n")
	})
}

// browse opens a browser if there is one; the address was printed.
func browse(ctx context.Context, address string) {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	_ = exec.CommandContext(ctx, program, address).Start()
}

func (c *CLI) logout() *cobra.Command {
	return c.local(verb{
		use: "logout [NAME]", short: "end a session, and forget it", args: cobra.MaximumNArgs(1),
		long:    "Ends the session of the current context, or of the one that is named. What the server is trusted by stays.",
		example: "  privyseal logout\n  privyseal logout ca.example.org:8445",
	}, func(cmd *cobra.Command, args []string) error {
		all, err := c.contexts()
		if err != nil {
			return err
		}
		s := all.named(strings.Join(append(args, all.Current)[:1], ""))
		if s == nil || s.Token == "" {
			return usagef("%s: there is no such session; see privyseal context list", cmd.CommandPath())
		}
		r, err := s.remote()
		if err != nil {
			return err
		}
		client, err := api.DialURL(r)
		if err != nil {
			return err
		}
		defer client.Close()
		err = client.EndSession(cmd.Context())
		if p := (*api.Problem)(nil); errors.As(err, &p) && p.Status == http.StatusUnauthorized {
			err = nil // it was over
		}
		return errors.Join(err, c.changeContexts(cmd.Context(), func(all *contexts) error {
			if known := all.named(s.Name); known != nil {
				known.Token, known.Caller, known.ExpiresAt = "", "", time.Time{}
			}
			return nil
		}))
	})
}

func (c *CLI) contextGroup() *cobra.Command {
	var asJSON *bool
	list := c.local(verb{
		use: "list", short: "list the servers that you logged in at", example: "  privyseal context list",
		flags: func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
	}, func(cmd *cobra.Command, _ []string) error {
		all, err := c.contexts()
		if err != nil {
			return err
		}
		for i := range all.All {
			all.All[i].Token = "" // printed nowhere
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), all)
		}
		t := newTable(cmd.OutOrStdout(), "CURRENT", "NAME", "URL", "LOGGED IN AS", "UNTIL")
		for _, s := range all.All {
			mark, until := "", ""
			if s.Name == all.Current {
				mark = "*"
			}
			if !s.ExpiresAt.IsZero() {
				until = stamp(s.ExpiresAt)
			}
			t.row(mark, s.Name, s.URL, s.Caller, until)
		}
		return t.end()
	})
	use := c.local(verb{
		use: "use {NAME | local}", short: "say which server commands talk to", args: cobra.ExactArgs(1),
		long:    "Commands talk to this server where neither --socket nor --server says otherwise; local is the unix socket.",
		example: "  privyseal context use ca.example.org:8445\n  privyseal context use local",
	}, func(cmd *cobra.Command, args []string) error {
		return c.changeContexts(cmd.Context(), func(all *contexts) error {
			s := all.named(args[0])
			switch {
			case args[0] == "local":
				all.Current = ""
			case s == nil:
				return usagef("%s: there is no context %q; see privyseal context list", cmd.CommandPath(), args[0])
			default:
				all.Current = s.Name
			}
			return nil
		})
	})
	return group("context", "the servers that you logged in at", list, use)
}
