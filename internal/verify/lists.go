package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// lists is invariant 5 over the newest list of each shard of each issuer.
func (c *check) lists(ctx context.Context) error {
	rows, err := c.store.Issuers(ctx)
	if err != nil {
		return err
	}
	for i := range rows {
		chain, ok := c.chains[rows[i].ID]
		if !ok {
			continue
		}
		records, err := c.store.CRLs(ctx, rows[i].ID)
		if err != nil {
			return err
		}
		for _, r := range records {
			c.report.Lists++
			if err := c.list(ctx, chain[0], &rows[i], r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *check) list(ctx context.Context, ca *x509.Certificate, row *store.IssuerRecord, r store.CRLRecord) error {
	subject := fmt.Sprintf("crl %d of issuer %s", r.Number, row.ID)
	if r.Shard > 0 {
		subject = fmt.Sprintf("crl %d of issuer %s, shard %d", r.Number, row.ID, r.Shard)
	}
	if r.Number > row.LastCRLNumber {
		c.find(5, subject, "its number was never taken: the last one is %d", row.LastCRLNumber)
	}
	if row.State == "active" && !r.Delta && !r.NextUpdate.After(c.Now) {
		c.find(5, subject, "it has expired on %s and no newer one came", r.NextUpdate)
	}
	var der bytes.Buffer
	if err := c.store.CopyCRL(ctx, r, &der); errors.Is(err, store.ErrNotFound) {
		c.find(5, subject, "a part of it is missing")
		return nil
	} else if err != nil {
		return err
	}
	if sum := sha256.Sum256(der.Bytes()); !bytes.Equal(sum[:], r.SHA256) {
		c.find(5, subject, "its octets are not those that were published")
		return nil
	}
	list, entries, err := readList(der.Bytes())
	if err != nil {
		c.find(5, subject, "it cannot be parsed: %v", err)
		return nil
	}
	if err := checkList(ca, &r, list); err != nil {
		c.find(5, subject, "%v", err)
	}
	if r.Delta {
		return nil
	}
	return c.complete(ctx, subject, r, entries)
}

// complete finds revocations that the list should have. What was revoked after it
// was made waits for the next one.
func (c *check) complete(ctx context.Context, subject string, r store.CRLRecord, entries serials) error {
	missing := 0
	_, err := c.store.CRLEntries(ctx, r.IssuerID, r.Shard, r.ThisUpdate, func(e store.CRLEntry) error {
		if e.Seq <= r.RevocationSeq && !entries.has(e.Serial) {
			if missing++; missing <= 5 {
				c.find(5, subject, "serial %s is revoked and not on it", e.Serial)
			}
		}
		return nil
	})
	if missing > 5 {
		c.find(5, subject, "%d more are revoked and not on it", missing-5)
	}
	return err
}

// serials are those of a list, as octets.
type serials map[string]struct{}

func (s serials) has(serial pki.Serial) bool {
	_, ok := s[string(serial.Big().Bytes())]
	return ok
}

// readList reads a list and its serials. A list that is too long for the parser of
// the standard library is nil.
func readList(der []byte) (*x509.RevocationList, serials, error) {
	found := serials{}
	in := cryptobyte.String(der)
	var outer, tbs, list cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipASN1(cbasn1.INTEGER) || !tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.SkipASN1(cbasn1.SEQUENCE) ||
		!skipTime(&tbs) || !skipTime(&tbs) {
		return nil, nil, errors.New("malformed")
	}
	if tbs.PeekASN1Tag(cbasn1.SEQUENCE) && !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil, nil, errors.New("malformed entries")
	}
	for !list.Empty() {
		var entry cryptobyte.String
		n := new(big.Int)
		if !list.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1Integer(n) {
			return nil, nil, errors.New("malformed entry")
		}
		found[string(n.Bytes())] = struct{}{}
	}
	if len(found) > parseLimit {
		return nil, found, nil
	}
	parsed, err := x509.ParseRevocationList(der)
	return parsed, found, err
}

// parseLimit is up to how many entries a list is parsed as a whole, which costs a
// kilobyte for each.
const parseLimit = 100_000

func skipTime(s *cryptobyte.String) bool {
	return s.PeekASN1Tag(cbasn1.UTCTime) && s.SkipASN1(cbasn1.UTCTime) || s.SkipASN1(cbasn1.GeneralizedTime)
}

func checkList(ca *x509.Certificate, r *store.CRLRecord, list *x509.RevocationList) error {
	switch {
	case list == nil:
		return nil // too long; its digest is right
	case !bytes.Equal(list.RawIssuer, ca.RawSubject):
		return fmt.Errorf("its issuer %s is another CA", list.Issuer)
	case list.Number == nil || !list.Number.IsInt64() || list.Number.Int64() != r.Number:
		return fmt.Errorf("its number %v is not the recorded %d", list.Number, r.Number)
	}
	return pki.ListedBy(list, ca)
}
