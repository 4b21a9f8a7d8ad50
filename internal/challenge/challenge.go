// Package challenge proves that a client controls a name: http-01 and dns-01
// (RFC 8555, section 8), tls-alpn-01 (RFC 8737), both also for addresses where
// RFC 8738 allows it, and CAA (RFC 8659, RFC 8657). It also owns the guarded
// Dialer, the only way by which the server connects to an address that a
// stranger chose.
//
// It keeps no state, caches nothing, starts no attempt by itself and retries
// no attempt: who calls Validate bounds how many run at once and decides when
// to try again. Every attempt ends within Config.Timeout.
//
// Enter at New, then Validate. Errors are of type *fault.Error; their details
// go to the client and quote at most a few sanitised characters of a stranger's
// answer.
package challenge

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Challenge types.
const (
	HTTP01    = "http-01"
	DNS01     = "dns-01"
	TLSALPN01 = "tls-alpn-01"
)

// method is one challenge type: what it can prove and how.
type method struct {
	name   string
	proves func(id pki.Identifier, wildcard bool) bool
	prove  func(*Validator, context.Context, Task, *Record) error
}

// methods are all challenge types, in the order in which clients see them:
// http-01 first, since some clients read only that (A37). Nothing else decides
// which types exist, and a type that is not here has no way to be tried.
var methods = []method{
	{HTTP01, notWildcard, (*Validator).http01},
	{DNS01, isDNS, (*Validator).dns01},
	{TLSALPN01, notWildcard, (*Validator).tlsALPN01},
}

// notWildcard is what can be proved at a host: wildcards only by DNS (A56).
func notWildcard(id pki.Identifier, wildcard bool) bool {
	return !wildcard && (id.Type == pki.DNS || id.Type == pki.IP)
}

// isDNS is what can be proved in the DNS: never an address (A58).
func isDNS(id pki.Identifier, _ bool) bool { return id.Type == pki.DNS }

// Modes of Config.CAA.
const (
	CAAAlways = "always"
	CAAPublic = "public"
	CAANever  = "never"
)

// Config says how names are validated and which addresses may be dialled. The
// zero value is a server on the public Internet: system resolver, ports 80 and
// 443, public addresses only, CAA for public names.
type Config struct {
	// Resolver is the DNS server to ask, HOST:PORT (port 53 if left out). Empty
	// means the name servers of /etc/resolv.conf. It should not cache for long:
	// clients change records seconds before they ask to be validated.
	Resolver string `json:"resolver,omitempty" yaml:"resolver,omitempty"`
	// Resolvers are more of them, asked in turn: the next one if one does not know,
	// and another one first at each new attempt of a validation. At most 16.
	Resolvers []string `json:"resolvers,omitempty" yaml:"resolvers,omitempty"`
	// Authoritative asks the name servers of a name's own zone, so that no cache
	// stands between; which these are is asked of the resolvers. Their addresses have
	// to be ones that may be dialled: private ones need an entry in AllowCIDRs. DNSSEC
	// is then verified by nobody.
	Authoritative bool `json:"authoritative,omitempty" yaml:"authoritative,omitempty"`
	// HTTPPort is where http-01 asks; 0 means 80, and only tests and
	// development have a reason for another.
	HTTPPort int `json:"http_port,omitempty" yaml:"http_port,omitempty"`
	// TLSPort is where tls-alpn-01 and https redirects connect; 0 means 443.
	TLSPort int `json:"tls_port,omitempty" yaml:"tls_port,omitempty"`
	// AllowCIDRs opens ranges that are closed by default, such as 10.0.0.0/8
	// and fd00::/8. Each entry lies inside one special-purpose range: 0.0.0.0/0
	// is an error. Public addresses need no entry. The metadata addresses of clouds
	// (100.100.100.200, fd00:ec2::254, 168.63.129.16 and others) need one of their own:
	// no wider range opens them.
	AllowCIDRs []netip.Prefix `json:"allow_cidrs,omitempty" yaml:"allow_cidrs,omitempty"`
	// DenyCIDRs closes ranges and wins over AllowCIDRs: list the networks of
	// the database and the HSM.
	DenyCIDRs []netip.Prefix `json:"deny_cidrs,omitempty" yaml:"deny_cidrs,omitempty"`
	// CAA says for which names CAA records are looked up: always, public (names
	// under a top-level domain of the public root; the default) or never.
	CAA string `json:"caa,omitempty" yaml:"caa,omitempty" jsonschema:"enum=always,enum=public,enum=never"`
	// CAAIdentities are the issuer domain names that a CAA record must carry to
	// let us issue, for example ca.example.org. With none, a name that has any
	// such record is refused.
	CAAIdentities []string `json:"caa_identities,omitempty" yaml:"caa_identities,omitempty"`
	// LocalhostIsLoopback makes localhost and *.localhost 127.0.0.1 without
	// DNS and without CAA. For development only.
	LocalhostIsLoopback bool `json:"localhost_is_loopback,omitempty" yaml:"localhost_is_loopback,omitempty"`
	// Timeout bounds one attempt, CAA included; 0 means 10s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty" jsonschema:"type=string"`
}

