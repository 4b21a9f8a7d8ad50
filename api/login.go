package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Trusted connects and returns the certificate that trust in the server rests on. See
// Trust for its errors.
func (r Remote) Trusted(ctx context.Context) (*x509.Certificate, error) {
	base, err := origin(r.URL)
	if err != nil {
		return nil, err
	}
	var found *x509.Certificate
	settings, err := r.tls(base.Hostname(), func(c *x509.Certificate) { found = c })
	if err != nil {
		return nil, err
	}
	addr := base.Host
	if base.Port() == "" {
		addr = net.JoinHostPort(base.Hostname(), "443")
	}
	conn, err := (&tls.Dialer{Config: settings, NetDialer: &net.Dialer{Timeout: dialTime}}).DialContext(ctx, "tcp", addr)
	var untrusted *UntrustedError
	switch {
	case errors.As(err, &untrusted):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return found, conn.Close()
}

// The ways in. They are on the network alone, and need no session.
var (
	listWays    = way[None, Ways]("GET", "/v1/login")
	endSession  = way[None, struct{}]("POST", "/v1/login/end")
	startLogin  = way[LoginStart, LoginStarted]("POST", "/v1/login/oidc/%s/start")
	startDevice = way[struct{}, DeviceStarted]("POST", "/v1/login/oidc/%s/device")
	certLogin   = way[struct{}, LoggedIn]("POST", "/v1/login/certificate")
	finishLogin = way[LoginFinish, LoggedIn]("POST", "/v1/login/oidc/%s/finish")
)

// way returns what calls a path at a provider.
func way[B, R any](method, path string) func(ctx context.Context, c *Client, provider string, body B) (*R, error) {
	return func(ctx context.Context, c *Client, provider string, body B) (*R, error) {
		o := Operation[None, B, R]{Declaration{Name: path, Method: method, Path: path}}
		if provider != "" {
			o.Path = fmt.Sprintf(path, url.PathEscape(provider))
		}
		return o.Call(ctx, c, None{}, body)
	}
}

// Ways returns the ways in at a server.
func (c *Client) Ways(ctx context.Context) (*Ways, error) { return listWays(ctx, c, "", None{}) }

// StartLogin begins a login by authorization code.
func (c *Client) StartLogin(ctx context.Context, provider string, b LoginStart) (*LoginStarted, error) {
	return startLogin(ctx, c, provider, b)
}

// StartDevice begins a login by device code.
func (c *Client) StartDevice(ctx context.Context, provider string) (*DeviceStarted, error) {
	return startDevice(ctx, c, provider, struct{}{})
}

// FinishLogin ends a login. A *Problem with the status 202 says to ask again.
func (c *Client) FinishLogin(ctx context.Context, provider string, b LoginFinish) (*LoggedIn, error) {
	return finishLogin(ctx, c, provider, b)
}

// CertificateLogin logs in by Remote.Certificate, at Remote.ServerName.
func (c *Client) CertificateLogin(ctx context.Context) (*LoggedIn, error) {
	return certLogin(ctx, c, "", struct{}{})
}

// EndSession ends the session by which the client asks.
func (c *Client) EndSession(ctx context.Context) error {
	_, err := endSession(ctx, c, "", None{})
	return err
}

// Pending reports whether a login waits for a person to enter the user code.
func (p *Problem) Pending() bool {
	return p.Status == http.StatusAccepted && p.Reason == "login_pending"
}

// Ways are the ways in at a listener.
type Ways struct {
	Certificate *CertificateWay `json:"certificate,omitempty"`
	OIDC        []OIDCWay       `json:"oidc"`
}

// CertificateWay says that client certificates log in.
type CertificateWay struct {
	ServerName string `json:"server_name"` // Under this name of TLS (SNI) they are asked for.
}

// OIDCWay is a provider that people log in at.
type OIDCWay struct {
	Issuer string `json:"issuer"`
	Name   string `json:"name"`
}

// LoginStart begins a login by authorization code.
type LoginStart struct {
	RedirectURI string `json:"redirect_uri"` // On the loopback interface, by address.
}

// LoginStarted says where the browser goes. Flow goes into LoginFinish with the code that
// comes to the redirect URI, whose state must be State.
type LoginStarted struct {
	AuthorizeURL string `json:"authorize_url"`
	Flow         string `json:"flow"`
	State        string `json:"state"`
}

// DeviceStarted says where a person enters which code, on any device. LoginFinish with
// Flow waits for it; 202 says to ask again.
type DeviceStarted struct {
	Flow                    string `json:"flow"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete,omitempty"`
}

// LoginFinish ends a login. Code and State are of an authorization code only.
type LoginFinish struct {
	Code  string `json:"code,omitempty"`
	Flow  string `json:"flow"`
	State string `json:"state,omitempty"`
}

// LoggedIn is a new session.
type LoggedIn struct {
	Caller    string    `json:"caller"` // What records name it by.
	ExpiresAt time.Time `json:"expires_at"`
	Name      string    `json:"name,omitempty"`
	Token     string    `json:"token"` // Goes into Authorization: Bearer. It is in no other answer.
}
