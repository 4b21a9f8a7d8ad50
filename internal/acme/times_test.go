package acme

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// FuzzParseTime: a time that is taken is a whole second, not after what was asked
// for, and reads the same again as the order shows it.
func FuzzParseTime(f *testing.F) {
	for _, text := range []string{
		"2026-01-02T03:04:05Z", "2026-01-02t03:04:05.999999999z", "2026-01-02T03:04:05.5+02:00", "0001-01-01T00:00:00.1Z",
		"9999-12-31T23:59:59.9-12:00", "0000-01-01T00:00:00Z", "2026-01-02T03:04:05,5Z", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseTime("notAfter", text)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Fatalf("another fault: %v", err)
			}
			return
		}
		if at == nil {
			return
		}
		if at.Nanosecond() != 0 || at.Location() != time.UTC {
			t.Fatalf("%q became %v", text, at)
		}
		if at.Year() < 0 || at.Year() > 9999 { // which no profile grants
			return
		}
		again, err := parseTime("notAfter", stamp(*at))
		if err != nil || again == nil || !again.Equal(*at) {
			t.Fatalf("%q became %s, which became %v (%v)", text, stamp(*at), again, err)
		}
	})
}

// TestFR12_PartsOfASecond: Caddy's cert_lifetime, and everything else that writes a
// time of Go's as JSON, sends them. Down is never longer than what was asked for.
func TestFR12_PartsOfASecond(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	from, to := e.now().Add(time.Minute).UTC().Truncate(time.Second), e.now().AddDate(0, 0, 10).UTC().Truncate(time.Second)
	const late = 999_999_999 * time.Nanosecond
	for name, form := range map[string]func(time.Time) string{
		"nanoseconds":                   func(at time.Time) string { return at.Add(late).Format(time.RFC3339Nano) },
		"one digit":                     func(at time.Time) string { return at.Format("2006-01-02T15:04:05") + ".9Z" },
		"twelve digits":                 func(at time.Time) string { return at.Format("2006-01-02T15:04:05") + ".999999999999Z" },
		"zeros":                         func(at time.Time) string { return at.Format("2006-01-02T15:04:05") + ".000Z" },
		"small letters":                 func(at time.Time) string { return strings.ToLower(at.Format(time.RFC3339)) },
		"small letters with a fraction": func(at time.Time) string { return at.Format("2006-01-02t15:04:05") + ".5z" },
		"ahead":                         func(at time.Time) string { return at.In(time.FixedZone("", 2*3600)).Add(late).Format(time.RFC3339Nano) },
		"behind":                        func(at time.Time) string { return at.In(time.FixedZone("", -9*3600-1800)).Format(time.RFC3339) },
		"unknown offset":                func(at time.Time) string { return at.Format("2006-01-02T15:04:05") + ".25-00:00" },
	} {
		r := c.newOrder(map[string]any{"identifiers": dnsNames("a.localhost"), "notBefore": form(from), "notAfter": form(to)})
		want(t, r, http.StatusCreated)
		if o := decodeInto[orderView](t, r); o.NotBefore != stamp(from) || o.NotAfter != stamp(to) {
			t.Errorf("%s: %s to %s came back as %s to %s", name, form(from), form(to), o.NotBefore, o.NotAfter)
		}
	}
	o := decodeInto[orderView](t, c.newOrder(map[string]any{
		"identifiers": dnsNames("a.localhost"), "notAfter": to.Add(late).Format(time.RFC3339Nano),
	}))
	c.authorize(o)
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), 200)
}
