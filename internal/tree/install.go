package tree

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Certificate is what came back for a declared CA.
type Certificate struct {
	Chain      []byte // PEM: the CA's certificate, then those above it as far as they are not installed
	Transcript []byte // of the ceremony that signed it
	// NoTranscript accepts a certificate that no transcript speaks for, because the
	// CA above is somebody else's.
	NoTranscript bool
}

// Installed is what became of an installation.
type Installed struct {
	Record    store.IssuerRecord
	Unchanged bool     // it was in force already
	Warnings  []string // what a person should look at
}

// Install puts the certificate of a declared CA in force. It is compared with the
// key and the request, with the laws of the tree along its whole chain, and with
// the act of the transcript. CAs above it that are not installed come with it.
func (t *Tree) Install(ctx context.Context, id string, in Certificate, who Actor) (*Installed, error) {
	c, err := t.consider(ctx, id, in.Chain)
	if err != nil {
		return nil, err
	}
	if c.inForce() {
		return &Installed{Record: *c.rec, Unchanged: true}, nil
	}
	old, fresh := c.old, c.chain[0]
	if old != nil && (!pki.SameKey(old.PublicKey, fresh.PublicKey) || !bytes.Equal(old.RawSubject, fresh.RawSubject)) {
		return nil, fault.New(fault.Conflict, "issuer %s is installed with another key or name, which its relying "+
			"parties know: give the new CA a new name", id).Because("issuer_key")
	}
	if err := t.fitsRequest(ctx, c.d, c.chain[0]); err != nil {
		return nil, err
	}
	spoken, err := t.checkTranscript(ctx, c.d, c.chain, in)
	if err != nil {
		return nil, err
	}
	rows, err := t.rows(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := holds(ctx, c.d, c.chain[0]); err != nil {
		return nil, err
	}
	events := make([]store.Event, len(rows))
	for i, r := range rows {
		if events[i], err = t.installedEvent(who, r, spoken.text); err != nil {
			return nil, err
		}
	}
	if err := t.Store.InstallIssuers(ctx, rows, events...); err != nil {
		return nil, err
	}
	said := append(c.warnings(spoken.none), spoken.notes...)
	done := &Installed{Record: rows[len(rows)-1].IssuerRecord, Warnings: said}
	if err := t.Refresh(ctx); err != nil {
		done.Warnings = append(done.Warnings, fmt.Sprintf("it is installed, but not in force yet (%v): run `privyseal "+
			"config reload`", err))
	}
	return done, nil
}

// candidate is a declared CA whose certificate is to be put in force.
type candidate struct {
	d     ca.Declaration
	chain []*x509.Certificate  // up to the root
	known []store.IssuerRecord // what is installed
	rec   *store.IssuerRecord  // under the same id, nil if nothing is
	old   *x509.Certificate    // of rec

	verdict calaw.Verdict // that it may stand
}

func (c *candidate) inForce() bool { return c.old != nil && bytes.Equal(c.old.Raw, c.chain[0].Raw) }

// consider holds what was given for a CA against its declaration, the laws of the
// tree and what is installed.
func (t *Tree) consider(ctx context.Context, id string, chain []byte) (*candidate, error) {
	c := &candidate{}
	var err error
	if c.d, err = t.declared(id); err != nil {
		return nil, err
	}
	given, err := pki.ParseChain(chain)
	if err != nil {
		return nil, fault.New(fault.Malformed, "the certificate: %w", err).Because("certificate_form")
	}
	if c.known, err = t.Store.Issuers(ctx); err != nil {
		return nil, err
	}
	if c.chain, err = complete(given, c.known); err != nil {
		return nil, err
	}
	if c.verdict, err = ca.Judge(c.chain, !c.d.Offline, t.Now()); err != nil {
		return nil, err
	}
	if !c.d.Offline && len(c.chain) == 1 {
		return nil, fault.New(fault.Denied, "%s is self-signed: a root's key is not on a server; declare it under "+
			"offline",
			c.chain[0].Subject).Because("root_online")
	}
	if c.rec, c.old, err = t.installed(ctx, id); err != nil {
		return nil, err
	}
	return c, onlyOnce(c)
}

// onlyOnce refuses a CA with its key here that is installed under another id: its
// lists would have two series of numbers. Where the key is elsewhere there is one
// series, and an id under which it came before goes on as another name for it.
func onlyOnce(c *candidate) error {
	for _, r := range c.known {
		have, err := x509.ParseCertificate(r.Certificate)
		alias := c.d.Offline && r.State == ca.OfflineRow
		if err != nil || r.ID == c.d.ID || alias || !ca.SameCA(have, c.chain[0]) {
			continue
		}
		return fault.New(fault.Conflict, "this CA is installed already, as %s: use that id in the configuration", r.ID).
			Because("issuer_elsewhere")
	}
	return nil
}

// standing says whether a CA would be in use with the rows that are to be written, by
// what a node makes of them: what it would leave pending is not installed.
func (t *Tree) standing(c *candidate, rows []store.Installation) error {
	records := slices.Clone(c.known)
	for _, r := range rows {
		records = slices.DeleteFunc(records, func(o store.IssuerRecord) bool { return o.ID == r.ID })
		records = append(records, r.IssuerRecord)
	}
	in := ca.Inputs{Declared: t.Declared(), Records: records, Now: t.Now()}
	made := ca.Build(in).Get(c.d.ID)
	if made == nil || made.Pending == nil {
		return nil
	}
	return fault.New(fault.Denied, "with this certificate the server would not use %s: %s",
		c.d.ID, fault.Text(made.Pending)).Because("issuer_pending")
}

func (t *Tree) installedEvent(who Actor, r store.Installation, spoken string) (store.Event, error) {
	detail, err := json.Marshal(map[string]any{
		"certificate_sha256": pki.Fingerprint(r.Certificate), "subject": r.Subject, "parent": r.ParentID,
		"not_after": r.NotAfter.UTC(),
		"replaces":  r.Replaces != nil, "transcript": spoken,
	})
	return t.event(who, "issuer.installed", r.ID, detail), err
}

// complete follows a chain up to its root. CAs that are installed win over those
// in the file: one key and name has one certificate in force.
func complete(given []*x509.Certificate, known []store.IssuerRecord) ([]*x509.Certificate, error) {
	chain, rest := given[:1:1], given[1:]
	for !bytes.Equal(chain[len(chain)-1].RawSubject, chain[len(chain)-1].RawIssuer) {
		last := chain[len(chain)-1]
		var next *x509.Certificate
		for _, r := range known {
			c, err := x509.ParseCertificate(r.Certificate)
			if err == nil && bytes.Equal(c.RawSubject, last.RawIssuer) && pki.CertifiedBy(last, c) == nil {
				next = c
			}
		}
		if len(rest) > 0 {
			if next == nil {
				next = rest[0]
			}
			rest = rest[1:]
		}
		if next == nil {
			return nil, fault.New(fault.Malformed,
				"the chain ends with %s, and its issuer %s is not installed here: append that one's certificate to "+
					"the file, up to the root",
				last.Subject, last.Issuer).Because("chain_incomplete")
		}
		if chain = append(chain, next); len(chain) > hierarchy.MaxDepth {
			break // the laws say why not
		}
	}
	return chain, nil
}

// fitsRequest compares the certificate of a CA that is to sign here with its request.
func (t *Tree) fitsRequest(ctx context.Context, d ca.Declaration, c *x509.Certificate) error {
	if d.Offline {
		return nil
	}
	last, err := t.lastRequest(ctx, d.ID)
	if err != nil || last == nil {
		return err // a key that came from elsewhere has no request here
	}
	if !pki.SameKey(last.csr.PublicKey, c.PublicKey) {
		return otherKey(d)
	}
	have, err := pki.ParseNameDER(c.RawSubject)
	if err != nil {
		return err
	}
	if !have.EqualRFC5280(last.csr.Subject) {
		return fault.New(fault.Denied, "the certificate names %s, and the request asked for %s", have,
			last.csr.Subject).Because("subject_mismatch")
	}
	return nil
}

func otherKey(d ca.Declaration) error {
	return fault.New(fault.Denied, "the certificate is not for the key of issuer %s: was it made for the newest "+
		"request (privyseal issuer csr %s)?", d.ID, d.ID).Because("key_mismatch")
}

// holds reports whether the key that the configuration names is the certificate's.
// The key is touched when all else agrees.
func holds(ctx context.Context, d ca.Declaration, c *x509.Certificate) error {
	if d.Offline {
		return nil
	}
	key, err := keys.Open(ctx, d.Key, d.Secret, d.KeyConfig)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, fmt.Sprintf("the key of issuer %s cannot be opened: %v", d.ID, err)).
			Because("key")
	}
	defer key.Close() //nolint:errcheck // it was only looked at
	if !pki.SameKey(key.Public(), c.PublicKey) {
		return otherKey(d)
	}
	return nil
}

