// Package verify holds a whole store against the invariants of a CA
// (ARCHITECTURE.md, "Invariants"). CheckCA is what `privyseal verify` runs, and
// what the tests run after every scenario. It reads pages, changes nothing, and
// may run beside a serving node: what is in progress is no finding until it is
// older than its deadline. On request it also asks what certificates point to.
package verify

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/store"
)

// The deadlines after which something unfinished is a finding.
const (
	processingAge  = 60 * time.Second
	reservationAge = 2 * time.Minute
)

// page is how many rows are read at once.
const page = 500

// Finding is one broken invariant.
type Finding struct {
	Invariant int    `json:"invariant"` // its number in ARCHITECTURE.md
	Subject   string `json:"subject"`   // what it is about: "certificate <id>", "order <id>", "chain <node>"
	What      string `json:"what"`
}

func (f Finding) String() string {
	return fmt.Sprintf("invariant %d: %s: %s", f.Invariant, f.Subject, f.What)
}

// Report says what was looked at and what is wrong.
type Report struct {
	Issuers      int       `json:"issuers"`
	Certificates int       `json:"certificates"`
	Imported     int       `json:"imported"` // certificates that did not come through the door
	Orders       int       `json:"orders"`
	Lists        int       `json:"crls"`
	AuditEvents  int64     `json:"audit_events"`
	Fetched      int       `json:"fetched,omitempty"`     // URLs in certificates that were asked
	NotFetched   int       `json:"not_fetched,omitempty"` // those that there was no time for
	Findings     []Finding `json:"findings"`
	Warnings     []string  `json:"warnings,omitempty"` // what could not be looked at
}

// Config is what CheckCA needs beside the store.
type Config struct {
	AuditKeys []crypto.PublicKey // public halves of the checkpoint keys
	Archives  []string           // audit segments whose events were purged
	Archive   string             // the folder of more of them; may be empty
	// AuditFolder has this node's own checkpoints; nil leaves them out.
	AuditFolder *audit.Folder
	Now         time.Time
	Progress    func(certificates int) // may be nil; called after each page
	Fetch       bool                   // what certificates point to is fetched too, over the network
}

type check struct {
	Config
	store   *store.Store
	report  Report
	chains  map[string][]*x509.Certificate // issuer id → its chain, issuer first
	intents map[string]struct{}            // certificate ids with an audit intent
	oldest  time.Time                      // of the first audit event kept
	unread  []audit.Unread                 // audit events that could not be had
	unknown int                            // certificates whose intent may be among them
}

// CheckCA checks every invariant that can be seen in the store. The error says
// that it could not be read; what is wrong is in the report.
func CheckCA(ctx context.Context, s *store.Store, cfg Config) (*Report, error) {
	c := &check{Config: cfg, store: s, chains: map[string][]*x509.Certificate{}, intents: map[string]struct{}{}}
	c.report.Findings = []Finding{} // an empty list in JSON, not null
	parts := []func(context.Context) error{c.audit, c.issuers, c.certificates, c.unjudged, c.orders, c.lists}
	if cfg.Fetch {
		parts = append(parts, c.pointers)
	}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return &c.report, nil
}

// intent is invariant 1. An intent that may be among the audit events that could not
// be read is missing to nobody.
func (c *check) intent(row *store.Certificate) {
	_, ok := c.intents[row.ID]
	switch {
	case ok || row.ReservedAt.Before(c.oldest) && len(c.unread) == 0:
	case slices.ContainsFunc(c.unread, func(u audit.Unread) bool { return row.ReservedAt.Before(u.Until) }):
		c.unknown++
	default:
		c.find(1, "certificate "+row.ID, "no audit intent was written before its signature")
	}
}

// unjudged says once for how many certificates there is no telling.
func (c *check) unjudged(context.Context) error {
	if c.unknown == 0 {
		return nil
	}
	where := "audit.archive is not configured"
	if c.Archive != "" {
		where = "the folder " + c.Archive + " has no segment of them"
	}
	c.find(1, "audit", "%d certificates could not be held against their audit intent: %d older events are not in "+
		"the database, and %s; name the segments with --archive",
		c.unknown, (&audit.Report{Unread: c.unread}).NotRead(), where)
	return nil
}

func (c *check) find(invariant int, subject, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{invariant, subject, fmt.Sprintf(format, args...)})
}

// audit is invariant 7, and remembers the intents for invariant 1.
func (c *check) audit(ctx context.Context) error {
	v := audit.Verifier{
		Store: c.store, Keys: c.AuditKeys, Archives: c.Archives, Dir: c.Archive, Folder: c.AuditFolder,
	}
	v.Each = func(e *store.Event) {
		if c.oldest.IsZero() || e.At.Before(c.oldest) {
			c.oldest = e.At
		}
		if e.Action == audit.ActionIntent {
			c.intents[e.Subject] = struct{}{}
		}
	}
	r, err := v.Verify(ctx)
	if err != nil {
		return err
	}
	c.report.AuditEvents, c.report.Warnings, c.unread = r.Events, r.Warnings, r.Unread
	for _, f := range r.Findings {
		c.find(7, "audit", "%s", f)
	}
	return nil
}
