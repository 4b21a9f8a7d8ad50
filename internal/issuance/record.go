package issuance

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// The audit actions of the door, beside audit.ActionIntent.
const (
	actionIssued       = "certificate.issued"
	actionRejected     = "certificate.rejected"
	actionReleased     = "certificate.released" // of a reservation
	actionRevoked      = "certificate.revoked"
	actionNotRevoked   = "certificate.not_revoked"
	actionHoldReleased = "certificate.hold_released"
	actionKeyBlocked   = "certificate.key_blocked"
)

// row is the reservation of one draft.
func (p *Pipeline) row(r Request, v *judged, d *issuer.Draft) store.Certificate {
	t, id := v.template, store.NewID()
	return store.Certificate{
		ID: id, IssuerID: v.issuer.ID(), Serial: d.Serial(), Node: p.node,
		Profile: t.Profile, ProfileVersion: t.ProfileVersion, Protocol: r.Protocol, Endpoint: r.Endpoint,
		Requester: r.Requester, RequestID: r.RequestID, KeyHash: v.key[:], Subject: t.Subject, Names: t.Names,
		NotBefore: t.NotBefore, NotAfter: t.NotAfter, TBS: d.TBS(), Lineage: cmp.Or(r.Lineage, id),
		Shard: d.Shard(), Origin: r.Origin, ReservedAt: p.now(),
	}
}

// intentDetail is the audit record of what is about to be signed (rule X18).
type intentDetail struct {
	Issuer         string           `json:"issuer"`
	Serial         pki.Serial       `json:"serial"`
	Profile        string           `json:"profile"`
	ProfileVersion string           `json:"profile_version"`
	Protocol       string           `json:"protocol"`
	Endpoint       string           `json:"endpoint,omitempty"`
	Origin         string           `json:"origin"`
	Subject        string           `json:"subject,omitempty"`
	Names          []pki.Identifier `json:"names,omitempty"`
	KeySHA256      string           `json:"key_sha256"`
	TemplateSHA256 string           `json:"template_sha256"`
	TBSSHA256      string           `json:"tbs_sha256"`
	CSRSHA256      string           `json:"csr_sha256,omitempty"`
	Lint           string           `json:"lint"`
	Evidence       json.RawMessage  `json:"evidence,omitempty"`
}

func intent(row store.Certificate, r Request, v *judged, d *issuer.Draft) store.Event {
	template := v.template.Digest()
	tbs := sha256.Sum256(d.TBS())
	detail := intentDetail{
		Issuer: row.IssuerID, Serial: row.Serial, Profile: row.Profile, ProfileVersion: row.ProfileVersion,
		Protocol: r.Protocol, Endpoint: r.Endpoint, Origin: r.Origin, Subject: row.Subject, Names: row.Names,
		KeySHA256: v.key.String(), TemplateSHA256: hex.EncodeToString(template[:]),
		TBSSHA256: hex.EncodeToString(tbs[:]),
		Lint:      "passed", Evidence: r.Evidence,
	}
	if r.CSR != nil {
		sum := sha256.Sum256(r.CSR.Raw)
		detail.CSRSHA256 = hex.EncodeToString(sum[:])
	}
	return event(audit.ActionIntent, "pending", row.ReservedAt, r.Requester, row.ID, r.RequestID, detail)
}

func event(action, outcome string, at time.Time, actor, subject, requestID string, detail any) store.Event {
	text, err := json.Marshal(detail)
	if err != nil { // the details are our own structs: a programming error, kept visible in the record
		text, _ = json.Marshal(map[string]string{"unencodable": err.Error()})
	}
	return store.Event{
		Action: action, Outcome: outcome, At: at, Actor: actor, Subject: subject, RequestID: requestID, Detail: text,
	}
}

// rejected records a refusal and returns it. What was only unavailable, or went wrong
// here, is no refusal. The refusal stands even if it cannot be recorded: nothing is signed.
func (p *Pipeline) rejected(ctx context.Context, r Request, cause error) error {
	f := fault.Of(cause)
	if f.Kind == fault.Unavailable || f.Kind == fault.Internal || f.Kind == fault.Pending || store.IsKnown(cause) {
		return cause
	}
	detail := map[string]any{
		"origin": r.Origin, "profile": r.Profile, "issuer": r.Issuer, "protocol": r.Protocol,
		"kind": f.Kind.String(), "reason": f.Reason, "detail": f.Detail,
	}
	ev := event(actionRejected, "rejected", p.now(), r.Requester, r.Origin, r.RequestID, detail)
	if err := p.store.AppendAudit(ctx, ev); err != nil {
		p.log.ErrorContext(ctx, "rejection not recorded", "origin", r.Origin, "error", err)
	}
	return cause
}

// complete stores the certificate (step 6). A database that is away for a moment
// gets the rest of the timeout to come back, because the signature exists.
func (p *Pipeline) complete(ctx context.Context, row store.Certificate, der []byte, requestID string) error {
	sum := sha256.Sum256(der)
	ev := event(actionIssued, "success", p.now(), row.Requester, row.ID, requestID, map[string]any{
		"issuer": row.IssuerID, "serial": row.Serial, "sha256": hex.EncodeToString(sum[:]),
	})
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := p.store.Complete(ctx, row.ID, der, p.now(), ev)
		if err == nil || !fault.Is(err, fault.Unavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// unsigned marks a failed signature, after which another issuer may be tried.
type unsigned struct{ error }

func (u unsigned) Unwrap() error { return u.error }

// again reports whether a failed attempt may be repeated with a new serial.
func again(err error) bool {
	var u unsigned
	return errors.As(err, &u) || fault.Is(err, fault.Conflict) && !store.IsKnown(err)
}

// giveUp turns what is left after the last attempt into what a client is told.
func giveUp(err error) error {
	var u unsigned
	if errors.As(err, &u) && fault.Of(u.error).Kind == fault.Internal {
		return fault.Wrap(fault.Unavailable, err, "the issuing key cannot be used at the moment").
			After(10 * time.Second)
	}
	return err
}

func result(err error) string {
	switch f := fault.Of(err); {
	case f == nil:
		return "issued"
	case f.Kind == fault.Pending:
		return "pending"
	case f.Kind == fault.Unavailable:
		return "unavailable"
	case f.Kind == fault.Internal:
		return "error"
	default:
		return "rejected"
	}
}
