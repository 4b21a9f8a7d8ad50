// Package acme is the front-end for RFC 8555 and its family: RFC 8738 (IP
// identifiers), RFC 9773 (renewal information) and the profiles draft.
//
// It translates: a JWS comes in, an issuance.Request goes to the one door, a
// certificate or a problem document goes out. It judges what RFC 8555 says of
// messages (who signed, for which URL, with which nonce, in which state) and
// holds no policy on names, keys or validity: profile and issuance do.
//
// Entry points: New, Server.Routes and Server.Run. Every message has a file of
// its name (account.go, order.go, finalize.go …); post.go is the door that each
// POST passes. Accounts are never cached, only the keys that verify their
// signatures, so a deactivation holds at once on all nodes. A challenge or a
// finalize that was accepted is on record before the client hears of it, and is
// resumed by Run after a crash.
package acme

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/store"
)

// Config is what may be configured of ACME. Its fields' comments are the manual.
type Config struct {
	// BaseURL is the external https origin, such as https://ca.example.com, from
	// which every advertised URL is built; never from what a request claims.
	BaseURL string
	// FormerBaseURLs stay good in the kid and url of messages and in CAA
	// accounturi, so that accounts survive a change of host name.
	FormerBaseURLs []string
	// Endpoints are the ACME services, each under /acme/NAME.
	Endpoints []Endpoint
	// TermsOfService is the URL that clients must agree to.
	TermsOfService string
	// AgreeAgain keeps accounts that agreed to other terms from placing orders.
	AgreeAgain bool
	// Website says in the directory where to learn more about this CA; it is also
	// the help link of rate limits.
	Website string
	// CAAIdentities are the issuer domain names that our CAA check recognises.
	CAAIdentities []string
	// NamesPerOrder bounds the identifiers of one order. Default: 100.
	NamesPerOrder int
	// Lifetimes of what clients create.
	Lifetimes Lifetimes
}

// Endpoint is one ACME service.
type Endpoint struct {
	Name           string   // path segment: /acme/NAME/directory
	Issuer         string   // name of the issuer or pool that signs
	Profiles       []string // names of the profiles that orders may choose
	DefaultProfile string   // used when an order names none; must be in Profiles
	RequireEAB     bool     // new accounts need an external account binding
}

// Lifetimes of what clients create. Zero means the default.
type Lifetimes struct {
	Order         time.Duration // default 7 days
	Authorization time.Duration // of a valid one, which other orders may use; default 30 days
}

// Event is what an Observer hears of: one finished validation or finalize.
type Event struct {
	What    string // a challenge type, or "finalize"
	Outcome string // "valid", "invalid", "retry", "error"
	Took    time.Duration
}

// Deps are what a Server works with.
type Deps struct {
	Store     *store.Store
	Pipeline  *issuance.Pipeline
	Approvals *approval.Queue // asks about orders that wait for a person; may be nil
	Validator *challenge.Validator
	EAB       *credential.EAB
	Limits    *limit.Limiter
	Nonces    *Nonces
	Node      string // this node's stable name: whose orders we finish
	Alone     bool   // no other process works on the store, as on SQLite
	Log       *slog.Logger
	Now       func() time.Time
	Observe   func(Event) // may be nil
}

// Server answers ACME. It is safe for concurrent use.
type Server struct {
	Deps
	nonces   *Nonces
	settings atomic.Pointer[settings]
	keys     keyCache
	work     *workers
}

// settings are a checked configuration; a reload swaps them whole.
type settings struct {
	cfg       Config
	bases     []string // BaseURL, then the former ones, without a slash at the end
	endpoints map[string]*endpoint
}

// endpoint is a configured endpoint with its URLs.
type endpoint struct {
	Endpoint
	set   *settings
	url   string // BaseURL/acme/NAME
	index string // the Link field that points at the directory (rule A7)
}

