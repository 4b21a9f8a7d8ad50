package verify

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/internal/store"
)

// orders is invariant 4. That an order is valid exactly if a completed
// certificate has its origin holds by construction, because validity is that
// join; what can break is an origin that points nowhere, or an order that stays
// in processing. One that waits for a person is not in processing, but there
// must be a request to decide.
func (c *check) orders(ctx context.Context) error {
	stuck, err := c.store.ProcessingOrders(ctx, "", c.Now.Add(-processingAge))
	if err != nil {
		return err
	}
	for _, o := range stuck {
		if o.CertificateID == "" {
			c.find(4, "order "+o.ID, "it is in processing for longer than %v", processingAge)
		}
	}
	stranded, err := c.store.StrandedOrders(ctx, c.Now, c.Now.Add(-processingAge), page)
	if err != nil {
		return err
	}
	for _, id := range stranded {
		c.find(4, "order "+id, "it waits for an approval that nobody can give, or was approved and is not finished")
	}
	if c.report.Orders, err = c.store.CountOrders(ctx); err != nil {
		return err
	}
	dangling, err := c.store.DanglingOrigins(ctx, page)
	if err != nil {
		return err
	}
	for _, origin := range dangling {
		c.find(4, "origin "+origin, "it points to no certificate that is reserved or issued")
	}
	return nil
}

// lists checks the newest revocation list of each issuer: invariant 5, as far as
// the store alone shows it.
func (c *check) lists(ctx context.Context) error {
	for id, chain := range c.chains {
		rec, der, err := c.store.LatestCRL(ctx, id, 0)
		if err != nil {
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			return err
		}
		c.report.Lists++
		if err := checkList(chain[0], rec, der); err != nil {
			c.find(5, fmt.Sprintf("crl %d of issuer %s", rec.Number, id), "%v", err)
		}
	}
	return nil
}

func checkList(ca *x509.Certificate, rec *store.CRLRecord, der []byte) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("it cannot be parsed: %w", err)
	}
	if !bytes.Equal(list.RawIssuer, ca.RawSubject) {
		return fmt.Errorf("its issuer %s is another CA", list.Issuer)
	}
	if list.Number == nil || !list.Number.IsInt64() || list.Number.Int64() != rec.Number {
		return fmt.Errorf("its number %v is not the recorded %d", list.Number, rec.Number)
	}
	return list.CheckSignatureFrom(ca)
}
