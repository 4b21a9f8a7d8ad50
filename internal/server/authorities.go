package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// The states of an issuer's row.
const (
	stateActive   = "active"
	stateDraining = "draining" // it has a successor: see generations.go
	stateRetired  = "retired"  // its last certificate has expired
	stateOffline  = "offline"  // its key is elsewhere
)

// plan returns every CA with its chain, those in the database first, and the
// rows that the configuration adds to it. What the database has wins: from its
// first start on, it says which certificate of a CA is in force.
func (h *house) plan(ctx context.Context, cfg *config.File) (all []authority, records, fresh []store.IssuerRecord, err error) {
	if records, err = h.store.Issuers(ctx); err != nil {
		return nil, nil, nil, err
	}
	byID := map[string]*store.IssuerRecord{}
	for i := range records {
		byID[records[i].ID] = &records[i]
	}
	for _, is := range cfg.Issuers {
		if is.Certificate == "" {
			continue
		}
		chain, err := config.ReadChain(is.Certificate)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("issuer %s: %w", is.ID, err)
		}
		parent := ""
		for i := len(chain) - 1; i >= 0; i-- {
			id, state := is.ID, stateActive
			if i > 0 {
				id, state = cfg.OfflineID(chain[i]), stateOffline
				if at := slices.IndexFunc(records, func(r store.IssuerRecord) bool { return bytes.Equal(r.Certificate, chain[i].Raw) }); at >= 0 {
					id = records[at].ID
				}
			}
			if rec := byID[id]; rec != nil {
				err = h.compareAuthority(ctx, rec, chain[i])
			} else {
				rec := newRecord(id, parent, state, chain[i], h.now())
				rec.Name, rec.Generation = cfg.Generation(id)
				byID[id] = &rec
				fresh = append(fresh, rec)
			}
			if err != nil {
				return nil, nil, nil, err
			}
			parent = id
		}
	}
	for _, o := range cfg.Offline { // a root needs no issuer below it to be published
		if o.Certificate == "" {
			continue
		}
		chain, err := config.ReadChain(o.Certificate)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
		if byID[o.ID] == nil && bytes.Equal(chain[0].RawIssuer, chain[0].RawSubject) {
			fresh = append(fresh, newRecord(o.ID, "", stateOffline, chain[0], h.now()))
		}
	}
	records = append(records, fresh...)
	all, err = chains(records)
	return all, records, fresh, err
}

func newRecord(id, parent, state string, c *x509.Certificate, now time.Time) store.IssuerRecord {
	return store.IssuerRecord{
		ID: id, Name: id, Generation: 1, State: state, ParentID: parent, Certificate: c.Raw,
		Subject: c.Subject.String(), NotAfter: c.NotAfter, CreatedAt: now,
	}
}

// compareAuthority refuses a name that is used for another key: relying parties
// have its URLs in their certificates.
func (h *house) compareAuthority(ctx context.Context, rec *store.IssuerRecord, c *x509.Certificate) error {
	if bytes.Equal(rec.Certificate, c.Raw) {
		return nil
	}
	installed, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return fmt.Errorf("issuer %s: read installed certificate: %w", rec.ID, err)
	}
	if !bytes.Equal(installed.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
		return fmt.Errorf("issuer %s: the database knows this name with another key; a name is for one key: give the new issuer a new one", rec.ID)
	}
	h.log.WarnContext(ctx, "the configuration names another certificate of this issuer than the one in force", "issuer", rec.ID)
	return nil
}

// chains joins each row with those above it.
func chains(records []store.IssuerRecord) ([]authority, error) {
	certs, parents := map[string]*x509.Certificate{}, map[string]string{}
	for _, r := range records {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: read installed certificate: %w", r.ID, err)
		}
		certs[r.ID], parents[r.ID] = c, r.ParentID
	}
	all := make([]authority, 0, len(records))
	for _, r := range records {
		a := authority{ID: r.ID, State: r.State}
		for id := r.ID; id != "" && len(a.Chain) <= len(records); id = parents[id] {
			if certs[id] == nil {
				return nil, fmt.Errorf("issuer %s: its parent %s is not installed", r.ID, id)
			}
			a.Chain = append(a.Chain, certs[id])
		}
		all = append(all, a)
	}
	return all, nil
}

// install writes what is new of a prepared configuration to the database. What
// can be refused comes first.
func (h *house) install(ctx context.Context, cfg *config.File, s *signing) error {
	if err := h.checkLists(ctx, cfg, s); err != nil {
		return err
	}
	for _, rec := range s.fresh {
		ev := store.Event{At: h.now(), Action: "issuer.installed", Outcome: "success", Actor: "server", Subject: rec.ID}
		if err := h.store.PutIssuer(ctx, rec, ev); err != nil {
			if there, _ := h.store.Issuer(ctx, rec.ID); there != nil && bytes.Equal(there.Certificate, rec.Certificate) {
				continue // another node with the same configuration was quicker
			}
			return fmt.Errorf("install issuer %s: %w", rec.ID, err)
		}
		h.log.InfoContext(ctx, "issuer installed", "issuer", rec.ID, "subject", rec.Subject, "state", rec.State)
	}
	for _, is := range cfg.Issuers {
		if s.chain(is.ID) == nil {
			continue
		}
		if _, err := h.store.RaiseCRLShards(ctx, is.ID, is.CRL.Shards); err != nil {
			return err
		}
	}
	return h.installGenerations(ctx, cfg, s) // last: a former issuer does not come back
}

// checkLists refuses configured lists that are not of the offline CA that they
// stand with.
func (h *house) checkLists(ctx context.Context, cfg *config.File, s *signing) error {
	for _, o := range cfg.Offline {
		if o.CRL == "" {
			continue
		}
		list, err := config.ReadList(o.CRL)
		if err != nil {
			return fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
		chain := s.chain(o.ID)
		if chain == nil {
			h.log.WarnContext(ctx, "the list of an offline CA waits for the CAs above it to be installed", "issuer", o.ID)
			continue
		}
		if err := list.CheckSignatureFrom(chain[0]); err != nil {
			return fmt.Errorf("offline CA %s: list %s is not signed by this CA: %w", o.ID, o.CRL, err)
		}
	}
	return nil
}

// importLists publishes the configured lists of offline CAs that are newer than
// those in the database. One that is not is left alone, and one that cannot be
// published is an alarm, not a reason to stop.
func (h *house) importLists(ctx context.Context, cfg *config.File) {
	for _, o := range cfg.Offline {
		if o.CRL == "" {
			continue
		}
		text, err := os.ReadFile(o.CRL)
		if err == nil {
			_, err = h.lists.Import(ctx, text, crl.Options{Actor: "server"})
		}
		if err != nil && fault.Of(err).Reason != "crl_number" {
			h.log.ErrorContext(ctx, "list of an offline CA not published", "issuer", o.ID, "file", o.CRL, "error", err)
		}
	}
}
