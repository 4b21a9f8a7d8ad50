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
	if old := c.old; old != nil && (!sameKey(old.PublicKey, c.chain[0].PublicKey) || !bytes.Equal(old.RawSubject, c.chain[0].RawSubject)) {
		return nil, fault.New(fault.Conflict, "issuer %s is installed with another key or name, which its relying parties know: give the new CA a new name", id).Because("issuer_key")
	}
	spoken, err := t.checkTranscript(ctx, c.d, c.chain, in)
	if err != nil {
		return nil, err
	}
	rows, err := t.rows(ctx, c.d, c.chain, c.known, c.rec)
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
		done.Warnings = append(done.Warnings, fmt.Sprintf("it is installed, but not in force yet (%v): run `privyseal config reload`", err))
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
	c.verdict = calaw.Foreign(c.chain, t.Now())
	if err := c.verdict.Err(); err != nil {
		return nil, err
	}
	if err := t.checkCertificate(ctx, c.d, c.chain); err != nil {
		return nil, err
	}
	if err := c.verdict.MayList(); err != nil && !c.d.Offline {
		return nil, err // neither certificates nor lists: there is nothing that it could do here
	}
	if c.rec, c.old, err = t.installed(ctx, id); err != nil {
		return nil, err
	}
	return c, onlyOnce(id, c.chain[0], c.known)
}

// onlyOnce refuses a CA that is installed under another id: its lists would have
// two series of numbers.
func onlyOnce(id string, ca *x509.Certificate, known []store.IssuerRecord) error {
	for _, r := range known {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil || r.ID == id || !bytes.Equal(c.RawSubject, ca.RawSubject) || !sameKey(c.PublicKey, ca.PublicKey) {
			continue
		}
		return fault.New(fault.Conflict, "this CA is installed already, as %s: use that name in the configuration (a CA above an issuer that was installed with its chain is named by its fingerprint; install offline CAs first, root first, to name them yourself)", r.ID).Because("issuer_elsewhere")
	}
	return nil
}

func (t *Tree) installedEvent(who Actor, r store.Installation, spoken string) (store.Event, error) {
	detail, err := json.Marshal(map[string]any{
		"certificate_sha256": pki.Fingerprint(r.Certificate), "subject": r.Subject, "parent": r.ParentID, "not_after": r.NotAfter.UTC(),
		"replaces": r.Replaces != nil, "transcript": spoken,
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
			return nil, fault.New(fault.Malformed, "the chain ends with %s, and its issuer %s is not installed here: append that one's certificate to the file, up to the root",
				last.Subject, last.Issuer).Because("chain_incomplete")
		}
		if chain = append(chain, next); len(chain) > hierarchy.MaxDepth {
			break // the laws say why not
		}
	}
	return chain, nil
}

// checkCertificate compares a CA that is to sign here with its request.
func (t *Tree) checkCertificate(ctx context.Context, d ca.Declaration, chain []*x509.Certificate) error {
	if d.Offline {
		return nil
	}
	if len(chain) == 1 {
		return fault.New(fault.Denied, "%s is self-signed: a root's key is not on a server; declare it under offline", chain[0].Subject).Because("root_online")
	}
	last, err := t.lastRequest(ctx, d.ID)
	if err != nil || last == nil {
		return err // a key that came from elsewhere has no request here
	}
	if !sameKey(last.csr.PublicKey, chain[0].PublicKey) {
		return otherKey(d)
	}
	have, err := pki.ParseNameDER(chain[0].RawSubject)
	if err != nil {
		return err
	}
	if !have.EqualRFC5280(last.csr.Subject) {
		return fault.New(fault.Denied, "the certificate names %s, and the request asked for %s", have, last.csr.Subject).Because("subject_mismatch")
	}
	return nil
}

func otherKey(d ca.Declaration) error {
	return fault.New(fault.Denied, "the certificate is not for the key of issuer %s: was it made for the newest request (privyseal issuer csr %s)?", d.ID, d.ID).Because("key_mismatch")
}

// holds reports whether the key that the configuration names is the certificate's.
// The key is touched when all else agrees.
func holds(ctx context.Context, d ca.Declaration, c *x509.Certificate) error {
	if d.Offline {
		return nil
	}
	key, err := keys.Open(ctx, d.Key, d.Secret, d.KeyConfig)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, fmt.Sprintf("the key of issuer %s cannot be opened: %v", d.ID, err)).Because("key")
	}
	defer key.Close() //nolint:errcheck // it was only looked at
	if !sameKey(key.Public(), c.PublicKey) {
		return otherKey(d)
	}
	return nil
}

// rows returns what is to be written, the root first.
func (t *Tree) rows(ctx context.Context, d ca.Declaration, chain []*x509.Certificate, known []store.IssuerRecord, own *store.IssuerRecord) ([]store.Installation, error) {
	var rows []store.Installation
	parent := ""
	for i := len(chain) - 1; i > 0; i-- {
		at := slices.IndexFunc(known, func(r store.IssuerRecord) bool { return bytes.Equal(r.Certificate, chain[i].Raw) })
		if at >= 0 {
			parent = known[at].ID
			continue
		}
		id := ca.NameOf(t.Declared(), chain[i])
		rows = append(rows, store.Installation{IssuerRecord: t.record(id, parent, "offline", chain[i])})
		parent = id
	}
	if err := t.checkRoom(ctx, parent, own); err != nil {
		return nil, err
	}
	state := "active"
	if d.Offline {
		state = "offline"
	}
	row := store.Installation{IssuerRecord: t.record(d.ID, parent, state, chain[0])}
	if own != nil {
		row.Replaces = own.Certificate
		row.CreatedAt, row.State, row.Generation, row.Name = own.CreatedAt, own.State, own.Generation, own.Name
	}
	return append(rows, row), nil
}

func (t *Tree) record(id, parent, state string, c *x509.Certificate) store.IssuerRecord {
	return store.IssuerRecord{
		ID: id, Name: id, Generation: 1, State: state, ParentID: parent, Certificate: c.Raw,
		Subject: c.Subject.String(), NotAfter: c.NotAfter, CreatedAt: t.Now(),
	}
}

// checkRoom keeps a CA from having more CAs below it than its declaration says
// (G2-19).
func (t *Tree) checkRoom(ctx context.Context, parent string, own *store.IssuerRecord) error {
	if own != nil && own.ParentID == parent {
		return nil
	}
	for _, d := range t.Declared() {
		if d.ID != parent || d.MaxChildren == 0 {
			continue
		}
		n, err := t.Store.Children(ctx, parent)
		if err != nil {
			return err
		}
		if n >= d.MaxChildren {
			return fault.New(fault.Denied, "%s has %d CAs below it already, and max_children is %d", parent, n, d.MaxChildren).Because("max_children")
		}
	}
	return nil
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
		list = append(list, "no transcript speaks for this certificate: nothing here proves in which ceremony, and for which request, it was signed")
	}
	cert, up := c.chain[0], c.chain[len(c.chain)-1]
	if cert != up && len(cert.CRLDistributionPoints) == 0 {
		list = append(list, "the certificate says nowhere where its issuer's revocation list is: clients cannot find out that it was revoked")
	}
	if cert != up && cert.NotAfter.Sub(cert.NotBefore) > up.NotAfter.Sub(up.NotBefore)*9/10 {
		end := cert.NotAfter.UTC().Format(time.DateOnly)
		list = append(list, "it lives nearly as long as its root, until "+end)
	}
	return list
}
