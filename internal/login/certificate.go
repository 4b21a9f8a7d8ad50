package login

import (
	"cmp"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/strictyaml"
	"github.com/privyseal/privyseal/internal/web"
)

// KindCertificate is the kind of logins by client certificate.
const KindCertificate = "certificate"

// noEndpoint is the name of no endpoint: who enrolled a certificate does not count.
const noEndpoint = "\x00"

// AnchorConfig is a CA, ours or another, whose certificates log in.
type AnchorConfig struct {
	// Name is part of the subject of who logs in, certificate:NAME#VALUE, for good.
	Name string `yaml:"name" json:"name"`
	// Issuer is a pool or issuer of ours. Revocation is then what is on record here.
	Issuer string `yaml:"issuer,omitempty" json:"issuer,omitempty"`
	// Profiles are those of Issuer's certificates that log in. Default: operator.
	Profiles []string `yaml:"profiles,omitempty" json:"profiles,omitempty"`
	// File is a PEM file of CAs that are not ours, in place of Issuer.
	File string `yaml:"file,omitempty" json:"file,omitempty" path:"file"`
	// CRL is a file with the newest revocation list, PEM, of each CA of File and below,
	// read at each login. A list that is missing or old refuses.
	CRL string `yaml:"crl,omitempty" json:"crl,omitempty" path:"file"`
	// Revocation is none where File's certificates are taken without a list: a lost
	// card then logs in until it expires.
	Revocation string `yaml:"revocation,omitempty" json:"revocation,omitempty" jsonschema:"enum=none"`
	// Subject is the field that says who somebody is, the same in each renewal: email
	// or uri, of which a certificate must have one, or serial-number of the subject.
	Subject string `yaml:"subject" json:"subject" jsonschema:"enum=email,enum=uri,enum=serial-number"`
}

// Check reports what is wrong with the configuration by itself.
func (c *AnchorConfig) Check() error {
	foreign := c.File != ""
	return errors.Join(
		strictyaml.WrongIf(foreign == (c.Issuer != ""), "file", "want either issuer or file"),
		strictyaml.WrongIf(!foreign && (c.CRL != "" || c.Revocation != ""), "crl", "is of file: our own are on record"),
		strictyaml.WrongIf(foreign && len(c.Profiles) > 0, "profiles", "are of issuer"),
		strictyaml.OneOf("revocation", c.Revocation, "", "none"),
		strictyaml.WrongIf(foreign && (c.CRL == "") == (c.Revocation == ""), "crl",
			"want a file with the newest list, or revocation: none"),
		strictyaml.OneOf("subject", c.Subject, "email", "uri", "serial-number"),
	)
}

// OperatorProfile is the built-in profile of certificates that log in.
const OperatorProfile = "operator"

// Anchor is one that can be asked.
type Anchor struct {
	AnchorConfig
	Roots []*x509.Certificate    // of File
	Lists func() ([]byte, error) // reads CRL

	mu     sync.Mutex
	newest map[string]*big.Int // number of the newest list seen, by the CA's certificate
}

// certificate logs in by the client certificate of the connection.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request) error {
	var b struct{}
	if err := body(w, r, &b); err != nil {
		return err
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return fault.New(fault.Unauthenticated, "no client certificate was shown: it is asked for under another server "+
			"name, which GET /v1/login tells").Because("certificate_missing")
	}
	shown := r.TLS.PeerCertificates
	who := "certificate " + pki.Fingerprint(shown[0].Raw)
	guess := limit.Guess{Source: web.Source(web.Client(r)), Endpoint: "login", Identity: who, Unknown: true}
	l, err := s.guarded(r.Context(), guess, func() (access.Login, error) { return s.byCertificate(r.Context(), shown) })
	if err != nil {
		return s.refused(r, who, err)
	}
	session, err := s.open(w, r, l)
	if err == nil {
		s.keep(session.ID, kept{shown: shown, login: l, until: session.ExpiresAt})
	}
	return err
}

// byCertificate proves a login by the first anchor that the certificate is below. TLS has
// proved that the client has its key, and nothing else.
func (s *Server) byCertificate(ctx context.Context, shown []*x509.Certificate) (access.Login, error) {
	refused := refuse("certificate_other_issuer", nil, "client certificate: no anchor of access.certificates is above it")
	for _, a := range s.ways.Load().anchors {
		var err error
		if a.Issuer != "" {
			err = s.ours(ctx, a, shown[0])
		} else {
			err = a.theirs(ctx, shown, s.cfg.Now())
		}
		if err == nil {
			return a.login(shown[0], s.cfg.Now())
		}
		if fault.Of(err).Reason != "certificate_other_issuer" {
			refused = err
		}
		if fault.Is(err, fault.Internal) || fault.Is(err, fault.Unavailable) {
			return access.Login{}, err
		}
	}
	return access.Login{}, refused
}

// ours judges by what is on record here.
func (s *Server) ours(ctx context.Context, a *Anchor, c *x509.Certificate) error {
	h, err := s.cfg.Enrolment.Holder(ctx, c)
	if err == nil {
		profiles := a.Profiles
		if len(profiles) == 0 {
			profiles = []string{OperatorProfile}
		}
		rules := enrolment.Rules{Endpoint: noEndpoint, Issuer: a.Issuer, LogIn: profiles}
		err = s.cfg.Enrolment.Check(ctx, rules, h, false)
	}
	switch f := fault.Of(err); {
	case err == nil:
		return nil
	case f.Kind == fault.NotFound:
		return refuse("certificate_other_issuer", err, "client certificate: it was not issued here")
	case f.Kind == fault.Denied:
		return refuse(f.Reason, err, "%s", f.Detail)
	}
	return err
}

