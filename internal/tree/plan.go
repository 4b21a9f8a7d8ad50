package tree

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// What a plan says of a CA.
const (
	InPlace         = "in place"         // installed, as the file says
	Undeclared      = "undeclared"       // the configuration has to name it first
	WantsRequest    = "request"          // its key and request are made by apply
	PendingCeremony = "pending ceremony" // people have to sign offline
	PendingParent   = "waits for parent" // the CA above has no certificate yet
	WantsSignature  = "sign"             // its parent is on this server
)

// Step is what a plan says of one CA.
type Step struct {
	CA     CA
	Level  int // 1 is a root
	Root   string
	State  string
	Detail string
}

// Plan is what is to be done so that a server has a hierarchy.
type Plan struct {
	Name       string
	Steps      []Step
	Warnings   []string
	Declare    string     // YAML to add to the configuration
	Ceremonies []Ceremony // what people have to do offline, one for each root
}

// Done reports whether nothing is left to do.
func (p *Plan) Done() bool {
	for _, s := range p.Steps {
		if s.State != InPlace {
			return false
		}
	}
	return true
}

// Plan compares a hierarchy's file with what is installed, and changes nothing.
// What the laws of the tree would refuse later is refused now, with their reasons.
func (t *Tree) Plan(ctx context.Context, text []byte) (*Plan, error) {
	spec, err := ParseSpec(text)
	if err != nil {
		return nil, err
	}
	w := &planner{
		Tree: t, spec: spec, plan: &Plan{Name: spec.Name}, chains: map[string][]*x509.Certificate{},
		at: map[string]Step{}, declared: map[string]ca.Declaration{},
	}
	for _, d := range t.Declared() {
		w.declared[d.ID] = d
	}
	if w.records, err = t.Store.Issuers(ctx); err != nil {
		return nil, err
	}
	for _, c := range spec.CAs {
		if err := w.add(ctx, c); err != nil {
			return nil, err
		}
	}
	w.warn()
	w.declare()
	return w.plan, w.ceremonies()
}

// planner is a plan in the making.
type planner struct {
	*Tree
	spec     *Spec
	plan     *Plan
	declared map[string]ca.Declaration
	records  []store.IssuerRecord
	chains   map[string][]*x509.Certificate // by id, this one first: as installed, or as it would be
	at       map[string]Step
}

func (w *planner) record(id string) *store.IssuerRecord {
	for i := range w.records {
		if w.records[i].ID == id {
			return &w.records[i]
		}
	}
	return nil
}

// chain returns a CA's chain, from the plan or from what is installed.
func (w *planner) chain(id string) ([]*x509.Certificate, error) {
	if c := w.chains[id]; c != nil {
		return c, nil
	}
	var chain []*x509.Certificate
	for at := id; at != ""; {
		rec := w.record(at)
		if rec == nil || len(chain) > len(w.records) {
			return nil, fault.New(fault.Malformed, "%s is neither in the file nor installed here", at).
				Because("hierarchy")
		}
		c, err := x509.ParseCertificate(rec.Certificate)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: read installed certificate: %w", at, err)
		}
		chain, at = append(chain, c), rec.ParentID
	}
	w.chains[id] = chain
	return chain, nil
}

// add plans one CA below those that were planned before.
func (w *planner) add(ctx context.Context, c CA) error {
	var above []*x509.Certificate
	var err error
	step := Step{CA: c, Root: c.ID}
	if c.Parent != "" {
		if above, err = w.chain(c.Parent); err != nil {
			return err
		}
		step.Root = w.rootOf(c.Parent)
	}
	step.Level = len(above) + 1
	if rec := w.record(c.ID); rec != nil {
		chain, err := w.chain(c.ID)
		if err != nil {
			return err
		}
		if err := differs(c, rec, chain); err != nil {
			return err
		}
		step.State = InPlace
	} else {
		cert, err := w.wouldBe(c, above)
		if err != nil {
			return err
		}
		w.chains[c.ID] = append([]*x509.Certificate{cert}, above...)
		if step.State, step.Detail, err = w.state(ctx, c); err != nil {
			return err
		}
	}
	if n := w.spec.children(c.ID); c.MaxChildren > 0 && n > c.MaxChildren {
		return fault.New(fault.Denied, "%s has %d CAs below it, and max_children is %d", c.ID, n, c.MaxChildren).
			Because("max_children")
	}
	w.at[c.ID] = step
	w.plan.Steps = append(w.plan.Steps, step)
	return nil
}

func (w *planner) rootOf(id string) string {
	if s, ok := w.at[id]; ok {
		return s.Root
	}
	for rec := w.record(id); rec != nil && rec.ParentID != ""; rec = w.record(id) {
		id = rec.ParentID
	}
	return id
}

// state says what a CA that is not installed waits for.
func (w *planner) state(ctx context.Context, c CA) (state, detail string, err error) {
	d, known := w.declared[c.ID]
	switch {
	case !known:
		return Undeclared, "add it to the configuration, reload, and apply again", nil
	case d.Offline != (c.Key == keyOffline):
		return "", "", fault.New(fault.Conflict, "the file says that the key of %s is %s, the configuration that it "+
			"is not", c.ID, c.Key).Because("hierarchy")
	case c.Key == keyOffline:
		return PendingCeremony, "made and signed offline", nil
	}
	last, err := w.lastRequest(ctx, c.ID)
	if err != nil {
		return "", "", err
	}
	want, err := pki.ParseName(c.Subject)
	switch {
	case err != nil:
		return "", "", err
	case last == nil || !last.csr.Subject.EqualRFC5280(want):
		return WantsRequest, "apply makes its key and request", nil
	case w.onServer(c.Parent):
		if len(c.Policies)+len(c.ExtKeyUsage) > 0 || c.NameConstraints != nil {
			return "", "", fault.New(fault.Malformed,
				"%s: %s signs it on this server, by a profile: policies, ext_key_usage and name_constraints stand in "+
					"a profile of your own, and privyseal cert issue names that", c.ID, c.Parent).Because("hierarchy")
		}
		if w.record(c.Parent) == nil {
			return PendingParent, c.Parent + " has no certificate yet", nil
		}
		return WantsSignature, c.Parent + " signs it here, after approval", nil
	}
	return PendingCeremony, c.Parent + " signs its request offline", nil
}

