package enrolment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// What requesters are called in records.
const (
	holderPrefix  = "certificate:"
	foreignPrefix = "certificate_sha256:"
	accountPrefix = "account:"
)

// maxLine is how many certificates of a line are looked at whose rows do not name
// the first: those of earlier releases.
const maxLine = 1000

// first returns the certificate that a line began with. Every row names it; those
// that were imported or that earlier releases wrote are followed by their
// requesters.
func (e *Enrolment) first(ctx context.Context, row *store.Certificate) (*store.Certificate, error) {
	for range maxLine {
		if row.Lineage == row.ID {
			return row, nil
		}
		up, err := e.cfg.Store.CertificateByID(ctx, row.Lineage)
		if err == nil || !errors.Is(err, store.ErrNotFound) {
			return up, err
		}
		id, renewed := strings.CutPrefix(row.Requester, holderPrefix)
		if !renewed {
			return row, nil
		}
		switch up, err = e.cfg.Store.CertificateByID(ctx, id); {
		case errors.Is(err, store.ErrNotFound):
			return row, nil
		case err != nil:
			return nil, err
		case namesKey(up) != namesKey(row): // a registration authority asked
			return row, nil
		}
		row = up
	}
	return nil, refuse("line", "it was renewed more than %d times: enrol anew", maxLine)
}

// standing judges the line by its first certificate: the protocol that enrolled it,
// and the credential that did. Who deactivates an ACME account, or has it revoked,
// ends what it stands for. Passwords and challenges are for one enrolment and
// nothing more: they run out by themselves, so that their end says nothing of the
// device.
func (e *Enrolment) standing(ctx context.Context, rules Rules, first *store.Certificate) error {
	protocol := first.Protocol
	if protocol == "imported" {
		protocol = protocolOperator
	}
	if len(rules.Protocols) > 0 && !slices.Contains(rules.Protocols, protocol) {
		return refuse("other_protocol", "it was enrolled by %s, and this endpoint takes those of %s",
			protocol, strings.Join(rules.Protocols, ", "))
	}
	id, ok := strings.CutPrefix(first.Requester, accountPrefix)
	if !ok {
		return nil
	}
	switch account, err := e.cfg.Store.Account(ctx, id); {
	case errors.Is(err, store.ErrNotFound):
		return refuse("account", "the ACME account that enrolled it is not known here: enrol anew")
	case err != nil:
		return err
	case account.Status != "valid":
		return refuse("account", "the ACME account that enrolled it is %s: enrol anew", account.Status)
	}
	return nil
}

// lineKey is under what a line is counted. Lines of the same names count as one,
// however they are spelled, and so do those of one certificate that is not ours.
func lineKey(first *store.Certificate) string {
	if strings.HasPrefix(first.Requester, foreignPrefix) {
		return first.Requester
	}
	sum := sha256.Sum256([]byte(namesKey(first)))
	return "line:" + hex.EncodeToString(sum[:])
}

// namesKey is the same for two rows whose names are equal as RFC 5280, section 7.1,
// compares them.
func namesKey(row *store.Certificate) string {
	subject := row.Subject
	if name, err := pki.ParseName(subject); err == nil {
		subject = name.Folded()
	}
	return subject + "\x00" + strings.Join(folded(row.Names), "\x00")
}

// folded returns the names for comparison: in order, each once.
func folded(names []pki.Identifier) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = n.Folded()
	}
	slices.Sort(all)
	return slices.Compact(all)
}
