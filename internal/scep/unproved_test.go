package scep

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFS12_UnprovedRequests: what strangers leave for a person is bounded by their
// source, by key and in all, the answer says by which, and who is waiting already is
// answered on. A challenge that is right is not counted.
func TestFS12_UnprovedRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*limit.Config)
		taken  int
		oneKey bool
		says   string
	}{
		"source": {func(l *limit.Config) { l.Unproved = limit.Rate{Count: 3, Per: time.Hour} }, 3, false, "from this source"},
		"total":  {func(l *limit.Config) { l.UnprovedWaiting = 4 }, 4, false, "4 requests wait at this endpoint"},
		"key":    {func(*limit.Config) {}, 20, true, "20 requests of this key wait"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bounds := limit.Defaults()
			c.change(&bounds)
			e := newLimitedEnv(t, bounds, func(ep *Endpoint) {
				ep.Manual, ep.DefaultProfile, ep.Profiles, ep.Secret = true, "waiting", []string{"waiting"}, testSecret
			})
			d := newDevice(t, 0)
			first := d
			send := func(d *device, tx, challenge string) (code int, body string) {
				w := e.post(d.wrap(t, e, message{typ: "19", transaction: tx, content: d.csr(t, "dev-1", challenge)}))
				if w.Code == http.StatusOK {
					if r := d.read(t, w); r.status != pkiPending {
						t.Fatalf("%s: %+v", tx, r)
					}
				} else if w.Header().Get("Retry-After") == "" {
					t.Errorf("%d does not say when to come again", w.Code)
				}
				return w.Code, w.Body.String()
			}
			for i := range c.taken {
				if code, body := send(d, strconv.Itoa(i), ""); code != http.StatusOK {
					t.Fatalf("request %d: %d %s", i, code, body)
				}
				if !c.oneKey {
					d = newDevice(t, 0)
				}
			}
			if code, body := send(d, "more", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, c.says) {
				t.Errorf("one more: %d %s", code, body)
			}
			if code, body := send(first, "0", ""); code != http.StatusOK {
				t.Errorf("the first one sent again: %d %s", code, body)
			}
			if code, body := send(newDevice(t, 0), "right", testSecret); code != http.StatusOK {
				t.Errorf("with the challenge: %d %s", code, body)
			}
			waiting, err := e.approvals.List(t.Context(), store.RequestSearch{Limit: 50})
			if err != nil || len(waiting) != c.taken+1 {
				t.Errorf("%v, %d wait", err, len(waiting))
			}
		})
	}
}
