package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/login"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

// buildLogin makes the ways in at https-admin, and the certificate that it presents
// while it has nothing better: it is there before any CA is.
func (srv *server) buildLogin(ctx context.Context) error {
	cfg := srv.cfg.Load()
	srv.login = login.New(login.Config{
		Access: srv.access, Store: srv.store, Sealer: srv.sealer, Limits: srv.limits, Now: srv.now, Log: srv.log,
		Render: admin.Render, Enrolment: srv.enrolment,
	})
	if l := cfg.Listeners.HTTPSAdmin; l.Addr != "" {
		name := "localhost"
		if len(l.TLS.Names) > 0 {
			name = l.TLS.Names[0]
		}
		var err error
		srv.adminSelf, err = owncert.SelfSigned(ctx, owncert.File{
			Path:   filepath.Join(cfg.State.Dir, "tls", listenAdmin+"-self.pem"),
			Secret: cfg.State.Passphrase.Secret(cfg.Dir), Log: srv.log,
		}, name, srv.now())
		if err != nil {
			return fmt.Errorf("self-signed certificate of listener %s: %w", listenAdmin, err)
		}
	}
	return srv.swapLogin(cfg)
}

// swapLogin puts the providers of a configuration in force.
func (srv *server) swapLogin(cfg *config.File) error {
	providers, err := cfg.Providers()
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	anchors, err := cfg.Anchors()
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	srv.login.Swap(providers, anchors, cfg.Access.CertificateName)
	return nil
}

// adminRoutes is the operator API, less what is for the socket alone, and the ways in.
func (srv *server) adminRoutes() http.Handler {
	operations, logins := srv.admin.Remote(), srv.login.Routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/login" || strings.HasPrefix(r.URL.Path, "/v1/login/") {
			logins.ServeHTTP(w, r)
			return
		}
		operations.ServeHTTP(w, r)
	})
}

// adminConfig sets what is https-admin's own.
func (srv *server) adminConfig(c *web.Config) {
	pair, own := srv.tls[listenAdmin], c.TLS.GetCertificate
	self := srv.adminSelf.TLS()
	c.TLS.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if pair.Current() == nil {
			return self, nil
		}
		return own(hello)
	}
	c.TLS = srv.login.TLS(c.TLS)
	c.Limits.Body = admin.MaxBody
	c.Limits.Write = 0 // an export may be long
}

// rootHealth says what clients of https-admin trust it by.
func (srv *server) rootHealth(context.Context) []health.Check {
	l := srv.cfg.Load().Listeners.HTTPSAdmin
	if l.Addr == "" || srv.adminSelf == nil {
		return nil
	}
	check := health.Check{Name: "trust " + listenAdmin, State: health.OK}
	current := srv.tls[listenAdmin].Current()
	if current == nil {
		check.Detail = "it presents its own self-signed certificate: privyseal login --root " +
			pki.Fingerprint(srv.adminSelf.Certificate.Raw)
		if l.TLS.Issuer != "" || l.TLS.Certificate != "" {
			check.State = health.Warning
			check.Remedy = "clients that trust its root refuse it until it has a certificate again"
		}
		return []health.Check{check}
	}
	last := current.Certificate[len(current.Certificate)-1]
	if top, err := x509.ParseCertificate(last); err == nil {
		check.Detail = fmt.Sprintf("below %s: privyseal login --root %s", top.Subject, pki.Fingerprint(last))
	}
	return []health.Check{check}
}