// Task is one attempt to validate one identifier.
type Task struct {
	Type             string         // http-01, dns-01 or tls-alpn-01
	Identifier       pki.Identifier // canonical; the base name where Wildcard is set
	Wildcard         bool           // the order asks for *.Identifier
	Token            string
	KeyAuthorization string   // of the account key at the time of the client's POST (A39)
	AccountURI       string   // for CAA accounturi (A60)
	AccountURIs      []string // the account's URLs under former base URLs
	Attempt          int      // how often it was tried before: each has another server and address
	// Admit is asked before each connection; if it says no, IsBusy holds for the
	// fault. Nil admits everything.
	Admit func(netip.Addr) bool
}

const reasonBusy = "target_busy"

// IsBusy reports whether an attempt was not made because Task.Admit said no. It
// proved nothing and counts as none.
func IsBusy(err error) bool {
	return fault.Is(err, fault.Unavailable) && fault.Of(err).Reason == reasonBusy
}

// accounts returns all account URLs that a CAA record may name.
func (t Task) accounts() []string {
	return append([]string{t.AccountURI}, t.AccountURIs...)
}

// Record tells how an identifier was validated. It is kept with the
// authorization, so that a dispute can be settled later (A54).
type Record struct {
	Type string    `json:"type"`
	At   time.Time `json:"at"`
	Hops []Hop     `json:"hops,omitempty"` // connections made; more than one after redirects
	TXT  string    `json:"txt,omitempty"`  // dns-01: the name asked, CNAMEs followed
	CAA  string    `json:"caa,omitempty"`  // "skipped", "none", or the name whose records were used
}

// Hop is one connection of an attempt.
type Hop struct {
	URL      string       `json:"url"`
	Resolved []netip.Addr `json:"resolved,omitempty"`
	Refused  []netip.Addr `json:"refused,omitempty"` // resolved, but not to be dialled
	Tried    []netip.Addr `json:"tried,omitempty"`   // dialled in this order
	Used     netip.Addr   `json:"used,omitzero"`     // connected
}

// Validator validates challenges. It is safe for concurrent use.
type Validator struct {
	cfg    Config
	dialer *Dialer
	dns    *resolver
	now    func() time.Time
}

// New returns a Validator. own lists the addresses that this server listens
// on; they are never dialled. An unspecified address (0.0.0.0, ::) stands for
// all addresses of this machine.
func New(cfg Config, own []netip.AddrPort, now func() time.Time) (*Validator, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	d, err := NewDialer(cfg, own)
	if err != nil {
		return nil, err
	}
	return &Validator{cfg: cfg, dialer: d, dns: d.dns, now: now}, nil
}

// Check reports what is wrong with a configuration.
func (c Config) Check() error {
	_, err := NewDialer(c, nil)
	return err
}

