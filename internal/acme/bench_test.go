package acme

import (
	"crypto/elliptic"
	"net/http"
	"testing"

	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// BenchmarkFlow is a certificate from new order to download, with the client's
// own signatures and key; profile it to see the server's part.
func BenchmarkFlow(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *store.Store{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			e := newIdleEnv(b, open(b))
			e.run(b)
			key := newECKey(b, elliptic.P256())
			b.RunParallel(func(pb *testing.PB) {
				c := e.account(b)
				for pb.Next() {
					r := c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames(store.NewID() + ".localhost")})
					o, u := decodeInto[orderView](b, r), r.header.Get("Location")
					c.authorize(o)
					r = c.post(o.Finalize, csrPayload(csr(b, key, o.Identifiers[0].Value)))
					want(b, r, http.StatusOK)
					if o = decodeInto[orderView](b, r); o.Status != statusValid {
						_, r = c.await(u, statusProcessing)
						o = decodeInto[orderView](b, r)
					}
					want(b, c.post(o.Certificate, ""), http.StatusOK)
				}
			})
		})
	}
}
