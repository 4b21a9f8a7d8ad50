package issuance

import (
	"context"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// MaxPage is the most that one call of RevokeMatching revokes.
const MaxPage = 4096

// How many certificates share a commit, so that others wait shortly, and how
// long one call goes on.
const (
	bulkCommit = 256
	bulkTime   = 2 * time.Second
)

// Selection asks to revoke what a match selects, from After on.
type Selection struct {
	Match        store.Match // its Reason is the one to revoke for; Now is set here
	Where        string      // the match as the requester wrote it, for the audit record
	InvalidityAt *time.Time  // not before a certificate's own time: that is used instead
	Requester    string
	RequestID    string
	After        string // the cursor that the call before returned
	Limit        int    // 0 is as many as a call may
}

// Page is what one call of RevokeMatching did.
type Page struct {
	Revoked int    // now revoked
	Skipped int    // revoked by somebody else meanwhile
	Next    string // cursor of the next call; empty when all is done
}

// RevokeMatching revokes the next page of a selection, for an operator: a key
// compromise blocks the keys. A page ends after some thousand certificates or two
// seconds, whatever comes first. What it has revoked is durable even if it returns
// an error; who calls again with the same cursor, or with none, goes on where it
// ended, because revoked certificates are not selected.
func (p *Pipeline) RevokeMatching(ctx context.Context, s Selection) (Page, error) {
	began := p.now()
	if err := p.checkSelection(&s, began); err != nil {
		return Page{}, err
	}
	certs, next, err := p.nextMatches(ctx, s, began)
	if err != nil {
		return Page{}, err
	}
	page := Page{Next: next}
	done := 0
	for part := range slices.Chunk(certs, bulkCommit) {
		if err := ctx.Err(); err != nil {
			return page, fault.Wrap(fault.Unavailable, err, "the revocation was interrupted")
		}
		if done > 0 && p.now().Sub(began) > bulkTime {
			page.Next = certs[done-1].ID
			return page, nil
		}
		revoked, err := p.revokePart(ctx, s, part)
		page.Revoked += revoked
		if err != nil {
			return page, err
		}
		page.Skipped += len(part) - revoked
		done += len(part)
	}
	return page, nil
}

// nextMatches returns the next certificates of a selection. It may return none
// before the end if looking for them takes too long.
func (p *Pipeline) nextMatches(
	ctx context.Context, s Selection, began time.Time,
) (certs []store.Revocable, next string, err error) {
	for next = s.After; len(certs) == 0; {
		certs, next, err = p.store.Matches(ctx, s.Match, next, s.Limit)
		if err != nil || next == "" || p.now().Sub(began) > bulkTime {
			break
		}
	}
	return certs, next, err
}

// Selected counts what a selection would revoke and returns its first
// certificates.
func (p *Pipeline) Selected(ctx context.Context, s Selection, first int) (int64, []store.Certificate, error) {
	if err := p.checkSelection(&s, p.now()); err != nil {
		return 0, nil, err
	}
	count, err := p.store.CountMatches(ctx, s.Match)
	if err != nil || count == 0 {
		return 0, nil, err
	}
	rows, err := p.store.FirstMatches(ctx, s.Match, first)
	return count, rows, err
}

func (p *Pipeline) checkSelection(s *Selection, now time.Time) error {
	if err := checkReason(s.Match.Reason); err != nil {
		return err
	}
	if s.Match.Reason == pki.CACompromise {
		return fault.New(fault.BadRevocationReason, "reason %s is given for one CA's certificate at a time",
			s.Match.Reason)
	}
	if s.InvalidityAt != nil && s.InvalidityAt.After(now) {
		return fault.New(fault.Malformed, "the invalidity date lies in the future").Because("invalidity_date")
	}
	if s.Limit <= 0 || s.Limit > MaxPage {
		s.Limit = MaxPage
	}
	s.Match.Now = now
	return nil
}

// revokePart revokes certificates in one commit, or one by one if some of them
// were revoked since they were selected.
func (p *Pipeline) revokePart(ctx context.Context, s Selection, part []store.Revocable) (revoked int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	at := p.now()
	r := store.Revocation{Reason: s.Match.Reason, RevokedAt: at, InvalidityAt: s.InvalidityAt, Requester: s.Requester}
	block := r.Reason == pki.KeyCompromise
	events := make([]store.Event, len(part))
	for i, c := range part {
		events[i] = event(actionRevoked, "success", at, s.Requester, c.ID, s.RequestID, revocationDetail{
			Issuer: c.IssuerID, Serial: c.Serial, Reason: s.Match.Reason.String(), InvalidityAt: s.InvalidityAt,
			Where:      s.Where,
			KeyBlocked: block,
		})
	}
	err = p.store.RevokeAll(ctx, part, r, block, events)
	if !fault.Is(err, fault.Conflict) {
		if err == nil {
			revoked = len(part)
		}
		return revoked, err
	}
	for i := range part {
		err := p.store.RevokeAll(ctx, part[i:i+1], r, block, events[i:i+1])
		if fault.Is(err, fault.Conflict) {
			continue
		}
		if err != nil {
			return revoked, err
		}
		revoked++
	}
	return revoked, nil
}
