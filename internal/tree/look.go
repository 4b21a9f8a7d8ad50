package tree

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// The severities of findings.
const (
	SeverityError   = "error"   // a law is broken: clients refuse, or will
	SeverityWarning = "warning" // allowed, and worth a look
)

// Finding is something about the CAs at rest that a person should know.
type Finding struct{ Severity, About, What string }

// Place is a CA in its tree, with what it costs to be below it.
type Place struct {
	Record       store.IssuerRecord
	Root         string
	Level        int // 1 is a root
	PathLen      int // -1 is none
	Key          string
	Children     int // CAs right below it
	MaxChildren  int
	Certificates int64         // that it has issued and that have not expired
	ChainBytes   int           // of CA certificates that a server below it sends: all but the root
	Signatures   int           // that a client verifies below it for one certificate
	Verify       time.Duration // what that takes here
}

// Look returns the installed CAs, each after the one above it, and what the laws
// at rest say of them.
func (t *Tree) Look(ctx context.Context) ([]Place, []Finding, error) {
	records, err := t.Store.Issuers(ctx)
	if err != nil {
		return nil, nil, err
	}
	l := &looker{Tree: t, byID: map[string]store.IssuerRecord{}, certs: map[string]*x509.Certificate{}}
	for _, r := range records {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			l.find(SeverityError, r.ID, "its certificate cannot be read: %v; privyseal issuer remove takes the record "+
				"out", err)
			continue
		}
		l.byID[r.ID], l.certs[r.ID] = r, c
	}
	if l.live, err = t.Store.LiveCertificates(ctx, t.Now()); err != nil {
		return nil, nil, err
	}
	records, as := t.fold(slices.DeleteFunc(records, func(r store.IssuerRecord) bool { return l.certs[r.ID] == nil }))
	for other, id := range as {
		l.live[id] += l.live[other]
		delete(l.byID, other)
	}
	for _, r := range records {
		l.byID[r.ID] = r
	}
	for _, r := range records {
		if r.ParentID == "" || l.certs[r.ParentID] == nil {
			l.walk(r.ID, nil)
		}
	}
	l.pools()
	return l.places, l.findings, l.strangers(ctx)
}

type looker struct {
	*Tree
	byID     map[string]store.IssuerRecord
	certs    map[string]*x509.Certificate
	live     map[string]int64
	places   []Place
	findings []Finding
}

func (l *looker) find(severity, about, format string, args ...any) {
	l.findings = append(l.findings, Finding{severity, about, fmt.Sprintf(format, args...)})
}

// walk looks at a CA and at those below it; above is its chain from the CA right
// above it up.
func (l *looker) walk(id string, above []string) {
	r, c := l.byID[id], l.certs[id]
	chain := []*x509.Certificate{c}
	for _, up := range above {
		chain = append(chain, l.certs[up])
	}
	p := Place{Record: r, Root: id, Level: len(chain), PathLen: -1, Key: pki.KeyAlgorithm(c.PublicKey)}
	if len(above) > 0 {
		p.Root = above[len(above)-1]
	}
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		p.PathLen = c.MaxPathLen
	}
	for _, d := range l.Declared() {
		if d.ID == id {
			p.MaxChildren = d.MaxChildren
		}
	}
	cost(&p, chain)
	p.Certificates = l.live[id]
	var below []string
	for other, o := range l.byID {
		if o.ParentID == id {
			below = append(below, other)
		}
	}
	slices.Sort(below)
	p.Children = len(below)
	l.places = append(l.places, p)
	l.laws(&p, chain)
	for _, b := range below {
		if len(above) > hierarchy.MaxDepth {
			break // a circle, or far too deep: said above
		}
		l.walk(b, append([]string{id}, above...))
	}
}

// cost measures what a certificate below a CA costs (G2-16, G2-17).
func cost(p *Place, chain []*x509.Certificate) {
	for i, c := range chain {
		if i < len(chain)-1 {
			p.ChainBytes += len(c.Raw)
		}
	}
	p.Signatures = len(chain)
	began := time.Now() //nolint:forbidigo // a measurement, not a decision
	for i, c := range chain {
		up := chain[min(i+1, len(chain)-1)]
		_ = pki.SignedBy(c, up) // laws says if it does not verify
	}
	p.Verify = time.Since(began)
}

