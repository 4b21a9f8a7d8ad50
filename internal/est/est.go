// Package est is the front-end for Enrolment over Secure Transport: RFC 7030,
// with the corrections of RFC 8951 and the CSR attributes of RFC 9908.
//
// It translates: a PKCS#10 comes in, an issuance.Request goes to the one door, a
// certs-only CMS message with the certificate or a line of text goes out. It judges
// who asks (client certificates and HTTP Basic, auth.go) and whether a request is for
// the one who asks (names.go), and holds no policy on names, keys or validity: profile
// and issuance do. Whether a certificate of ours counts, and what its holder renews, is
// the business of enrolment; whether a request is one that was sent before, or waits
// for a person, that of approval.
//
// Entry points: New, Server.Routes and Server.TLS. Every operation has a file of
// its name. The listener asks for a client certificate and takes whatever it
// gets; what is wrong with it is said in an HTTP answer (rule E10). Nothing that
// a client sent in a Content-Transfer-Encoding field is looked at (rule E2).
package est

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/limit"
)

// Config is what may be configured of EST. Its fields' comments are the manual.
type Config struct {
	// Endpoints are the EST services, at most one for each label.
	Endpoints []Endpoint
}

// Endpoint is one EST service: its own authentication, profiles and issuer.
type Endpoint struct {
	Name           string   // in records and in limits
	Label          string   // path segment: /.well-known/est/LABEL/…; empty is /.well-known/est/…
	Issuer         string   // name of the issuer or pool that signs
	Profiles       []string // that its clients may have
	DefaultProfile string   // for those that are not bound to one; must be in Profiles

	Auth            Auth
	Anchors         []*x509.Certificate // whose certificates may enrol first, such as a manufacturer's CAs
	AcceptProfiles  []string            // profiles of our certificates that log in here, beside Profiles
	AcceptProtocols []string            // by which our certificates must first have been enrolled; empty is any
	RAProfiles      []string            // profiles of our certificates that may enrol for others (cmcRA)
	OwnNames        Names               // what a client with our certificate may ask for in simpleenroll
	AnchorNames     Names               // the same for one with an anchor's certificate
	Grace           time.Duration       // how long an expired certificate may still re-enrol
	RenewKey        string              // in simplereenroll: RenewAny (or empty), RenewNew, RenewSame
	Challenge       Challenge           // what a challengePassword in a request means
	Keygen          bool                // serverkeygen is offered
	WrapBase64      string              // of answers: WrapAuto (or empty), WrapAlways, WrapNever
	Rollover        []*x509.Certificate // further CA certificates of cacerts (RFC 7030, section 4.1.3)
}

// Auth is how the clients of an endpoint prove who they are.
type Auth string

// The ways. Re-enrolment needs a certificate in all of them.
const (
	AuthEither      Auth = "either" // a certificate or a password
	AuthBoth        Auth = "both"   // a certificate and a password
	AuthCertificate Auth = "certificate"
	AuthBasic       Auth = "basic"
)

func (a Auth) basic() bool       { return a != AuthCertificate }
func (a Auth) certificate() bool { return a != AuthBasic }

// Names says for whom a client that shows a certificate may ask.
type Names string

// The rules of names. The profile judges in all of them.
const (
	NamesSame   Names = "same"   // subject and alternative names are those of the certificate
	NamesSerial Names = "serial" // the subject has the serialNumber of the certificate's
	NamesAny    Names = "any"    // the profile alone decides
)

// What simplereenroll demands of the new key.
const (
	RenewAny  = "any"
	RenewNew  = "new"
	RenewSame = "same"
)

// Challenge is what a challengePassword in a request means (rule E17).
type Challenge string

// The meanings.
const (
	ChallengeBinding  Challenge = "binding"  // if it is there, it binds the request to the connection
	ChallengeRequired Challenge = "required" // it has to be there and bind
	ChallengeIgnore   Challenge = "ignore"   // nothing: some clients put other things there
)

// Deps are what a Server works with.
type Deps struct {
	Pipeline  *issuance.Pipeline
	Approvals *approval.Queue
	Enrolment *enrolment.Enrolment
	Users     *credential.ESTUsers
	Limits    *limit.Limiter
	// Signer returns the certificate and key of the listener: it signs keys that
	// were made here and leave encrypted. May be nil.
	Signer func() *tls.Certificate
	Log    *slog.Logger
	Now    func() time.Time
}

// Server answers EST. It is safe for concurrent use.
type Server struct {
	Deps
	settings atomic.Pointer[settings]
	makers   chan struct{} // one for each key that is being made
}

// settings are a checked configuration; a reload swaps them whole.
type settings struct {
	byLabel map[string]*endpoint
	binding bool // some endpoint needs tls-unique
}

type endpoint struct {
	Endpoint
	anchors *x509.CertPool // nil if there are none
}

// New checks the configuration and returns a Server.
func New(cfg Config, deps Deps) (*Server, error) {
	s := &Server{Deps: deps, makers: make(chan struct{}, keyMakers)}
	if err := s.Swap(cfg); err != nil {
		return nil, err
	}
	s.Approvals.Recheck("est", s.recheck)
	return s, nil
}

