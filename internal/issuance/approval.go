package issuance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// ApprovalLife is how long a request waits for a person, and how long an
// approval may be used.
const ApprovalLife = 7 * 24 * time.Hour

// approved lets a request pass whose certificate a person has approved, with the
// approval among its claims. Of any other request it is Pending, or Denied once
// that is final.
func (p *Pipeline) approved(ctx context.Context, r Request, v *judged) (Request, error) {
	row, err := p.store.RequestByOrigin(ctx, r.Origin)
	if errors.Is(err, store.ErrNotFound) {
		row, err = p.wait(ctx, r, v)
		if fault.Is(err, fault.Conflict) { // another call was quicker, with the same origin or only the same key
			known := err
			if row, err = p.store.RequestByOrigin(ctx, r.Origin); errors.Is(err, store.ErrNotFound) {
				err = known
			}
		}
	}
	if err != nil {
		return r, err
	}
	digest, verdict := v.template.Digest(), VerdictOn(row, p.now())
	switch {
	case row.ConsumedAt != nil: // Reserve finds its certificate
	case verdict.State != store.RequestApproved:
		return r, verdict.Fault()
	case !bytes.Equal(row.TemplateDigest, digest[:]):
		return r, fault.New(fault.Denied, "the certificate would not be the one that was approved").
			Because("approval_stale")
	}
	r.Record = nil // the row is there
	r.Claims = append(append([]store.Claim{}, r.Claims...), store.Claim{Kind: "approval", ID: row.ID})
	return r, nil
}

// wait puts a request on record that a person has to decide. What could not be
// issued in any case is refused at once, lint included.
func (p *Pipeline) wait(ctx context.Context, r Request, v *judged) (*store.Request, error) {
	if _, err := v.issuer.Draft(v.template, pki.NewSerial()); err != nil {
		return nil, err
	}
	row, err := p.pending(r, v)
	if err != nil {
		return nil, err
	}
	ev := event("request.pending", "pending", row.CreatedAt, r.Requester, "request:"+row.ID, r.RequestID,
		map[string]any{
			"origin": row.Origin, "profile": row.Profile, "protocol": row.Protocol, "endpoint": row.Endpoint,
			"identity": row.Identity,
			"subject":  row.Subject, "names": row.Names, "key_sha256": v.key.String(),
			"template_sha256": hex.EncodeToString(row.TemplateDigest),
			"evidence":        r.Evidence, "expires_at": row.ExpiresAt,
		})
	return row, p.store.PutRequest(ctx, *row, ev)
}

// open is the row of a request that needs nobody, or nil.
func (p *Pipeline) open(r Request, v *judged) *store.Request {
	if r.Record == nil {
		return nil
	}
	now, subject := p.now(), ""
	if r.CSR != nil { // who polls for it has to name it (rule S19)
		subject = r.CSR.Subject.String()
	}
	return &store.Request{
		ID: r.Record.ID, Origin: r.Origin, Endpoint: r.Endpoint, Identity: r.Record.Identity,
		CSRDigest:     r.Record.CSRDigest,
		TransactionID: r.Record.TransactionID, Protocol: r.Protocol, Profile: r.Profile, Issuer: r.Issuer,
		Requester: r.Requester,
		RequestID: r.RequestID, KeyHash: v.key[:], Subject: subject, Status: store.RequestOpen,
		CreatedAt: now, ExpiresAt: now.Add(r.Record.Keep), Hook: r.Record.Hook,
	}
}

