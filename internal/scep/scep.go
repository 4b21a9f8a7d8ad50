// Package scep is the front-end for RFC 8894, the Simple Certificate Enrolment
// Protocol of routers, phones and device management.
//
// It translates: a pkiMessage comes in, an issuance.Request goes to the one
// door, and a CertRep goes out. What a device may have is decided by profile and
// issuance; who it is, by a challenge, by a certificate of ours or by a person.
//
// Entry points: New, Server.Routes and Server.Renew. operation.go is the way of
// every pkiMessage; enrol.go, poll.go and lookup.go are its kinds; ra.go keeps
// the certificates under which clients write to an endpoint. Everything that
// depends on a decrypted octet which its sender need not know is hidden behind one
// answer (unreadable.go), and a client's bytes alone never name a certificate: a
// retransmission is found by the row of its request.
package scep

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Endpoint is one SCEP service.
type Endpoint struct {
	Name           string   // in records, and by default in the path
	Issuer         string   // id of the issuer, or name of the pool, that signs
	Profiles       []string // of the certificates that it issues and renews
	DefaultProfile string   // where the challenge is bound to none
	Secret         string   // what Options.Challenge refers to; empty is none
	// Token opens the key that Options.RAKeyRef names. It is called often and
	// returns the same one.
	Token func(ctx context.Context) (PrivateKey, error)
	Options
}

// PrivateKey is the key of an RA.
type PrivateKey interface {
	crypto.Signer
	crypto.Decrypter
}

// Options are the switches of an endpoint, in the words of the configuration.
type Options struct {
	// Path is the endpoint's part of the path: /scep/PATH. Default: its name.
	Path string `yaml:"path,omitempty"`
	// Paths are other paths of the http listener that lead here, for devices with one
	// of their own, such as /cgi-bin/pkiclient.exe or /certsrv/mscep/mscep.dll. Each is
	// taken as it stands, without a suffix.
	Paths []string `yaml:"paths,omitempty"`
	// Challenge refers to a challenge password that all devices share: file:PATH,
	// env:NAME or credential:NAME. Those of `privyseal scep challenge create` are good in any case.
	Challenge string `yaml:"challenge,omitempty"`
	// ChallengeNames are the names that Challenge is good for, in the words of
	// `privyseal scep challenge create --name`, such as *.devices.example.test,
	// 10.0.0.0/8 or CN=*,O=Example. Without them, and without ChallengeAnyName, it is
	// good for any name, and a warning says so.
	ChallengeNames []string `yaml:"challenge_names,omitempty"`
	// ChallengeAnyName says that Challenge is meant for any name.
	ChallengeAnyName bool `yaml:"challenge_any_name,omitempty"`
	// Webhook is the name of one of the configuration's webhooks. It is asked about
	// each request with a challenge password that is not Challenge; those of
	// `privyseal scep challenge create` count for nothing here then.
	Webhook string `yaml:"webhook,omitempty"`
	// CABundle is what GetCACert answers: ra-only, ra+ca (the default) or full,
	// which adds all CAs up to the root. Exactly one certificate of it can be
	// encrypted to, the first one.
	CABundle string `yaml:"ca_bundle,omitempty" jsonschema:"enum=ra-only,enum=ra+ca,enum=full"`
	// CAInReply sends the issuing CA's certificate with each issued one. Some old
	// VPN clients need it, others fail with it.
	CAInReply bool `yaml:"ca_in_reply,omitempty"`
	// RenewByPKCSReq takes a PKCSReq that is signed by a valid certificate of ours
	// as a renewal, which needs no challenge. macOS, Cisco IOS, sscep and jscep renew
	// so. Default: true.
	RenewByPKCSReq *bool `yaml:"renew_by_pkcsreq,omitempty"`
	// AcceptProtocols are the protocols by which the certificates that renew here
	// were first enrolled: est, scep, acme, operator. Without it all of them may, and
	// a warning says so.
	AcceptProtocols []string `yaml:"accept_protocols,omitempty" jsonschema:"enum=est,enum=scep,enum=acme,enum=operator"`
	// RenewalGrace is how long after its end a certificate may still be renewed.
	RenewalGrace time.Duration `yaml:"renewal_grace,omitempty"`
	// Manual takes requests without a challenge, or with one that is not right, which
	// a person has to approve. It needs profiles with approval.
	Manual bool `yaml:"manual,omitempty"`
	// TripleDES, SHA1 and SingleDES accept, and answer with, what old devices
	// know. All are off by default. SHA1 holds for messages and certificate
	// requests, never for certificates.
	TripleDES bool `yaml:"triple_des,omitempty"`
	SHA1      bool `yaml:"sha1,omitempty"`
	SingleDES bool `yaml:"single_des,omitempty"`
	// Ciphers are those that a content may be encrypted with, and no others: aes-gcm,
	// aes-cbc, 3des-cbc, des-cbc. Without it: aes-cbc, aes-gcm, and what TripleDES
	// and SingleDES add, which cannot stand beside it. Only aes-gcm is authenticated;
	// RFC 8894 does not have it, and few devices do.
	Ciphers []string `yaml:"ciphers,omitempty" jsonschema:"enum=aes-gcm,enum=aes-cbc,enum=3des-cbc,enum=des-cbc"`
	// RAKey is the kind of the RA certificate's key: rsa-2048 (the default),
	// rsa-3072 or rsa-4096.
	RAKey string `yaml:"ra_key,omitempty" jsonschema:"enum=rsa-2048,enum=rsa-3072,enum=rsa-4096"`
	// SeparateRAKeys makes two RA certificates, one to encrypt to and one that
	// signs answers.
	SeparateRAKeys bool `yaml:"separate_ra_keys,omitempty"`
	// RAKeyRef puts the RA certificate's key into a token: pkcs11:token=…;object=….
	// It is made there at first need, of the kind RAKey, and stays when the
	// certificate is renewed. Without it, keys are kept sealed in the database. Where
	// several nodes share a token, start one of them first.
	RAKeyRef keys.Ref `yaml:"ra_key_ref,omitempty"`
	// RAPassphrase refers to the token's PIN.
	RAPassphrase string `yaml:"ra_passphrase,omitempty"`
	// NextIssuer is the id of the issuer that will take over. GetNextCACert
	// answers its certificate; without it, 404.
	NextIssuer string `yaml:"next_issuer,omitempty"`
}

