// Package issuance is the one door: every certificate, whichever protocol asked
// for it, is made by Pipeline.Issue, and every revocation passes Pipeline.Revoke.
//
// Issue reads straight down: profile, hierarchy, draft and lint, reservation,
// signature, completion. A signature that could have happened is on record, with
// an audit event, before it happens; what becomes of a reservation that is never
// completed is in settle.go. Front-ends translate their protocol to a Request and
// the fault that comes back to their protocol; they hold no policy.
package issuance

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Deadlines, in the order of ARCHITECTURE, section 6: a key operation is given
// less time than Timeout, and a foreign node's reservation is settled only after
// SweepAge, when that node has given up. Twice the Timeout leaves room for clocks
// that differ, and an order of a dead node is finished within its minute. Were the
// node at work after all, its certificate would be void: revoked, never handed out.
const (
	Timeout  = 20 * time.Second
	SweepAge = 2 * Timeout
)

// attempts bounds how often one Issue may reserve, counting the first.
const attempts = 3

// Request is what a front-end asks for.
type Request struct {
	Endpoint string // the endpoint's name; empty for the operator API
	Protocol string // "acme", "est", "scep", "operator", "server"
	Profile  string // name of the profile that rules the template
	Issuer   string // name of an issuer or of a pool

	// Origin is the row of ours that this certificate answers: "order:<id>" or
	// "request:<id>". One origin has at most one certificate.
	Origin string

	CSR       *pki.CSR         // the PKCS#10, or nil with PublicKey set
	PublicKey crypto.PublicKey // used when CSR is nil
	Subject   *pki.Name        // overrides the CSR's subject
	// RawSubject, in DER, overrides it octet by octet, for renewals.
	RawSubject []byte
	Names      []pki.Identifier // the names that were proved; nil takes the CSR's
	NotBefore  time.Time        // zero lets the profile decide
	NotAfter   time.Time        // zero lets the profile decide

	// Lineage is the id of the first certificate of the line that this one
	// continues: it is enrolled by the power of one of them. Empty begins a line.
	Lineage string

	Requester string          // "account:<id>", "uid:<n>", "server"
	Evidence  json.RawMessage // how the requester proved the names; for the audit record
	RequestID string          // of the protocol request, to find its log lines
	Claims    []store.Claim   // one-time credentials consumed with the reservation

	// Bound is the credential by which this is asked; nil is none that binds.
	Bound *Bound

	// By are the certificates by whose power this is asked. Those of ours have to
	// stand when the new one is reserved.
	By []Basis

	// While, if set, is the ACME order that has to stand when the certificate is
	// reserved; if it does not, store.HasCeased holds for the fault.
	While *store.OrderStands

	// Record, if set, is put on record with the reservation, or with what waits for
	// a person, so that the same request again finds the same certificate. Origin
	// then is "request:<Record.ID>". Nil where Origin names something on record.
	Record *Record
	// DecideBy is until when a person may decide, where the profile asks for one;
	// zero is ApprovalLife from now.
	DecideBy time.Time
}

// Basis is a certificate by whose power something is asked, as it is kept with
// what waits for a person: one of ours by its id, any other in DER.
type Basis struct {
	Holder string   `json:"holder,omitempty"` // id of a certificate of ours
	Chain  [][]byte `json:"chain,omitempty"`  // of any other, leaf first, with what the client sent to verify it
	Renew  bool     `json:"renew,omitempty"`  // it is the one that is renewed
	RA     bool     `json:"ra,omitempty"`     // it may ask for others
}

func (r *Request) holders() (ids []string) {
	for _, b := range r.By {
		if b.Holder != "" {
			ids = append(ids, b.Holder)
		}
	}
	return ids
}

// Record is what recognises a request that is sent again.
type Record struct {
	ID            string // of the new row
	Identity      string // who was authenticated
	CSRDigest     []byte
	TransactionID string
	Keep          time.Duration // how long a retransmission is answered
	Hook          string        // webhook to be told the outcome
}

// Certificate is what came out of the door.
type Certificate struct {
	ID       string
	IssuerID string
	Serial   pki.Serial
	DER      []byte
	Chain    [][]byte // issuing CA first, each certifying the one before; the root is left out
	// Alternates are other chains of the same form, by other certificates of the
	// issuer or of those above it. What has expired is left out.
	Alternates [][][]byte
	Profile    string
	Requester  string // who asked for it, as in Request
	NotBefore  time.Time
	NotAfter   time.Time
}

// Outcome tells an observer how one Issue ended.
type Outcome struct {
	Profile, Protocol, IssuerID string
	Result                      string        // "issued", "rejected", "pending", "unavailable", "error"
	Took                        time.Duration // the whole of Issue
	Signature                   time.Duration // the key's share; 0 if it was not reached
}

// Config is what a Pipeline needs.
type Config struct {
	Store   *store.Store
	Node    string           // this node's stable name: whose reservations are ours
	Now     func() time.Time // the clock
	Log     *slog.Logger     // for what no caller can be told
	Observe func(Outcome)    // may be nil
}

// Pipeline issues and revokes. It is safe for concurrent use.
type Pipeline struct {
	store   *store.Store
	node    string
	now     func() time.Time
	log     *slog.Logger
	observe func(Outcome)
	rules   atomic.Pointer[Rules]

	mu       sync.Mutex
	inFlight map[string]struct{} // certificate ids that an Issue of this process works on
	draining bool
	idle     *sync.Cond // signalled when inFlight calls end
	calls    int
}

