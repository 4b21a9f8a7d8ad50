package crl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// MaxImport is the length of the longest list that is imported.
const MaxImport = 16 << 20

// ahead is how far in the future an imported list may be dated: the other
// machine's clock is not ours.
const ahead = 5 * time.Minute

// maxWhy bounds an operator's reason to accept losses, in octets.
const maxWhy = 1000

// Imported is what became of an import.
type Imported struct {
	Status
	Unchanged bool // it was here already
}

// Import takes over the list of a CA whose key is elsewhere, DER or PEM. Faults
// tell why not, by reason: crl_form, crl_scope, crl_issuer, crl_signature,
// crl_number, crl_dates, crl_entries_lost, lost_reason.
func (p *Publisher) Import(ctx context.Context, text []byte, o Options) (*Imported, error) {
	list, a, err := p.examine(text)
	if err != nil {
		return nil, err
	}
	if o.AcceptLost != "" && strings.TrimSpace(o.AcceptLost) == "" || len(o.AcceptLost) > maxWhy {
		return nil, fault.New(fault.Malformed, "accept_lost: say why, in at most %d octets", maxWhy).
			Because("lost_reason")
	}
	k := key{issuer: a.ID}
	behind := p.fetchAll(ctx, a.ID)
	if behind != nil && !fault.Is(behind, fault.Conflict) {
		return nil, behind
	}
	have := p.local.get(k)
	if have != nil && have.number == list.Number.Int64() && have.sha256 == sha256.Sum256(list.Raw) {
		if !p.doubted(k) {
			p.note(k, nil)
			return &Imported{p.status(a, k), true}, nil
		}
		have = nil // the database lacks it
	}
	if err := follows(list, have, p.Now()); err != nil {
		return nil, err
	}
	err = p.putImported(ctx, a, list, have, o)
	p.Observe(Event{Issuer: a.ID, Kind: "imported", Outcome: outcome(err)})
	if err != nil {
		return nil, err
	}
	if err := p.fetchAll(ctx, a.ID); err != nil {
		return nil, err
	}
	p.note(k, nil)
	return &Imported{p.status(a, k), false}, p.settle(ctx, a)
}

// putImported stores a list that may follow the one before, which publishes it,
// unless it takes back revocations and nobody has accepted that.
func (p *Publisher) putImported(
	ctx context.Context, a *authority, list *x509.RevocationList, have *held, o Options,
) error {
	lost, newest, err := p.compareImported(ctx, a.ID, list.Raw)
	if err != nil {
		return err
	}
	sum, number, after := sha256.Sum256(list.Raw), list.Number.Int64(), have.numberOr0()
	record := store.CRLRecord{
		IssuerID: a.ID, Number: number, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate,
		SHA256: sum[:], Size: int64(len(list.Raw)), Entries: int64(len(list.RevokedCertificateEntries)),
	}
	if newest != nil {
		after, record.LossesAccepted = max(after, newest.Number), newest.LossesAccepted
	}
	about := map[string]any{
		"list": a.ID, "number": number, "entries": record.Entries, "sha256": hex.EncodeToString(sum[:]),
		"this_update": list.ThisUpdate, "next_update": list.NextUpdate,
	}
	if refusal := lost.refusal(a.ID, number, after); refusal != nil {
		if o.AcceptLost == "" {
			p.note(key{issuer: a.ID}, refusal)
			return refusal
		}
		record.LossesAccepted = number
		lost.audited(o.AcceptLost, about)
		p.Log.WarnContext(ctx, "a list that takes back revocations is published, for an operator accepts that",
			"issuer", a.ID, "number", number, "lost", len(lost), "why", o.AcceptLost, "actor", o.Actor)
	}
	detail, err := json.Marshal(about)
	if err != nil {
		return fmt.Errorf("import list: %w", err)
	}
	return p.Store.PutCRL(ctx, record, after, bytes.NewReader(list.Raw), store.Event{
		At: p.Now(), Action: "crl.imported", Outcome: "success",
		Actor: o.Actor, Subject: a.ID, RequestID: o.RequestID, Detail: detail,
	})
}