func (w *planner) onServer(id string) bool {
	d, ok := w.declared[id]
	return ok && !d.Offline
}

// differs refuses a file that speaks of another CA than the one that is installed
// under the name: what is signed cannot be changed, only replaced by a successor.
func differs(c CA, rec *store.IssuerRecord, chain []*x509.Certificate) error {
	have, err := pki.ParseNameDER(chain[0].RawSubject)
	if err != nil {
		return err
	}
	want, err := pki.ParseName(c.Subject)
	if err != nil {
		return err
	}
	limit := -1
	if chain[0].MaxPathLen > 0 || chain[0].MaxPathLenZero {
		limit = chain[0].MaxPathLen
	}
	bad := func(format string, args ...any) error {
		return fault.New(fault.Conflict, c.ID+" is installed "+format+": what is signed stays; give a successor a new "+
			"id", args...).Because("hierarchy_differs")
	}
	switch {
	case !have.EqualRFC5280(want):
		return bad("as %s, and the file says %s", have, c.Subject)
	case rec.ParentID != c.Parent:
		return bad("below %q, and the file says %q", rec.ParentID, c.Parent)
	case limit != c.pathLen():
		return bad("with path length %d (-1 is none), and %s says %d", limit, c.Template, c.pathLen())
	}
	return nil
}

// wouldBe is the certificate that a CA would get now, without a signature, as the
// laws of CA certificates allow it.
func (w *planner) wouldBe(c CA, above []*x509.Certificate) (*x509.Certificate, error) {
	t, err := w.template(c, above)
	if err != nil {
		f := *fault.Of(err)
		f.Detail = c.ID + ": " + f.Detail
		return nil, &f
	}
	cert := &x509.Certificate{
		RawSubject: t.RawSubject, Subject: pkix.Name{CommonName: c.ID}, NotBefore: t.NotBefore, NotAfter: t.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: t.MaxPathLen, MaxPathLenZero: t.MaxPathLen == 0,
		Extensions: t.Extra,
	}
	if len(t.ExtKeyUsage) > 0 {
		value, err := asn1.Marshal(t.ExtKeyUsage)
		if err != nil {
			return nil, err
		}
		cert.Extensions = append(cert.Extensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: value})
	}
	return cert, nil
}

func (w *planner) template(c CA, above []*x509.Certificate) (*profile.Template, error) {
	name, err := calaw.ParseSubject(c.Subject)
	if err != nil {
		return nil, err
	}
	want := calaw.Wanted{
		Subject: name, Algorithm: c.Algorithm, Years: c.Years, PathLen: c.pathLen(), ExtKeyUsage: c.ExtKeyUsage,
		Policies: c.Policies, NameConstraints: c.NameConstraints,
	}
	if c.Key == keyOffline {
		want.KeyIs = calaw.Offline
	}
	if c.Parent != "" && len(c.ExtKeyUsage) == 0 && (c.pathLen() == 0 || !w.onServer(c.Parent)) {
		want.ExtKeyUsage = calaw.IssuingUsages() // what ceremonies sign
	}
	return want.Template(above, w.Now())
}

// warn says what is allowed and still worth a look.
func (w *planner) warn() {
	deepest, online := map[string]int{}, map[string]int{}
	reason := map[string]string{}
	for _, s := range w.plan.Steps {
		deepest[s.Root] = max(deepest[s.Root], s.Level)
		if s.CA.Key == keyOnline && w.spec.children(s.CA.ID) == 0 {
			online[s.Root]++
		}
		if s.CA.Reason != "" {
			reason[s.Root] = s.CA.Reason
		}
	}
	for _, s := range w.plan.Steps {
		if s.Root != s.CA.ID {
			continue
		}
		if n := deepest[s.Root]; n > 2 && w.spec.Reason == "" && reason[s.Root] == "" {
			w.plan.Warnings = append(w.plan.Warnings,
				fmt.Sprintf("%s: %d levels of CAs; two serve nearly everybody, and each more is paid at every "+
					"connection: say in reason: why", s.Root, n))
		}
		if online[s.Root] == 1 {
			w.plan.Warnings = append(w.plan.Warnings,
				fmt.Sprintf("%s: one issuing CA; when its key fails, nothing is issued below this root until it is "+
					"back: plan a second one", s.Root))
		}
	}
}

// declare collects what the configuration lacks.
func (w *planner) declare() {
	var online, offline bytes.Buffer
	for _, s := range w.plan.Steps {
		if _, known := w.declared[s.CA.ID]; known {
			continue
		}
		into := &online
		if s.CA.Key == keyOffline {
			into = &offline
		}
		_, lines, _ := strings.Cut(IssuerYAML(s.CA.ID, s.CA.Subject, s.CA.Key == keyOffline), "\n")
		into.WriteString(lines)
		if s.CA.MaxChildren > 0 {
			fmt.Fprintf(into, "    max_children: %d\n", s.CA.MaxChildren)
		}
	}
	if online.Len() > 0 {
		w.plan.Declare += "issuers:\n" + online.String()
	}
	if offline.Len() > 0 {
		w.plan.Declare += "offline:\n" + offline.String()
	}
}