// theirs judges a certificate of another CA.
func (a *Anchor) theirs(ctx context.Context, shown []*x509.Certificate, now time.Time) error {
	for _, c := range shown { // any of them may be used on the way to the anchor
		if err := pki.Usable(c.PublicKey); err != nil {
			return refuse("certificate_key", err, "client certificate: a key in its chain is none to compute with")
		}
	}
	var chains [][]*x509.Certificate
	err := pki.UseKey(ctx, shown[0].PublicKey, func() (err error) {
		options := x509.VerifyOptions{
			Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		for _, c := range a.Roots {
			options.Roots.AddCert(c)
		}
		for _, c := range shown[1:] {
			options.Intermediates.AddCert(c)
		}
		chains, err = shown[0].Verify(options)
		return err
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return refuse("certificate_expired", err, "client certificate: it has expired, or is not valid yet")
	case fault.Is(err, fault.Unavailable):
		return err
	case err != nil:
		return refuse("certificate_other_issuer", err, "client certificate: it is not below the anchor %s", a.Name)
	case a.Revocation == "none":
		return nil
	}
	return a.revoked(ctx, chains[0], now)
}

// revoked looks for each certificate of a chain, the anchor apart, in the list of the CA
// above it.
func (a *Anchor) revoked(ctx context.Context, chain []*x509.Certificate, now time.Time) error {
	stale := func(err error, format string, args ...any) error {
		return refuse("crl_stale", err, "client certificate: its CA's revocation list is missing or old here ("+format+
			"); the operators of this CA put a newer one into access.certificates[].crl", args...)
	}
	text, err := a.Lists()
	if err != nil {
		return stale(err, "it cannot be read")
	}
	ders, err := pki.Objects(text, pki.Lists)
	if err != nil {
		return stale(err, "it cannot be read")
	}
	for i, c := range chain[:len(chain)-1] {
		above := chain[i+1]
		list := newestOf(ctx, ders, above)
		switch {
		case list == nil:
			return stale(nil, "there is none of %s", above.Subject)
		case now.Before(list.ThisUpdate), !now.Before(list.NextUpdate):
			return stale(nil, "that of %s was good until %s", above.Subject, list.NextUpdate.Format(time.RFC3339))
		case !a.rises(above, list.Number):
			return stale(nil, "that of %s is older than one that was here", above.Subject)
		}
		if slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
			return e.SerialNumber.Cmp(c.SerialNumber) == 0
		}) {
			return refuse("certificate_revoked", nil, "client certificate: it, or a CA above it, was revoked")
		}
	}
	return nil
}

// newestOf returns the newest complete list that a CA has signed.
func newestOf(ctx context.Context, ders [][]byte, ca *x509.Certificate) (newest *x509.RevocationList) {
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil || partial(list) || list.Number == nil {
			continue
		}
		err = pki.UseKey(ctx, ca.PublicKey, func() error { return list.CheckSignatureFrom(ca) })
		if err != nil {
			continue
		}
		if newest == nil || list.Number.Cmp(newest.Number) > 0 {
			newest = list
		}
	}
	return newest
}

// partial reports whether a list is a delta, or of a part of a CA's certificates
// (RFC 5280, sections 5.2.4 and 5.2.5).
func partial(list *x509.RevocationList) bool {
	return slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(oidDelta) || e.Id.Equal(oidDistributionPoint)
	})
}

var (
	oidDelta             = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// rises remembers the newest number of a CA's lists: what was revoked once stays so here.
func (a *Anchor) rises(ca *x509.Certificate, number *big.Int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.newest == nil {
		a.newest = map[string]*big.Int{}
	}
	if last := a.newest[string(ca.Raw)]; last != nil && number.Cmp(last) < 0 {
		return false
	}
	a.newest[string(ca.Raw)] = number
	return true
}

// remember takes over what the anchor of this name knew before a reload.
func (a *Anchor) remember(before []*Anchor) {
	for _, b := range before {
		if b.Name == a.Name {
			b.mu.Lock()
			a.newest = maps.Clone(b.newest)
			b.mu.Unlock()
		}
	}
}

// login names who has a certificate.
func (a *Anchor) login(c *x509.Certificate, now time.Time) (access.Login, error) {
	var values []string
	switch a.Subject {
	case "email":
		values = c.EmailAddresses
	case "uri":
		for _, u := range c.URIs {
			values = append(values, u.String())
		}
	default:
		if c.Subject.SerialNumber != "" {
			values = []string{c.Subject.SerialNumber}
		}
	}
	if len(values) != 1 || values[0] == "" {
		return access.Login{}, refuse("certificate_subject", nil,
			"client certificate: it has %d values of the field %s, which says who you are: want one", len(values), a.Subject)
	}
	return access.Login{
		Kind: KindCertificate, Issuer: a.Name, ID: values[0], Name: cmp.Or(c.Subject.CommonName, values[0]), At: now,
		Until: c.NotAfter,
	}, nil
}

// certificateAgain judges the certificate of a session anew: one that was revoked since ends it.
func (s *Server) certificateAgain(ctx context.Context, session string, k kept) error {
	l, err := s.byCertificate(ctx, k.shown)
	if err == nil && l.Subject() != k.login.Subject() {
		err = refuse("certificate_subject", nil, "another anchor says who this is")
	}
	switch {
	case err == nil && l.At.Sub(k.login.At) >= groupsDue:
		return s.proved(ctx, session, k, l)
	case !fault.Is(err, fault.Unauthenticated) || fault.Of(err).Reason == "crl_stale":
		return err
	}
	return s.over(ctx, session, k, fmt.Errorf("certificate: %w", err))
}
