package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/test/dnstest"
	"github.com/privyseal/privyseal/test/need"
	"golang.org/x/crypto/acme"
)

// TestACME_A39_ValidationOutlivesACrash kills the server while it waits for a
// slow name server: after the restart the validation goes on without the client.
func TestACME_A39_ValidationOutlivesACrash(t *testing.T) {
	need.Programs(t, "openssl")
	each(t, func(t *testing.T, l *site) {
		r := newResponder(t, l.Addr.HTTP01)
		c := l.goClient(t, "default")
		register(t, c)
		o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("slow.lab.test"))
		if err != nil {
			t.Fatal(err)
		}
		z, err := c.GetAuthorization(t.Context(), o.AuthzURLs[0])
		if err != nil {
			t.Fatal(err)
		}
		ch := z.Challenges[0]
		answer, err := c.HTTP01ChallengeResponse(ch.Token)
		if err != nil {
			t.Fatal(err)
		}
		r.answers.Store(ch.Token, answer)
		l.dns.SetFault("slow.lab.test", dnstest.Fault{Silent: true})
		if _, err := c.Accept(t.Context(), ch); err != nil {
			t.Fatal(err)
		}
		if l.dns.Count("slow.lab.test", dns.TypeA) == 0 {
			t.Error("the validation has not begun")
		}
		l.Kill()
		l.dns.Remove("slow.lab.test")
		l.start(t)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.WaitAuthorization(ctx, o.AuthzURLs[0]); err != nil {
			t.Fatalf("after the restart: %v", err)
		}
		t.Logf("valid %s after the restart", time.Since(start).Round(time.Millisecond))
	})
}
