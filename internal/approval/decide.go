package approval

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Actor is who decides, for the audit record.
type Actor struct {
	Name      string // such as "uid:1000"
	RequestID string // of the call
}

// server decides what no person has to.
var server = Actor{Name: "server"}

// maxReason bounds what a client is told of a rejection.
const maxReason = 500

// keepDecided is how long a decided request stays, so that its client hears of
// the decision and a retransmission is no new request.
const keepDecided = 7 * 24 * time.Hour

// View is a request as a person sees it.
type View struct {
	store.Request
	State   store.RequestStatus
	Preview *issuance.Preview // what would be signed now; nil once that does not matter
	Changed bool              // Preview is not what the request waits for approval of
	Changes []string          // what is not as it was when the request came, for the one who decides
}

// List returns up to limit requests, newest first, older than the one named.
func (q *Queue) List(ctx context.Context, f store.RequestSearch) ([]View, error) {
	switch f.Status {
	case "", store.RequestPending, store.RequestApproved, store.RequestRejected, store.RequestExpired,
		store.RequestIssued:
	default:
		return nil, fault.New(fault.Malformed, "status %q is not one of pending, approved, issued, rejected, expired",
			f.Status).Because("status")
	}
	rows, err := q.store.SearchRequests(ctx, f)
	if err != nil {
		return nil, err
	}
	views := make([]View, len(rows))
	for i := range rows {
		views[i] = View{Request: rows[i], State: rows[i].State(q.now())}
	}
	return views, nil
}

// Show returns a request and what would be signed for it now.
func (q *Queue) Show(ctx context.Context, id string) (*View, error) {
	row, err := q.find(ctx, id)
	if err != nil {
		return nil, err
	}
	v := &View{Request: *row, State: row.State(q.now())}
	if !v.State.Undecided() {
		return v, nil
	}
	again, err := issuance.Again(row)
	if err != nil {
		return nil, err
	}
	preview := q.pipeline.Preview(ctx, again)
	if preview.Allowed {
		if err := q.stands(ctx, row, again); err != nil {
			if passing(err) {
				return nil, err
			}
			preview.Allowed, preview.Fault = false, fault.Of(err)
		}
	}
	v.Preview = &preview
	v.Changed = preview.Allowed && !same(row, &preview)
	v.Changes = changes(v)
	return v, nil
}

// changes says what is not as it was when a request came: it was allowed then.
func changes(v *View) (all []string) {
	t := v.Preview.Template
	switch {
	case !v.Preview.Allowed:
		return []string{fault.Text(v.Preview.Fault)}
	case !v.Changed:
		return nil
	}
	if t.Subject != v.Subject {
		all = append(all, fmt.Sprintf("the subject would be %q and was %q", t.Subject, v.Subject))
	}
	if !slices.Equal(t.Names, v.Names) {
		all = append(all, fmt.Sprintf("the names would be %s and were %s", texts(t.Names), texts(v.Names)))
	}
	return append(all, "what would be signed now is not what the request came for")
}

func texts(names []pki.Identifier) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = string(n.Type) + ":" + n.Value
	}
	return all
}

func same(row *store.Request, p *issuance.Preview) bool {
	digest := p.Template.Digest()
	return string(digest[:]) == string(row.TemplateDigest)
}

func (q *Queue) find(ctx context.Context, id string) (*store.Request, error) {
	row, err := q.store.Request(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && row.Status == store.RequestOpen {
		return nil, fault.New(fault.NotFound, "there is no request %s", id).Because("request_unknown")
	}
	return row, err
}

// ceased tells the one who approves what to do about what does not hold any more.
func ceased(f *fault.Error) error {
	told := *f
	told.Detail = "since the request came this has changed: " + fault.Text(f) +
		": reject it, or approve it once that is mended"
	return &told
}

func decided(s store.RequestStatus) error {
	return fault.New(fault.Conflict, "the request is %s", s).Because("request_" + string(s))
}

// Approve lets a pending request have its certificate and issues it, unless it
// is an ACME order, which ACME finishes. Issuing that fails for now is tried
// again by Sweep; the view tells the state.
//
// Faults: NotFound; Denied for one's own request; Conflict if it is not pending,
// or if what would be signed has changed since the request came (the request then
// waits for approval of that: look at it and approve again); whatever the rules
// now refuse.
func (q *Queue) Approve(ctx context.Context, id string, by Actor) (*View, error) {
	v, err := q.Show(ctx, id)
	if err != nil {
		return nil, err
	}
	switch {
	case v.Requester == by.Name:
		return nil, fault.New(fault.Denied, "the one who asked cannot be the one who approves").Because("own_request")
	case v.State != store.RequestPending:
		return nil, decided(v.State)
	case !v.Preview.Allowed:
		return nil, ceased(v.Preview.Fault)
	case v.Changed:
		digest, t := v.Preview.Template.Digest(), v.Preview.Template
		if err := q.store.RenewTemplate(ctx, id, digest[:], t.Subject, t.Names); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Conflict, "what would be signed has changed since the request came: look at it "+
			"again").Because("template_changed")
	}
	expires := q.now().Add(issuance.ApprovalLife)
	if v.Protocol == "acme" {
		expires = v.ExpiresAt // the order's
	}
	approved := store.Decision{Status: store.RequestApproved, Digest: v.TemplateDigest, Expires: expires}
	if err := q.decide(ctx, &v.Request, approved, by); err != nil {
		return nil, err
	}
	if err := q.issue(ctx, id); err != nil && !passing(err) {
		return nil, err
	}
	return q.Show(ctx, id)
}

