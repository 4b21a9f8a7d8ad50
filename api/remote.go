package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Remote says where a server is in the network, how it is known for the right one,
// and how the caller is known to it.
type Remote struct {
	// URL is the origin of the listener https-admin, such as https://ca.example.org:8445.
	URL string
	// Root is the SHA-256 of a certificate in hexadecimal, colons allowed: of a CA above
	// the listener, which must present it, or of the listener's own certificate while
	// that is self-signed. Empty: Roots are trusted.
	Root string
	// Roots are the CAs to trust, or the listener's own self-signed certificate; nil
	// means those of the system.
	Roots []*x509.Certificate
	// ServerName is the name that TLS asks for (SNI), where it is not the URL's host, which
	// the server has to prove in any case.
	ServerName string
	// Bearer is the secret of a session or a token; empty for none.
	Bearer string
	// Certificate is presented to a server that asks for one; nil for none.
	Certificate *tls.Certificate
}

// UntrustedError says that a server presented certificates that nothing trusted
// leads to.
type UntrustedError struct {
	Host string
	Seen []*x509.Certificate // as presented, the server's own first
	Err  error
}

// Error says what was seen and how to go on.
func (e *UntrustedError) Error() string {
	if len(e.Seen) == 0 {
		return fmt.Sprintf("%s presents no certificate", e.Host)
	}
	what, last := "own certificate", e.Seen[len(e.Seen)-1]
	if len(e.Seen) > 1 {
		what = fmt.Sprintf("CA %q", last.Subject.String())
	}
	return fmt.Sprintf("%s is not trusted: %s\nThe SHA-256 of its %s is %s\nCompare it with what `privyseal status` "+
		"prints on the server itself, or ask who runs it; if it is the same, give it with --root.",
		e.Host, e.Err, what, Fingerprint(last))
}

// Unwrap returns why.
func (e *UntrustedError) Unwrap() error { return e.Err }

// Fingerprint returns the SHA-256 of a certificate in hexadecimal, as Remote.Root
// takes it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// DialURL returns a client of the server that r says. It does not connect: the first
// call does. Redirects are not followed: a secret goes to one server.
func DialURL(r Remote) (*Client, error) {
	base, err := origin(r.URL)
	if err != nil {
		return nil, err
	}
	settings, err := r.tls(base.Hostname(), func(*x509.Certificate) {})
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTime}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: settings, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			return conn, nil
		},
		TLSHandshakeTimeout: dialTime, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: longTime + answerTime,
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		http: &http.Client{Transport: transport, CheckRedirect: stay}, base: base.String(), bearer: r.Bearer,
	}, nil
}

func origin(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no URL of a server: want https://HOST:PORT", text)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// dialTime is what a connection may take, and its TLS handshake.
const dialTime = 10 * time.Second

// tls verifies in Trust alone, and always: what the library verifies beforehand would
// know nothing of a pinned certificate. tell is told what trust rests on.
func (r Remote) tls(host string, tell func(*x509.Certificate)) (*tls.Config, error) {
	var pin []byte
	if r.Root != "" {
		sum, err := hex.DecodeString(strings.ReplaceAll(r.Root, ":", ""))
		if err != nil || len(sum) != sha256.Size {
			return nil, errors.New("the SHA-256 of a root is 64 hexadecimal digits")
		}
		pin = sum
	}
	t := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: cmp.Or(r.ServerName, host),
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below verifies every connection
	}
	t.VerifyConnection = func(s tls.ConnectionState) error {
		trusted := r.Roots
		if pin != nil {
			trusted = pinned(s.PeerCertificates, pin)
		}
		c, err := Trust(host, s.PeerCertificates, trusted)
		if err == nil {
			tell(c)
		}
		return err
	}
	if r.Certificate != nil {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return r.Certificate, nil
		}
	}
	return t, nil
}

// pinned returns the presented certificate that a pin names; none, but not nil, if
// there is no such.
func pinned(presented []*x509.Certificate, pin []byte) []*x509.Certificate {
	for _, c := range presented {
		if sum := sha256.Sum256(c.Raw); string(sum[:]) == string(pin) {
			return []*x509.Certificate{c}
		}
	}
	return []*x509.Certificate{}
}

// Trust verifies what the server at host presented, its own certificate first, and
// returns the trusted certificate that it rests on: one of roots, or where roots is
// nil one of the system's. A root may be the server's own self-signed certificate,
// which need not be a CA's. Its error is an *UntrustedError.
func Trust(host string, presented, roots []*x509.Certificate) (*x509.Certificate, error) {
	refused := &UntrustedError{Host: host, Seen: presented, Err: errors.New("nothing in it leads to a trusted root")}
	if len(presented) == 0 {
		return nil, refused
	}
	own := presented[0]
	options := x509.VerifyOptions{DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range presented[1:] {
		options.Intermediates.AddCert(c)
	}
	if roots != nil {
		options.Roots = x509.NewCertPool()
	}
	for _, c := range roots {
		if c.Equal(own) {
			return own, selfSigned(refused, own)
		}
		options.Roots.AddCert(c)
	}
	chains, err := own.Verify(options)
	if err != nil {
		if unknown := (x509.UnknownAuthorityError{}); !errors.As(err, &unknown) {
			refused.Err = err // it is known, and has expired or has another name
		}
		return nil, refused
	}
	return chains[0][len(chains[0])-1], nil
}

// selfSigned judges a server's own certificate that is trusted by itself: the pin is
// of these very octets, so that its names say nothing more; its time does.
func selfSigned(refused *UntrustedError, own *x509.Certificate) error {
	now := time.Now() //nolint:forbidigo // of a client, as crypto/x509 takes it
	switch {
	case own.CheckSignature(own.SignatureAlgorithm, own.RawTBSCertificate, own.Signature) != nil:
		refused.Err = errors.New("what is trusted is the server's own certificate, which is not self-signed: " +
			"trust the root above it")
	case now.Before(own.NotBefore), now.After(own.NotAfter):
		refused.Err = fmt.Errorf("its self-signed certificate is good from %s to %s only",
			own.NotBefore.Format(time.RFC3339), own.NotAfter.Format(time.RFC3339))
	default:
		return nil
	}
	return refused
}
