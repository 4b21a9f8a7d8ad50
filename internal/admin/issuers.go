package admin

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// ListIssuers is GET /v1/issuers: the rows, with what the set in force makes of them,
// then the CAs that have no row.
func (s *Server) ListIssuers(ctx context.Context, _ api.None, _ *api.None) (*api.IssuerList, error) {
	records, err := s.cfg.Store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	set, now := s.cfg.Pipeline.Rules().CAs, s.cfg.Now()
	list := &api.IssuerList{Issuers: make([]api.Issuer, 0, len(records))}
	there := map[*ca.CA]bool{}
	for i := range records {
		out := recordOf(&records[i])
		// Of one that cannot be read the set says why.
		if cert, err := x509.ParseCertificate(records[i].Certificate); err == nil {
			out.Serial = string(pki.SerialFromBig(cert.SerialNumber))
		}
		if c := set.Get(out.ID); c != nil { // nil: installed a moment ago, on another node
			there[c] = true
			stand(&out, c, now)
		}
		list.Issuers = append(list.Issuers, out)
	}
	for _, c := range set.All() {
		if c.Stage == ca.Declared && !there[c] {
			out := api.Issuer{ID: c.ID, Name: c.Service(), Generation: c.Generation, State: string(ca.Declared)}
			stand(&out, c, now)
			list.Issuers = append(list.Issuers, out)
		}
	}
	return list, nil
}

// stand adds how a CA stands at a time.
func stand(out *api.Issuer, c *ca.CA, now time.Time) {
	if out.ID != c.ID {
		out.AliasOf = c.ID
	}
	out.Pool, out.Stage, out.Why = c.Pool, string(c.Stage), c.Why(now)
	if key, _ := c.KeyState(); key != ca.KeyHere || c.Issuer() != nil {
		out.Key = string(key)
	}
	if c.Installed() {
		out.Trust = string(c.Trust(now).State)
	}
	if c.Certificate() != nil {
		days := c.DaysLeft(now)
		out.DaysLeft = &days
	}
}

// recordOf is what the row of an issuer says.
func recordOf(r *store.IssuerRecord) api.Issuer {
	return api.Issuer{
		ID: r.ID, Name: r.Name, Generation: r.Generation, State: r.State, Parent: r.ParentID,
		Subject: r.Subject, Fingerprint: pki.Fingerprint(r.Certificate), NotAfter: r.NotAfter.UTC(),
		RevocationSeq: r.RevocationSeq, LastCRLNumber: r.LastCRLNumber,
		Certificate: string(pki.EncodeChain(r.Certificate)),
	}
}

func issuerOf(r *store.IssuerRecord) (api.Issuer, error) {
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return api.Issuer{}, fmt.Errorf("parse certificate of issuer %s: %w", r.ID, err)
	}
	out := recordOf(r)
	out.Serial = string(pki.SerialFromBig(cert.SerialNumber))
	return out, nil
}

// RemoveIssuer is DELETE /v1/issuers/{issuer}.
func (s *Server) RemoveIssuer(ctx context.Context, p api.IssuerRef, _ *api.None) (*api.RemovedIssuer, error) {
	done, err := s.cfg.Tree.Remove(ctx, p.Issuer, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	return &api.RemovedIssuer{
		ID: done.Record.ID, Subject: done.Record.Subject, Fingerprint: pki.Fingerprint(done.Record.Certificate),
		Warnings: append([]string{}, done.Warnings...),
	}, nil
}