// rows returns what is to be written, the root first, if the CA would be in use with
// it.
func (t *Tree) rows(ctx context.Context, c *candidate) ([]store.Installation, error) {
	var rows []store.Installation
	parent := ""
	for i := len(c.chain) - 1; i > 0; i-- {
		if id := t.idOf(c.chain[i].Raw, c.known); id != "" {
			parent = id
			continue
		}
		id := ca.NameOf(t.Declared(), c.chain[i])
		above := ca.NewRecord(id, parent, ca.OfflineRow, c.chain[i], t.Now())
		rows = append(rows, store.Installation{IssuerRecord: above})
		parent = id
	}
	siblings, room, err := t.room(ctx, parent, c)
	if err != nil {
		return nil, err
	}
	state := string(ca.Active)
	if c.d.Offline {
		state = ca.OfflineRow
	}
	row := store.Installation{
		IssuerRecord: ca.NewRecord(c.d.ID, parent, state, c.chain[0], t.Now()), Siblings: siblings, Room: room,
	}
	if own := c.rec; own != nil {
		row.Replaces, row.ReplacedAt = own.Certificate, t.Now()
		row.CreatedAt, row.State, row.Generation, row.Name = own.CreatedAt, own.State, own.Generation, own.Name
	}
	rows = append(rows, row)
	return rows, t.standing(c, rows)
}