// New returns a Pipeline that refuses everything until Swap gives it rules.
func New(cfg Config) *Pipeline {
	p := &Pipeline{
		store: cfg.Store, node: cfg.Node, now: cfg.Now, log: cfg.Log, observe: cfg.Observe,
		inFlight: map[string]struct{}{},
	}
	if p.observe == nil {
		p.observe = func(Outcome) {}
	}
	p.idle = sync.NewCond(&p.mu)
	p.rules.Store(&Rules{CAs: ca.NewSet()})
	return p
}

// Swap puts new rules in force; calls under way finish under the old ones.
func (p *Pipeline) Swap(r Rules) {
	if r.CAs == nil {
		r.CAs = ca.NewSet()
	}
	p.rules.Store(&r)
}

// Rules returns the rules in force. The caller changes nothing in them.
func (p *Pipeline) Rules() *Rules { return p.rules.Load() }

// Issue returns the certificate that answers the request, making it if the
// origin has none yet. It does not stop when ctx is cancelled, because a client
// that hangs up must not orphan a signature; its own timeout bounds it.
//
// Faults: whatever profile and hierarchy refuse; Pending when a person has to
// approve (see IsWaiting) or when another call works on the same origin; Unavailable with a time
// to come back when the key, the database or the audit record is away.
func (p *Pipeline) Issue(ctx context.Context, r Request) (*Certificate, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()

	began := p.now()
	out := Outcome{Profile: r.Profile, Protocol: r.Protocol}
	cert, err := p.issue(ctx, r, &out)
	out.Result, out.Took = result(err), p.now().Sub(began)
	p.observe(out)
	return cert, err
}

func (p *Pipeline) issue(ctx context.Context, r Request, out *Outcome) (*Certificate, error) {
	rules := p.rules.Load()
	candidates, err := p.candidates(rules, r)
	if err != nil {
		return nil, p.rejected(ctx, r, err)
	}
	for try := 0; ; try++ {
		var signer *ca.CA
		var v *judged
		signer, candidates, v, err = p.judgeAny(ctx, rules, candidates, try, r)
		if err != nil {
			return nil, p.rejected(ctx, r, err)
		}
		out.IssuerID = signer.ID
		if v.needsPerson() && try == 0 {
			if r, err = p.approved(ctx, r, v); err != nil {
				return nil, p.rejected(ctx, r, err)
			}
		}
		cert, err := p.attempt(ctx, r, v, out)
		if err == nil {
			return cert, nil
		}
		if !again(err) || try+1 == attempts || (try+1 >= len(candidates) && !fault.Is(err, fault.Conflict)) {
			return nil, giveUp(err)
		}
	}
}

// attempt is steps 3 to 6 of the door with one issuer and one serial.
func (p *Pipeline) attempt(ctx context.Context, r Request, v *judged, out *Outcome) (*Certificate, error) {
	draft, err := v.issuer.Draft(v.template, pki.NewSerial())
	if err != nil {
		return nil, p.rejected(ctx, r, err)
	}
	row := p.row(r, v, draft)
	p.track(row.ID)
	defer p.untrack(row.ID)

	made := store.Reservation{Request: p.open(r, v), Claims: r.Claims, Holders: r.holders(), While: r.While}
	if err := p.store.ReserveFor(ctx, row, made, intent(row, r, v, draft)); err != nil {
		if fault.Is(err, fault.Conflict) && !store.IsKnown(err) {
			return p.existing(ctx, r.Origin)
		}
		return nil, err
	}
	signing := p.now()
	der, err := v.issuer.Sign(ctx, draft)
	out.Signature = p.now().Sub(signing)
	if err != nil {
		p.release(row, r.RequestID, err)
		return nil, unsigned{err}
	}
	if err := p.complete(ctx, row, der, r.RequestID); err != nil {
		p.release(row, r.RequestID, err)
		return nil, err
	}
	return p.certificate(row, der, v.issuer.Chain())
}

// Certificate returns an issued certificate with its chain.
func (p *Pipeline) Certificate(ctx context.Context, id string) (*Certificate, error) {
	row, err := p.find(ctx, Revocation{CertificateID: id})
	if err != nil {
		return nil, err
	}
	if row.DER == nil {
		return nil, fault.New(fault.NotFound, "certificate %s was never issued", id)
	}
	return p.certificate(*row, row.DER, nil)
}

// certificate is what a caller gets of a row. signer is the chain that it was
// issued under, for one whose issuer has left the configuration since; nil if that
// is not known.
func (p *Pipeline) certificate(row store.Certificate, der []byte, signer []*x509.Certificate) (*Certificate, error) {
	c := &Certificate{
		ID: row.ID, IssuerID: row.IssuerID, Serial: row.Serial, DER: der, Profile: row.Profile,
		Requester: row.Requester,
		NotBefore: row.NotBefore, NotAfter: row.NotAfter,
	}
	chains, now := p.rules.Load().CAs.Chains(row.IssuerID), p.now()
	if len(chains) == 0 && signer != nil {
		chains = [][]*x509.Certificate{signer}
	}
	for i, chain := range chains {
		switch {
		case i == 0:
			c.Chain = withoutRoot(chain)
		case !slices.ContainsFunc(chain, func(up *x509.Certificate) bool { return now.After(up.NotAfter) }):
			c.Alternates = append(c.Alternates, withoutRoot(chain))
		}
	}
	if c.Chain == nil {
		return nil, fault.New(fault.Unavailable, "the certificates of issuer %q are not known here", row.IssuerID).
			Because("no_issuer")
	}
	return c, nil
}

// withoutRoot leaves out what a client has or does not trust (RFC 8555, section
// 7.4.2).
func withoutRoot(chain []*x509.Certificate) [][]byte {
	if last := len(chain) - 1; pki.SelfIssued(chain[last]) {
		chain = chain[:last]
	}
	ders := [][]byte{}
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	return ders
}