// New checks the configuration and returns a Server. Nothing runs until Run.
func New(cfg Config, deps Deps) (*Server, error) {
	s := &Server{Deps: deps, nonces: deps.Nonces}
	if s.Observe == nil {
		s.Observe = func(Event) {}
	}
	s.work = newWorkers(s)
	if err := s.Swap(cfg); err != nil {
		return nil, err
	}
	if s.Approvals != nil {
		s.Approvals.Recheck("acme", s.recheck)
	}
	return s, nil
}

// Swap puts a new configuration in force, or reports all that is wrong with it
// and changes nothing.
func (s *Server) Swap(cfg Config) error {
	set, err := compile(cfg)
	if err != nil {
		return err
	}
	s.settings.Store(set)
	return nil
}

func (s *Server) current() *settings { return s.settings.Load() }

func compile(cfg Config) (*settings, error) {
	set := &settings{cfg: cfg, endpoints: map[string]*endpoint{}}
	for _, base := range append([]string{cfg.BaseURL}, cfg.FormerBaseURLs...) {
		u, err := url.Parse(base)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("acme base url %q: want https://host[:port]", base) // rule A1
		}
		set.bases = append(set.bases, strings.TrimRight(base, "/"))
	}
	if cfg.TermsOfService == "" || cfg.Website == "" {
		return nil, fmt.Errorf("acme: terms of service and website are required: known clients refuse a directory " +
			"without them")
	}
	set.cfg.defaults()
	for _, e := range cfg.Endpoints {
		switch {
		case e.Name == "" || strings.ContainsAny(e.Name, "/?#% "):
			return nil, fmt.Errorf("acme endpoint %q: want a name that is one plain path segment", e.Name)
		case set.endpoints[e.Name] != nil:
			return nil, fmt.Errorf("acme endpoint %q: defined twice", e.Name)
		case e.Issuer == "":
			return nil, fmt.Errorf("acme endpoint %q: no issuer", e.Name)
		case !slices.Contains(e.Profiles, e.DefaultProfile):
			return nil, fmt.Errorf("acme endpoint %q: default profile %q is not one of its profiles", e.Name,
				e.DefaultProfile)
		}
		ep := &endpoint{Endpoint: e, set: set, url: set.bases[0] + "/acme/" + e.Name}
		ep.index = link(ep.url+"/directory", "index")
		set.endpoints[e.Name] = ep
	}
	return set, nil
}

func (c *Config) defaults() {
	if c.NamesPerOrder == 0 {
		c.NamesPerOrder = 100
	}
	if c.Lifetimes.Order == 0 {
		c.Lifetimes.Order = 7 * 24 * time.Hour
	}
	if c.Lifetimes.Authorization == 0 {
		c.Lifetimes.Authorization = 30 * 24 * time.Hour
	}
}

// The URLs of the resources. Ids are ours: nothing in them needs escaping.

func (e *endpoint) account(id string) string       { return e.url + "/acct/" + id }
func (e *endpoint) order(id string) string         { return e.url + "/order/" + id }
func (e *endpoint) authorization(id string) string { return e.url + "/authz/" + id }
func (e *endpoint) certificate(id string) string   { return e.url + "/cert/" + id }
func (e *endpoint) challenge(authzID, typ string) string {
	return e.url + "/chall/" + authzID + "/" + typ
}

// accountURLs are all the names of an account, today's first: a CAA record may
// still hold a former one (rule A60).
func (e *endpoint) accountURLs(id string) []string {
	urls := make([]string, len(e.set.bases))
	for i, base := range e.set.bases {
		urls[i] = base + "/acme/" + e.Name + "/acct/" + id
	}
	return urls
}

// accountID returns the id in an account URL of this endpoint, or "".
func (e *endpoint) accountID(kid string) string {
	for _, base := range e.set.bases {
		if rest, ok := strings.CutPrefix(kid, base+"/acme/"+e.Name+"/acct/"); ok && !strings.Contains(rest, "/") {
			return rest
		}
	}
	return ""
}