func (o Options) renewsByPKCSReq() bool { return o.RenewByPKCSReq == nil || *o.RenewByPKCSReq }

// Check reports what is wrong with the options by themselves.
func (o Options) Check() error {
	return errors.Join(
		o.checkPaths(),
		o.checkCiphers(),
		o.checkNames(),
		enrolment.CheckProtocols(o.AcceptProtocols),
		strictyaml.OneOf("ca_bundle", o.CABundle, append([]string{""}, Bundles...)...),
		strictyaml.OneOf("ra_key", o.RAKey, "", "rsa-2048", "rsa-3072", "rsa-4096"),
		strictyaml.WrongIf(o.RAKeyRef != "" && o.SeparateRAKeys, "separate_ra_keys",
			"there is one key in a token: leave it out besides ra_key_ref"),
		strictyaml.WrongIf(o.RenewalGrace < 0, "renewal_grace", "want a positive time"),
	)
}

// binding is what Challenge is good for.
func (o Options) binding() pki.Binding {
	return pki.Binding{Names: o.ChallengeNames, AnyName: o.ChallengeAnyName || len(o.ChallengeNames) == 0}
}

func (o Options) checkNames() error {
	b := pki.Binding{Names: o.ChallengeNames, AnyName: o.ChallengeAnyName}
	_, err := b.Check()
	return errors.Join(
		strictyaml.WrongIf(err != nil, "challenge_names", "%v", err),
		strictyaml.WrongIf(b.Binds() && o.Challenge == "", "challenge", "required: challenge_names are for it"),
	)
}

// Unbound reports whether Challenge is good for any name without that anybody said so.
func (o Options) Unbound() bool {
	return o.Challenge != "" && len(o.ChallengeNames) == 0 && !o.ChallengeAnyName
}