// complete returns c with defaults filled in, or what is wrong with it.
func (c Config) complete() (Config, error) {
	if c.HTTPPort == 0 {
		c.HTTPPort = 80
	}
	if c.TLSPort == 0 {
		c.TLSPort = 443
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.CAA == "" {
		c.CAA = CAAPublic
	}
	for name, port := range map[string]int{"http_port": c.HTTPPort, "tls_port": c.TLSPort} {
		if port < 1 || port > 65535 {
			return c, strictyaml.Wrong(name, "%d is not a port", port)
		}
	}
	if c.Timeout < 0 {
		return c, strictyaml.Wrong("timeout", "%s is negative", c.Timeout)
	}
	if !slices.Contains([]string{CAAAlways, CAAPublic, CAANever}, c.CAA) {
		return c, strictyaml.Wrong("caa", "%q, want always, public or never", c.CAA)
	}
	for _, id := range c.CAAIdentities {
		if !isIssuerDomain(id) {
			return c, strictyaml.Wrong("caa_identities", "%q is not a domain name", id)
		}
	}
	return c, nil
}

// Dialer returns the guarded dialer, for other outgoing connections.
func (v *Validator) Dialer() *Dialer { return v.dialer }

// Offered returns the challenge types to offer for an identifier, in the order
// in which clients see them.
func Offered(id pki.Identifier, wildcard bool) []string {
	var names []string
	for _, m := range methods {
		if m.proves(id, wildcard) {
			names = append(names, m.name)
		}
	}
	return names
}

// methodOf returns the method that a task asks for.
func methodOf(t Task) (*method, error) {
	for i := range methods {
		if m := &methods[i]; m.name == t.Type && m.proves(t.Identifier, t.Wildcard) {
			return m, nil
		}
	}
	return nil, fault.New(fault.Malformed, "%s cannot validate %s", t.Type, display(t))
}

// Validate makes one attempt. The record tells what was done, also when the
// attempt failed. If ctx ends first, because the server stops, the fault is
// Unavailable: the attempt proved nothing and may be made again.
func (v *Validator) Validate(ctx context.Context, t Task) (Record, error) {
	v = v.at(t.Attempt)
	rec := Record{Type: t.Type, At: v.now().UTC()}
	m, err := methodOf(t)
	if err != nil {
		return rec, fault.Of(err).About(about(t))
	}
	attempt, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()
	err = m.prove(v, attempt, t, &rec)
	if err == nil {
		rec.CAA, err = v.checkCAA(attempt, t.Identifier, t.Wildcard, t.accounts(), t.Type)
	}
	if err == nil {
		return rec, nil
	}
	if ctx.Err() != nil {
		return rec, fault.Wrap(fault.Unavailable, ctx.Err(), "the validation was interrupted").About(about(t))
	}
	return rec, fault.Of(err).About(about(t))
}

// at returns the Validator as it works at the given attempt.
func (v *Validator) at(try int) *Validator {
	c := *v
	c.dialer = v.dialer.at(try)
	c.dns = c.dialer.dns
	return &c
}

// CheckCAA reports whether CAA lets us issue for an identifier that was
// validated by method earlier (A44: authorizations older than 8 hours).
func (v *Validator) CheckCAA(
	ctx context.Context, id pki.Identifier, wildcard bool, accountURIs []string, method string,
) error {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()
	_, err := v.checkCAA(ctx, id, wildcard, accountURIs, method)
	if err != nil {
		return fault.Of(err).About(string(id.Type), id.Value)
	}
	return nil
}

// about names the task's identifier as the client wrote it.
func about(t Task) (typ, value string) {
	return string(t.Identifier.Type), display(t)
}

func display(t Task) string {
	if t.Wildcard {
		return "*." + t.Identifier.Value
	}
	return t.Identifier.Value
}

// isLocalhost reports whether name is localhost or below it (RFC 6761, section 6.3).
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
