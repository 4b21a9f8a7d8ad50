package scep

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFR6_ManualTakesChallenges: where a person decides, a challenge that is not
// right is neither refused nor locks out its device.
func TestFR6_ManualTakesChallenges(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"no secret": "", "a secret": testSecret} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, func(ep *Endpoint) {
				ep.Manual, ep.DefaultProfile, ep.Profiles, ep.Secret = true, "waiting", []string{"waiting"}, secret
			})
			d := newDevice(t, 0)
			send := func(tx, challenge string) {
				w := e.post(d.wrap(t, e, message{typ: "19", transaction: tx, content: d.csr(t, "dev-1", challenge)}))
				if w.Code != http.StatusOK {
					t.Fatalf("%s: %d %s", tx, w.Code, w.Body)
				}
				if r := d.read(t, w); r.status != pkiPending || r.content != nil {
					t.Fatalf("%s: %+v", tx, r)
				}
			}
			send("right", testSecret)
			for i := range 12 {
				send(strconv.Itoa(i), "whatever the device has")
			}
			send("late", testSecret) // not compared any more
			waiting, err := e.approvals.List(t.Context(), store.RequestSearch{Limit: 50})
			if err != nil || len(waiting) != 14 {
				t.Fatalf("%v, %d wait", err, len(waiting))
			}
			for _, row := range waiting {
				proved := secret != "" && row.TransactionID == "right"
				if proved != strings.HasPrefix(row.Identity, "endpoint:") || proved == strings.HasPrefix(row.Identity, "key:") {
					t.Errorf("%s is asked by %s", row.TransactionID, row.Identity)
				}
				if row.TransactionID == "3" {
					if _, err := e.approvals.Approve(t.Context(), row.ID, approval.Actor{Name: "uid:1000"}); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := d.read(t, e.post(d.wrap(t, e, message{typ: "20", transaction: "3", content: issuerAndSubject(t, e, "dev-1")})))
			if r.status != pkiSuccess || !d.key.PublicKey.Equal(r.certs[0].PublicKey) {
				t.Errorf("approved: %+v", r)
			}
		})
	}
}
