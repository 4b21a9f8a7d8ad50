package verify

import "context"

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