// somePath is what a path may look like that a device asks for.
var somePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?$`)

// taken are the first parts of paths that the http listener serves.
var taken = []string{"scep", "issuers", "roots", "roots.pem", "crl", "ocsp"}

func (o Options) checkPaths() error {
	var errs []error
	for i, p := range o.Paths {
		first, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
		key := fmt.Sprintf("paths[%d]", i)
		errs = append(errs,
			strictyaml.WrongIf(!somePath.MatchString(p) || len(p) > 256, key,
				"%q: want a path such as /cgi-bin/pkiclient.exe", p),
			strictyaml.WrongIf(slices.Contains(taken, first), key, "%q: the server has /%s itself", p, first))
	}
	return errors.Join(errs...)
}

// Bundles are the values of Options.CABundle.
var Bundles = []string{"ra-only", "ra+ca", "full"}

// RAKeys are the values of Options.RAKey and the sizes that they stand for.
var RAKeys = map[string]int{"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}

// Event is one answered operation, for metrics.
type Event struct {
	Endpoint string
	Message  string // "PKCSReq", "GetCACert", …, "unknown"
	Status   string // "SUCCESS", "PENDING", the name of a failInfo, or "error" for an HTTP error
	Took     time.Duration
}

// Deps are what a Server works with.
type Deps struct {
	Store      *store.Store
	Pipeline   *issuance.Pipeline
	Approvals  *approval.Queue
	Enrolment  *enrolment.Enrolment
	Challenges *credential.SCEPChallenges
	Webhooks   *credential.Webhooks
	Limits     *limit.Limiter
	Sealer     *seal.Sealer
	Log        *slog.Logger
	Now        func() time.Time
	Observe    func(Event) // may be nil
}

// Server answers SCEP. It is safe for concurrent use.
type Server struct {
	Deps
	endpoints atomic.Pointer[map[string]*endpoint] // by path
	changing  sync.Mutex                           // held while RA certificates or endpoints change
	decrypts  *pki.Queue
}

// endpoint is a checked Endpoint.
type endpoint struct {
	Endpoint
	policy cms.Policy
	secret *[sha256.Size]byte // digest of Secret; nil without one
	ras    *raSet
}

// waiting is how many requests may wait for a decryption (rule S28).
const waiting = 64

// New checks the endpoints and returns a Server. Its RA certificates are made by
// the first Renew.
func New(endpoints []Endpoint, deps Deps) (*Server, error) {
	s := &Server{Deps: deps, decrypts: pki.NewQueue(runtime.GOMAXPROCS(0), waiting)}
	if s.Observe == nil {
		s.Observe = func(Event) {}
	}
	if err := s.Swap(endpoints); err != nil {
		return nil, err
	}
	s.Approvals.Recheck("scep", s.recheck)
	return s, nil
}

// Swap puts other endpoints in force, or reports what is wrong with them and
// changes nothing. Endpoints keep their RA certificates; call Renew afterwards.
func (s *Server) Swap(endpoints []Endpoint) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old, all := s.current(), map[string]*endpoint{}
	for _, e := range endpoints {
		ep, err := compile(e)
		if err != nil {
			return fmt.Errorf("scep endpoint %q: %w", e.Name, err)
		}
		if all[ep.Path] != nil {
			return fmt.Errorf("scep endpoint %q: its path is another one's", e.Name)
		}
		var ras *raSet
		if was := old[ep.Path]; was != nil && was.Name == e.Name && was.Issuer == e.Issuer {
			ras = was.ras
		}
		ep.ras = s.newRAs(ep, ras)
		all[ep.Path] = ep
	}
	s.endpoints.Store(&all)
	return nil
}

func (s *Server) current() map[string]*endpoint {
	if all := s.endpoints.Load(); all != nil {
		return *all
	}
	return nil
}

func compile(e Endpoint) (*endpoint, error) {
	if e.CABundle == "" {
		e.CABundle = "ra+ca"
	}
	if e.RAKey == "" {
		e.RAKey = "rsa-2048"
	}
	if e.Path == "" {
		e.Path = e.Name
	}
	switch {
	case e.Name == "" || strings.ContainsAny(e.Path, "/?#% "):
		return nil, fmt.Errorf("want a name, and a path that is one plain segment")
	case e.Issuer == "":
		return nil, fmt.Errorf("no issuer")
	case !slices.Contains(e.Profiles, e.DefaultProfile):
		return nil, fmt.Errorf("default profile %q is not one of its profiles", e.DefaultProfile)
	case e.RAKeyRef != "" && e.Token == nil:
		return nil, errors.New("ra_key_ref: nothing opens the key")
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	accepted, err := e.ciphers()
	if err != nil {
		return nil, err
	}
	ep := &endpoint{Endpoint: e, policy: cms.Policy{SHA1: e.SHA1, Ciphers: accepted, Bare: true}}
	if e.Secret != "" {
		sum := sha256.Sum256([]byte(e.Secret))
		ep.secret = &sum
	}
	return ep, nil
}

// chain is the certificates of an issuer, or of the preferred one of a pool, root
// last.
func (s *Server) chain(issuer string) []*x509.Certificate {
	if chains := s.Pipeline.Rules().CAs.Chains(issuer); len(chains) > 0 {
		return chains[0]
	}
	return nil
}
