package profile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Duration is a length of time as configuration writes it: "90d", "2y", "24h",
// "1h30m", "1d12h". A day is 24 hours and a year 365 days, whatever the
// calendar says, so that a length never depends on when it begins.
type Duration time.Duration

// Lengths of the larger units.
const (
	Day  = 24 * time.Hour
	Year = 365 * Day
)

// maxDuration keeps sums of two durations far from overflow.
const maxDuration = 100 * Year

var units = []struct {
	name   string
	length time.Duration
}{{"y", Year}, {"d", Day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

// ParseDuration reads a length such as "90d", between 0 and 100 years.
func ParseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("duration %q: want numbers with units y, d, h, m, s, such as 90d or 24h", s)
	rest, total := s, time.Duration(0)
	next := 0 // units must come in falling order, each once
	for rest != "" {
		end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if end <= 0 {
			return 0, bad
		}
		n, err := strconv.ParseInt(rest[:end], 10, 64)
		for next < len(units) && units[next].name != rest[end:end+1] {
			next++
		}
		if err != nil || next == len(units) {
			return 0, bad
		}
		if n > int64(maxDuration/units[next].length) {
			return 0, fmt.Errorf("duration %q: longer than 100 years", s)
		}
		total += time.Duration(n) * units[next].length
		rest = rest[end+1:]
		next++
	}
	if s == "" {
		return 0, bad
	}
	if total > maxDuration {
		return 0, fmt.Errorf("duration %q: longer than 100 years", s)
	}
	return Duration(total), nil
}

// String returns the shortest form that ParseDuration reads back.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := time.Duration(d)
	if rest < 0 {
		b.WriteByte('-')
		rest = -rest
	}
	if rest%Year != 0 { // "90d" and "730d" read better than "1y35d"
		days := rest / Day
		if days > 0 {
			fmt.Fprintf(&b, "%dd", days)
		}
		rest %= Day
	}
	for _, u := range units {
		if n := rest / u.length; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			rest -= n * u.length
		}
	}
	return b.String()
}

// UnmarshalText reads the text form. Its errors do not repeat it.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err != nil {
		return errors.New("want a duration of at most 100 years, such as 90d or 24h")
	}
	*d = v
	return nil
}

// MarshalYAML writes the text form.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

// JSONSchema describes the text form.
func (Duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:        "string",
		Pattern:     `^(\d+y)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?$`,
		Description: "a length of time: numbers with the units y (365 days), d, h, m, s",
	}
}
