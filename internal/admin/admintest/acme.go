package admintest

import (
	"context"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// ACME is what Server.ACME has put on record.
type ACME struct{ Account, Failed, Pending, FailedAuthz, PendingAuthz string }

// ACME puts an account on record that the EAB key kid made from 192.0.2.7, with an order
// for www.a.test whose validation failed and one for *.b.test that waits for its client.
func (s *Server) ACME(t testing.TB, kid string) ACME {
	t.Helper()
	ctx, now := context.Background(), time.Now()
	event := store.Event{At: now, Action: "test.seed", Outcome: "success", Actor: "test", Subject: "acme"}
	point, err := newKey(t).PublicKey.Bytes()
	must(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	a := store.Account{
		ID: store.NewID(), Endpoint: "eab", Thumbprint: fmt.Sprintf("thumbprint-%d", s.accounts.Add(1)),
		Status: "valid", EABKID: kid,
		JWK:     fmt.Appendf(nil, `{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, b64(point[1:33]), b64(point[33:])),
		Contact: []string{"mailto:team@a.test"}, CreatedAt: now, CreatedFrom: "192.0.2.7",
		Terms: "https://ca.test/terms", TermsAgreedAt: &now,
	}
	_, err = s.Store.CreateAccount(ctx, a, nil, event)
	must(t, err)
	order := func(name string, wildcard bool) (string, string) {
		z := store.Authorization{
			ID: store.NewID(), AccountID: a.ID, Identifier: pki.Identifier{Type: pki.DNS, Value: name},
			Wildcard: wildcard, Status: "pending", Expires: now.Add(time.Hour), Token: "a-token", CreatedAt: now,
		}
		o := store.Order{
			ID: store.NewID(), AccountID: a.ID, Endpoint: "eab", Profile: "tls-server", Status: "pending",
			Expires: now.Add(time.Hour), CreatedAt: now, AuthorizationIDs: []string{z.ID},
			Identifiers: []pki.Identifier{{Type: pki.DNS, Value: z.Name()}},
		}
		must(t, s.Store.CreateOrder(ctx, o, []store.Authorization{z}, &event))
		return o.ID, z.ID
	}
	out := ACME{Account: a.ID}
	out.Failed, out.FailedAuthz = order("www.a.test", false)
	out.Pending, out.PendingAuthz = order("b.test", true)
	_, err = s.Store.StartChallenge(ctx, out.FailedAuthz, "http-01", a.Thumbprint, now)
	must(t, err)
	must(t, s.Store.FinishChallenge(ctx, out.FailedAuthz, "http-01", false,
		[]byte(`{"type":"urn:ietf:params:acme:error:connection","status":400,"detail":"198.51.100.7: refused",
			"reason":"refused"}`),
		[]byte(`{"type":"http-01","at":"2026-01-02T03:04:05Z","caa":"none","hops":[{"url":"http://www.a.test/",
			"resolved":["127.0.0.1","198.51.100.7"],"refused":["127.0.0.1"],"tried":["198.51.100.7"]}]}`),
		now, now.Add(time.Hour), &event))
	return out
}