// Swap puts a new configuration in force, or reports all that is wrong with it
// and changes nothing.
func (s *Server) Swap(cfg Config) error {
	set := &settings{byLabel: map[string]*endpoint{}}
	var wrong []error
	for _, e := range cfg.Endpoints {
		e.defaults()
		if err := e.Check(); err != nil {
			wrong = append(wrong, fmt.Errorf("est endpoint %q: %w", e.Name, err))
		}
		if other := set.byLabel[e.Label]; other != nil {
			wrong = append(wrong, fmt.Errorf("est endpoint %q: %q has the label %q too", e.Name, other.Name, e.Label))
		}
		ep := &endpoint{Endpoint: e}
		if len(e.Anchors) > 0 {
			ep.anchors = x509.NewCertPool()
			for _, a := range e.Anchors {
				ep.anchors.AddCert(a)
			}
		}
		set.byLabel[e.Label] = ep
		set.binding = set.binding || e.Challenge == ChallengeRequired
	}
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	s.settings.Store(set)
	return nil
}

func (e *Endpoint) defaults() {
	if e.Auth == "" {
		e.Auth = AuthEither
	}
	if e.OwnNames == "" {
		e.OwnNames = NamesSame
	}
	if e.AnchorNames == "" {
		e.AnchorNames = NamesSerial
	}
	if e.RenewKey == "" {
		e.RenewKey = RenewAny
	}
	if e.Challenge == "" {
		e.Challenge = ChallengeBinding
	}
	if e.WrapBase64 == "" {
		e.WrapBase64 = WrapAuto
	}
	if e.DefaultProfile == "" && len(e.Profiles) > 0 {
		e.DefaultProfile = e.Profiles[0]
	}
}

// Check reports what is wrong with an endpoint; empty fields have their defaults.
func (e Endpoint) Check() error {
	e.defaults()
	var wrong []error
	oneOf := func(what string, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			wrong = append(wrong, fmt.Errorf("%s %q: want one of %s", what, value, strings.Join(allowed, ", ")))
		}
	}
	if _, taken := operations[e.Label]; taken {
		wrong = append(wrong, fmt.Errorf("label %q: it is the name of an operation", e.Label)) // rule E1
	}
	if strings.ContainsAny(e.Label, "/?#% ") {
		wrong = append(wrong, fmt.Errorf("label %q: want one plain path segment", e.Label))
	}
	if e.Issuer == "" {
		wrong = append(wrong, errors.New("no issuer"))
	}
	if !slices.Contains(e.Profiles, e.DefaultProfile) {
		wrong = append(wrong, fmt.Errorf("default profile %q is not one of its profiles", e.DefaultProfile))
	}
	oneOf("auth", string(e.Auth), string(AuthEither), string(AuthBoth), string(AuthCertificate), string(AuthBasic))
	oneOf("own_names", string(e.OwnNames), string(NamesSame), string(NamesSerial), string(NamesAny))
	oneOf("anchor_names", string(e.AnchorNames), string(NamesSame), string(NamesSerial), string(NamesAny))
	oneOf("renew_key", e.RenewKey, RenewAny, RenewNew, RenewSame)
	oneOf("challenge_password", string(e.Challenge), string(ChallengeBinding), string(ChallengeRequired),
		string(ChallengeIgnore))
	oneOf("wrap_base64", e.WrapBase64, WrapAuto, WrapAlways, WrapNever)
	if err := enrolment.CheckProtocols(e.AcceptProtocols); err != nil {
		wrong = append(wrong, err)
	}
	if e.Grace < 0 {
		wrong = append(wrong, errors.New("grace is negative"))
	}
	return errors.Join(wrong...)
}

// TLS returns the settings of the listener: it asks for a client certificate and
// leaves the judgement to the handler, speaks HTTP/1.1, never resumes a session,
// and stays at TLS 1.2 while an endpoint needs tls-unique, which TLS 1.3 does not have (rules E10,
// E17). A reload is followed from the next connection on.
func (s *Server) TLS(base *tls.Config) *tls.Config {
	open := base.Clone()
	open.ClientAuth = tls.RequestClientCert
	open.SessionTicketsDisabled = true
	open.NextProtos = []string{"http/1.1"} // what every embedded client has (rule E3)
	capped := open.Clone()
	capped.MaxVersion = tls.VersionTLS12
	listener := open.Clone()
	listener.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if s.settings.Load().binding {
			return capped, nil
		}
		return open, nil
	}
	return listener
}

// rules are what the endpoint demands of certificates of ours.
func (ep *endpoint) rules() enrolment.Rules {
	return enrolment.Rules{
		Endpoint: ep.Name, Issuer: ep.Issuer, Profiles: ep.Profiles,
		LogIn:     slices.Concat(ep.AcceptProfiles, ep.RAProfiles),
		Protocols: ep.AcceptProtocols, Grace: ep.Grace,
	}
}
