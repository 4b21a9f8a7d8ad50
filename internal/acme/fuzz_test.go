package acme

import (
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