// Reject refuses a request for good; its client is told the reason. An approval
// that was not used can be taken back so.
func (q *Queue) Reject(ctx context.Context, id, reason string, by Actor) (*View, error) {
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) {
		return nil, fault.New(fault.Malformed, "a rejection needs a reason of at most %d bytes", maxReason).
			Because("reason")
	}
	row, err := q.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if state := row.State(q.now()); !state.Undecided() {
		return nil, decided(state)
	}
	if err := q.reject(ctx, row, reason, by); err != nil {
		return nil, err
	}
	return q.Show(ctx, id)
}

func (q *Queue) reject(ctx context.Context, row *store.Request, reason string, by Actor) error {
	expires := q.now().Add(keepDecided)
	if row.Protocol == "acme" && row.ExpiresAt.After(expires) {
		expires = row.ExpiresAt // as long as its order
	}
	return q.decide(ctx, row, store.Decision{Status: store.RequestRejected, Reason: reason, Expires: expires}, by)
}

func (q *Queue) decide(ctx context.Context, row *store.Request, dec store.Decision, by Actor) error {
	dec.At, dec.By = q.now(), by.Name
	detail, err := json.Marshal(map[string]any{
		"origin": row.Origin, "profile": row.Profile, "requester": row.Requester, "reason": dec.Reason,
		"template_sha256": hex.EncodeToString(row.TemplateDigest),
	})
	if err != nil {
		return fmt.Errorf("decide request: %w", err)
	}
	return q.store.DecideRequest(ctx, row.ID, dec, store.Event{
		At: dec.At, Action: "request." + string(dec.Status), Outcome: "success",
		Actor: by.Name, Subject: "request:" + row.ID,
		RequestID: by.RequestID, Detail: detail,
	})
}

// issue passes an approved request through the door. What the rules refuse now
// is final: nobody would come to ask again.
func (q *Queue) issue(ctx context.Context, id string) error {
	row, err := q.store.Request(ctx, id)
	if err != nil {
		return err
	}
	if row.Protocol == "acme" || row.CertificateID != "" {
		return nil
	}
	again, err := issuance.Again(row)
	if err != nil {
		return err
	}
	if err = q.stands(ctx, row, again); err == nil {
		_, err = q.pipeline.Issue(ctx, again)
	}
	if err == nil || passing(err) {
		return err
	}
	why := fault.Of(err).Detail
	failed := q.reject(ctx, row, "approved, but refused when it was to be issued: "+why, server)
	if failed != nil && !fault.Is(failed, fault.Conflict) {
		q.log.ErrorContext(ctx, "refusal of an approved request not recorded",
			"request", id, "cause", why, "error", failed)
	}
	return err
}

// passing reports whether an error may be gone when the same is tried later.
func passing(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Unavailable, fault.Internal, fault.Pending, fault.Conflict, fault.RateLimited:
		return true
	default:
		return false
	}
}

const (
	sweepEvery = 10 * time.Second
	sweepLimit = 100
)

// Run sweeps until ctx ends.
func (q *Queue) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := q.Sweep(ctx); err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "requests not swept", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep issues what was approved and could not be issued then, and marks what
// nobody decided, or used, in time.
func (q *Queue) Sweep(ctx context.Context) error {
	now := q.now()
	overdue, err := q.store.OverdueRequests(ctx, now, sweepLimit)
	if err != nil {
		return err
	}
	for i := range overdue {
		row := &overdue[i]
		err := q.decide(ctx, row, store.Decision{Status: store.RequestExpired, Expires: row.ExpiresAt}, server)
		if err != nil && !fault.Is(err, fault.Conflict) { // another node was quicker
			return err
		}
	}
	approved, err := q.store.ApprovedRequests(ctx, now.Add(-sweepEvery/2), sweepLimit)
	if err != nil {
		return err
	}
	for i := range approved {
		if err := q.issue(ctx, approved[i].ID); err != nil {
			q.log.InfoContext(ctx, "approved request not issued", "request", approved[i].ID, "error", err)
		}
	}
	return nil
}