// idOf returns the id under which a certificate is installed, one that the
// configuration knows before others; empty if it is under none.
func (t *Tree) idOf(certificate []byte, known []store.IssuerRecord) string {
	found := ""
	for _, r := range known {
		if bytes.Equal(r.Certificate, certificate) && (found == "" || t.isDeclared(r.ID)) {
			found = r.ID
		}
	}
	return found
}

// room returns the ids of the CA above and how many CAs its declaration lets be below it
// (G2-19), 0 if any number. That there are as many already is refused at once; that they
// came in the meantime, when the certificate is put in force.
func (t *Tree) room(ctx context.Context, parent string, c *candidate) (ids []string, most int, err error) {
	if own := c.rec; parent == "" || own != nil && own.ParentID == parent {
		return nil, 0, nil
	}
	up := ca.Build(ca.Inputs{Declared: t.Declared(), Records: c.known, Now: t.Now()}).Get(parent)
	if up == nil || up.MaxChildren == 0 {
		return nil, 0, nil
	}
	ids, most = up.IDs(), up.MaxChildren
	n, err := t.Store.Children(ctx, ids...)
	if err == nil && n >= most {
		err = fault.New(fault.Denied, "%s has %d CAs below it already, and max_children is %d", up.ID, n, most).
			Because("max_children")
	}
	return ids, most, err
}

// warnings are what is allowed and still worth a look.
func (c *candidate) warnings(unspoken bool) []string {
	var list []string
	for _, f := range slices.Concat(c.verdict.NoSigning, c.verdict.NotNow) {
		list = append(list, "it signs nothing new, only lists and OCSP: "+f.Detail)
	}
	for _, f := range c.verdict.Warnings {
		list = append(list, f.Detail)
	}
	if unspoken {
		list = append(list, "no transcript speaks for this certificate: nothing here proves in which ceremony, and "+
			"for which request, it was signed")
	}
	cert, up := c.chain[0], c.chain[len(c.chain)-1]
	if cert != up && len(cert.CRLDistributionPoints) == 0 {
		list = append(list, "the certificate says nowhere where its issuer's revocation list is: clients cannot find "+
			"out that it was revoked")
	}
	if cert != up && cert.NotAfter.Sub(cert.NotBefore) > up.NotAfter.Sub(up.NotBefore)*9/10 {
		end := cert.NotAfter.UTC().Format(time.DateOnly)
		list = append(list, "it lives nearly as long as its root, until "+end)
	}
	return list
}
