package tree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// ExportFormat is what the header of an export says.
const ExportFormat = "privyseal-hierarchy/1"

// Export writes a CA and all below it, with every certificate on record and what
// is revoked, as JSON lines for another server (G2-28). Keys are not among it:
// they move by themselves. progress is called after each page.
func (t *Tree) Export(ctx context.Context, w io.Writer, id string, progress func()) error {
	all, as, err := t.below(ctx, id)
	if err != nil {
		return err
	}
	out := json.NewEncoder(w)
	end := api.ExportLine{End: &api.ExportEnd{}}
	if err := out.Encode(api.ExportLine{Header: &api.ExportHeader{Format: ExportFormat, CA: id,
		At: t.Now().UTC()}}); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for _, rec := range all {
		ids := []string{rec.ID}
		for other, id := range as {
			if id == rec.ID {
				ids = append(ids, other)
			}
		}
		line, err := t.exportCA(ctx, rec, ids)
		if err != nil {
			return err
		}
		if err := out.Encode(line); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		end.End.CAs++
		n := 0
		err = t.each(ctx, ids, func(c *store.Certificate) error {
			if c.Status == "reserved" || c.Status == "abandoned" {
				return nil // never signed, or not yet
			}
			if n++; n%page == 0 {
				progress()
			}
			end.End.Records++
			record := exported(c)
			return out.Encode(api.ExportLine{Record: &record})
		})
		if err != nil {
			return fmt.Errorf("export %s: %w", rec.ID, err)
		}
	}
	if err := out.Encode(end); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// CanExport says why a CA cannot be exported now.
func (t *Tree) CanExport(ctx context.Context, id string) error {
	_, _, err := t.below(ctx, id)
	return err
}

// below returns a CA and all below it, each after the one above it. One that is
// installed under several ids comes once; as says by which id the others are meant.
func (t *Tree) below(ctx context.Context, id string) (all []store.IssuerRecord, as map[string]string, err error) {
	records, err := t.Store.Issuers(ctx)
	if err != nil {
		return nil, nil, err
	}
	records, as = t.fold(records)
	if as[id] != "" {
		id = as[id]
	}
	at := indexOf(records, id)
	if at < 0 {
		return nil, nil, fault.New(fault.NotFound, "there is no CA %q here", id).Because("issuer_unknown")
	}
	all = []store.IssuerRecord{records[at]}
	for i := 0; i < len(all); i++ {
		for _, r := range records {
			if r.ParentID == all[i].ID && !slices.ContainsFunc(all,
				func(o store.IssuerRecord) bool { return o.ID == r.ID }) {
				all = append(all, r)
			}
		}
	}
	return all, as, nil
}

func (t *Tree) exportCA(ctx context.Context, rec store.IssuerRecord, ids []string) (api.ExportLine, error) {
	line := &api.ExportCA{
		ID: rec.ID, Parent: rec.ParentID, Offline: rec.State == "offline",
		Certificate:   string(pki.EncodeChain(rec.Certificate)),
		LastCRLNumber: strconv.FormatInt(rec.LastCRLNumber, 10), CRLShards: rec.CRLShards,
	}
	newest := int64(-1)
	for _, id := range ids { // one name and key has one series of numbers
		r, list, err := t.Store.LatestCRL(ctx, id, 0)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return api.ExportLine{}, err
		}
		if err == nil && r.Number > newest {
			newest, line.CRL = r.Number, list
		}
	}
	return api.ExportLine{CA: line}, nil
}

func exported(c *store.Certificate) api.ImportRecord {
	r := api.ImportRecord{
		Serial: string(c.Serial), Certificate: c.DER, Subject: c.Subject, NotBefore: c.NotBefore.UTC(),
		NotAfter: c.NotAfter.UTC(),
		Profile:  c.Profile, ProfileVersion: c.ProfileVersion, Protocol: c.Protocol, Endpoint: c.Endpoint,
		Requester: c.Requester, Shard: c.Shard,
	}
	if c.IssuedAt != nil {
		r.IssuedAt = c.IssuedAt.UTC()
	}
	if v := c.Revocation; v != nil {
		r.Revocation = api.Revocation{Reason: v.Reason.String(), RevokedAt: v.RevokedAt.UTC(), Requester: v.Requester}
		if v.InvalidityAt != nil {
			r.Revocation.InvalidityAt = v.InvalidityAt.UTC()
		}
	}
	return r
}

// RecordOf reads a record of an import.
func RecordOf(r api.ImportRecord) (Record, error) {
	serial, err := pki.ParseSerial(r.Serial)
	if err != nil {
		return Record{}, fault.New(fault.Malformed, "%w", err).Because("record")
	}
	out := Record{
		Serial: serial, DER: r.Certificate, Subject: r.Subject, NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		Profile:        r.Profile,
		ProfileVersion: r.ProfileVersion, Protocol: r.Protocol, Endpoint: r.Endpoint, Requester: r.Requester,
		Shard: r.Shard, IssuedAt: set(r.IssuedAt),
	}
	if r.Revocation.RevokedAt.IsZero() {
		return out, nil
	}
	reason, err := pki.ParseReason(r.Revocation.Reason)
	if err != nil {
		return Record{}, fault.New(fault.Malformed, "record %s: %w", r.Serial, err).Because("record")
	}
	out.Revocation = &store.Revocation{
		Reason: reason, RevokedAt: r.Revocation.RevokedAt, InvalidityAt: set(r.Revocation.InvalidityAt),
		Requester: r.Revocation.Requester,
	}
	return out, nil
}

// set returns nil for the zero time.
func set(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