// pending is the row of a request that waits for a person.
func (p *Pipeline) pending(r Request, v *judged) (*store.Request, error) {
	if r.Record == nil { // the origin alone recognises it
		id := strings.TrimPrefix(r.Origin, "request:")
		if id == r.Origin {
			id = store.NewID()
		}
		sum := sha256.Sum256([]byte(r.Origin))
		r.Record = &Record{ID: id, Identity: r.Requester, CSRDigest: sum[:], TransactionID: r.Origin}
	}
	row := p.open(r, v)
	digest := v.template.Digest()
	row.Status, row.TemplateDigest, row.Subject, row.Names = store.RequestPending, digest[:], v.template.Subject,
		v.template.Names
	if row.ExpiresAt = r.DecideBy; r.DecideBy.IsZero() {
		row.ExpiresAt = row.CreatedAt.Add(ApprovalLife)
	}
	a := asked{
		RawSubject: r.RawSubject, NotBefore: r.NotBefore, NotAfter: r.NotAfter, Evidence: r.Evidence,
		Claims: r.Claims, Lineage: r.Lineage, By: r.By, Bound: r.Bound,
	}
	if r.Names != nil {
		a.Names = &r.Names
	}
	if r.Subject != nil {
		der, err := r.Subject.AskedDER()
		if err != nil {
			return nil, fmt.Errorf("keep request: %w", err)
		}
		a.Subject = der
	}
	var err error
	if r.CSR != nil {
		row.CSR = r.CSR.Raw
	} else if a.PublicKey, err = x509.MarshalPKIXPublicKey(r.PublicKey); err != nil {
		return nil, fmt.Errorf("keep request: %w", err)
	}
	if row.Asked, err = json.Marshal(a); err != nil {
		return nil, fmt.Errorf("keep request: %w", err)
	}
	return row, nil
}

// asked is what a request asks for beside what has a column.
type asked struct {
	PublicKey  []byte            `json:"public_key,omitempty"` // SubjectPublicKeyInfo, without a CSR
	Subject    []byte            `json:"subject,omitempty"`    // DER
	RawSubject []byte            `json:"raw_subject,omitempty"`
	Names      *[]pki.Identifier `json:"names,omitempty"`
	NotBefore  time.Time         `json:"not_before,omitzero"`
	NotAfter   time.Time         `json:"not_after,omitzero"`
	Evidence   json.RawMessage   `json:"evidence,omitempty"`
	Claims     []store.Claim     `json:"claims,omitempty"`
	Lineage    string            `json:"lineage,omitempty"`
	By         []Basis           `json:"by,omitempty"`
	Bound      *Bound            `json:"bound,omitempty"`
}

// basis is By of a request that an earlier release kept: who asked is its name.
func basis(row *store.Request) []Basis {
	id, ok := strings.CutPrefix(row.Identity, "certificate:")
	if !ok {
		return nil
	}
	return []Basis{{Holder: id, Renew: row.Protocol == "scep" || row.TransactionID == "simplereenroll"}}
}

// Again returns the request that a row was made of, to be passed to Issue or
// Preview once more.
func Again(row *store.Request) (Request, error) {
	var a asked
	if err := json.Unmarshal(row.Asked, &a); err != nil {
		return Request{}, fmt.Errorf("read request %s: %w", row.ID, err)
	}
	r := Request{
		Endpoint: row.Endpoint, Protocol: row.Protocol, Profile: row.Profile, Issuer: row.Issuer, Origin: row.Origin,
		NotBefore: a.NotBefore, NotAfter: a.NotAfter, Requester: row.Requester, Evidence: a.Evidence,
		RequestID: row.RequestID, Claims: a.Claims,
		RawSubject: a.RawSubject, Lineage: a.Lineage, By: a.By, Bound: a.Bound,
	}
	if r.By == nil {
		r.By = basis(row)
	}
	if a.Names != nil {
		r.Names = *a.Names
	}
	var err error
	if a.Subject != nil {
		name, err := pki.ParseAskedName(a.Subject)
		if err != nil {
			return r, fmt.Errorf("read request %s: %w", row.ID, err)
		}
		r.Subject = &name
	}
	if row.CSR != nil {
		r.CSR, err = pki.ParseRecorded(row.CSR) // the endpoint that took it has judged its signature
	} else {
		r.PublicKey, err = x509.ParsePKIXPublicKey(a.PublicKey)
	}
	if err != nil {
		return r, fmt.Errorf("read request %s: %w", row.ID, err)
	}
	return r, nil
}