// examine checks what can be said of a list by itself, and finds whose it is.
func (p *Publisher) examine(text []byte) (*x509.RevocationList, *authority, error) {
	list, err := parseList(text)
	if err != nil {
		return nil, nil, err
	}
	named := false
	for id, a := range *p.authorities.Load() {
		if id != a.ID || !bytes.Equal(a.Certificate().RawSubject, list.RawIssuer) {
			continue
		}
		named = true
		if pki.ListedBy(list, a.Certificate()) != nil {
			continue // another key of the same name (rule C5)
		}
		if a.Issuer() != nil {
			return nil, nil, fault.New(fault.Conflict,
				"the key of %s is here, and so are its lists made: privyseal crl publish", a.ID).Because("crl_issuer")
		}
		return list, a, nil
	}
	if !named {
		return nil, nil, fault.New(fault.NotFound, "there is no CA of the name %s here", list.Issuer).
			Because("crl_issuer")
	}
	return nil, nil, fault.New(fault.Malformed, "the list of %s is not signed by that CA's key", list.Issuer).
		Because("crl_signature")
}

var (
	oidIssuingPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDelta        = asn1.ObjectIdentifier{2, 5, 29, 27}
)

// parseList reads a list strictly, and refuses kinds that a full list of a CA is
// not.
func parseList(text []byte) (*x509.RevocationList, error) {
	list, err := decodeList(text)
	if err != nil {
		return nil, err
	}
	if list.Number == nil || !list.Number.IsInt64() || list.Number.Sign() < 0 {
		return nil, fault.New(fault.Malformed, "the list has no number, or one that is too large (RFC 5280, section "+
			"5.2.3)").Because("crl_number")
	}
	for _, e := range list.Extensions {
		if err := scope(e); err != nil {
			return nil, err
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical {
				return nil, fault.New(fault.Malformed, "entry %x has a critical extension: an indirect list?",
					entry.SerialNumber).Because("crl_scope")
			}
		}
	}
	// What this reader refuses no node could take over once it is stored.
	whole, err := newReader(bytes.NewReader(list.Raw))
	if err == nil {
		err = whole.walk()
	}
	if err != nil {
		return nil, fault.New(fault.Malformed, "the list: %w", err).Because("crl_form")
	}
	return list, nil
}

// decodeList reads any list, DER or PEM.
func decodeList(text []byte) (*x509.RevocationList, error) {
	if len(text) > MaxImport {
		return nil, fault.New(fault.TooLarge, "the list is longer than %d octets", MaxImport).Because("crl_form")
	}
	der, err := pki.Single(text, pki.Lists)
	if err != nil {
		return nil, fault.New(fault.Malformed, "the list: %w", err).Because("crl_form")
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fault.New(fault.Malformed, "it is not a revocation list: %w", err).Because("crl_form")
	}
	if len(list.Raw) != len(der) {
		return nil, fault.New(fault.Malformed, "there is more behind the list").Because("crl_form")
	}
	return list, nil
}

func scope(e pkix.Extension) error {
	switch {
	case e.Id.Equal(oidDelta):
		return fault.New(fault.Malformed, "it is a delta list").Because("crl_scope")
	case e.Id.Equal(oidIssuingPoint) && !bytes.Equal(e.Value, []byte{0x30, 3, 0x82, 1, 0xff}):
		// onlyContainsCACerts alone is a full list of a CA that issues only to CAs.
		return fault.New(fault.Malformed, "it covers a part of the CA's certificates only").Because("crl_scope")
	case e.Critical && !e.Id.Equal(oidIssuingPoint):
		return fault.New(fault.Malformed, "it has the unknown critical extension %s", e.Id).Because("crl_scope")
	}
	return nil
}

// follows compares an imported list with the clock and with the one before.
func follows(list *x509.RevocationList, have *held, now time.Time) error {
	dates := func(format string, args ...any) error {
		return fault.New(fault.Malformed, format, args...).Because("crl_dates")
	}
	switch {
	case list.NextUpdate.IsZero():
		return dates("the list has no nextUpdate")
	case !list.NextUpdate.After(list.ThisUpdate):
		return dates("nextUpdate is not after thisUpdate")
	case list.ThisUpdate.After(now.Add(ahead)):
		return dates("the list is dated in the future, %s: are the clocks right?",
			list.ThisUpdate.UTC().Format(time.RFC3339))
	case !list.NextUpdate.After(now):
		return dates("the list has expired on %s", list.NextUpdate.UTC().Format(time.RFC3339))
	case have == nil:
		return nil
	case list.Number.Int64() <= have.number:
		return fault.New(fault.Conflict, "its number is %d, and list %d is published: numbers only rise", list.Number,
			have.number).Because("crl_number")
	case list.ThisUpdate.Before(have.thisUpdate):
		return dates("the list is dated %s, before the published one of %s",
			list.ThisUpdate.UTC().Format(time.RFC3339), have.thisUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}