// laws says what is wrong with a CA where it stands.
func (l *looker) laws(p *Place, chain []*x509.Certificate) {
	id := p.Record.ID
	if p.Record.ParentID != "" && l.certs[p.Record.ParentID] == nil {
		l.find(SeverityError, id, "the CA above it, %s, is not installed", p.Record.ParentID)
	} else {
		v, refused := ca.Judge(chain, p.Record.State != ca.OfflineRow, l.Now())
		if refused != nil && v.Refused == nil {
			l.find(SeverityError, id, "%s", fault.Text(refused))
		}
		l.verdict(id, v)
	}
	if p.MaxChildren > 0 && p.Children > p.MaxChildren {
		l.find(SeverityError, id, "it has %d CAs below it, and max_children is %d", p.Children, p.MaxChildren)
	}
	if p.Level > 2 && p.Children == 0 {
		l.find(SeverityWarning, id, "it is at level %d: %d octets of CA certificates at each handshake, %d signatures "+
			"for clients to verify; two levels serve nearly everybody",
			p.Level, p.ChainBytes, p.Signatures)
	}
	if p.Level > 1 && len(chain[0].CRLDistributionPoints) == 0 {
		l.find(SeverityWarning, id, "its certificate says nowhere where the list of the CA above is: clients cannot "+
			"find out that it was revoked")
	}
}

func (l *looker) verdict(id string, v calaw.Verdict) {
	if v.Refused != nil {
		l.find(SeverityError, id, "%s", v.Refused.Detail)
	}
	for _, f := range v.NotNow {
		l.find(SeverityError, id, "%s", f.Detail)
	}
	for _, f := range slices.Concat(v.NoSigning, v.Warnings) {
		l.find(SeverityWarning, id, "%s", f.Detail)
	}
}

// importedCA is the profile of certificates of CAs that were imported without one.
const importedCA = "imported-ca"

// strangers finds certificates of CAs that our CAs have issued and that are
// nobody's here: made by accident, or by somebody who should not have (G2-35).
func (l *looker) strangers(ctx context.Context) error {
	rows, err := l.Store.CertificatesByProfile(ctx, append(l.CAProfiles(), importedCA))
	if err != nil {
		return err
	}
next:
	for _, row := range rows {
		c, err := x509.ParseCertificate(row.DER)
		if err != nil || !c.IsCA || row.Revocation != nil || c.NotAfter.Before(l.Now()) {
			continue // privyseal verify says which certificates cannot be read
		}
		for _, known := range l.certs {
			if known.Equal(c) {
				continue next
			}
		}
		l.find(SeverityError, row.IssuerID, "it has issued a CA certificate for %s, serial %s, that is not installed "+
			"here: who holds that key? (if all is well, declare it under offline and install it)", c.Subject,
			row.Serial)
	}
	return nil
}

// pools warns of trees in which one key is all there is (G1-54).
func (l *looker) pools() {
	online := map[string][]string{}
	for _, p := range l.places {
		if p.Record.State == "active" && p.Level > 1 && p.Children == 0 {
			online[p.Root] = append(online[p.Root], p.Record.ID)
		}
	}
	for _, p := range l.places {
		if p.Level == 1 && len(online[p.Root]) == 1 {
			l.find(SeverityWarning, p.Root, "one issuing CA is below it (%s): when its key fails, nothing is issued "+
				"until it is back", online[p.Root][0])
		}
	}
}

// page is how many certificates are read at once.
const page = 500

// each walks all certificates of a CA under its ids, of each the newest first.
func (t *Tree) each(ctx context.Context, ids []string, do func(*store.Certificate) error) error {
	for _, id := range ids {
		for after, more := "", true; more; more = after != "" {
			rows, next, err := t.Store.SearchCertificates(ctx, store.Search{Issuer: id, After: after, Limit: page})
			if err != nil {
				return err
			}
			for i := range rows {
				if err := do(&rows[i]); err != nil {
					return err
				}
			}
			after = next
		}
	}
	return nil
}
