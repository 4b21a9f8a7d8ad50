package challenge

import (
	"context"
	"testing"

	"github.com/privyseal/privyseal/test/dnstest"
)

// BenchmarkHTTP01 measures one validation with its other end: web server and,
// where the name is not localhost, name server run in the same process.
func BenchmarkHTTP01(b *testing.B) {
	d := dnstest.Start(b)
	port := webServer(b, "127.0.0.1", text(200, testKeyAuth))
	for _, name := range []string{"a.localhost", "a.lab.test"} {
		b.Run(name, func(b *testing.B) {
			v := newValidator(b, d, func(c *Config) { c.HTTPPort, c.LocalhostIsLoopback = port, true })
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Validate(context.Background(), task(HTTP01, name)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
