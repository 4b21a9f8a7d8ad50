package inventory

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// maxWhere bounds an expression; audit events repeat it for each certificate.
const maxWhere = 1024

// fields are what a term may be about: its operators, and what it sets.
var fields = map[string]struct {
	operators string
	set       func(m *store.Match, op byte, value string, now time.Time) error
}{
	"name": {"=~", func(m *store.Match, op byte, v string, _ time.Time) error {
		if op == '~' {
			return once(&m.NamePattern, v)
		}
		return once(&m.Name, v)
	}},
	"issuer":    {"=", func(m *store.Match, _ byte, v string, _ time.Time) error { return once(&m.Issuer, v) }},
	"profile":   {"=", func(m *store.Match, _ byte, v string, _ time.Time) error { return once(&m.Profile, v) }},
	"protocol":  {"=", func(m *store.Match, _ byte, v string, _ time.Time) error { return once(&m.Protocol, v) }},
	"endpoint":  {"=", func(m *store.Match, _ byte, v string, _ time.Time) error { return once(&m.Endpoint, v) }},
	"requester": {"=", func(m *store.Match, _ byte, v string, _ time.Time) error { return once(&m.Requester, v) }},
	"key": {"=", func(m *store.Match, _ byte, v string, _ time.Time) error {
		if m.Key != nil {
			return errTwice
		}
		var err error
		m.Key, err = ParseKeyHash(v)
		return err
	}},
	"not_after": {"<>", func(m *store.Match, op byte, v string, now time.Time) error {
		return bound(&m.NotAfterFrom, &m.NotAfterBefore, op, v, now)
	}},
	"issued": {"<>", func(m *store.Match, op byte, v string, now time.Time) error {
		return bound(&m.IssuedFrom, &m.IssuedBefore, op, v, now)
	}},
}

var errTwice = fault.New(fault.Malformed, "it is said twice")

// ParseKeyHash reads the SHA-256 of a SubjectPublicKeyInfo in hexadecimal.
func ParseKeyHash(text string) ([]byte, error) {
	h, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(h) != len(pki.KeyHash{}) {
		return nil, fault.New(fault.Malformed, "%q is not a SHA-256 in hexadecimal", text).Because("key_hash")
	}
	return h, nil
}

// ParseWhere reads an expression that selects certificates for a revocation in
// bulk: terms with commas between, all of which must hold.
//
//	name~*.old.example, issuer=web-a, not_after<2027-01-31
//
// A value that holds a comma or a quote stands in double quotes, in which a
// backslash precedes both. Times are as RFC 3339 says, dates, or spans from now
// such as 30d. An expression without a term is refused: nobody means everything.
func ParseWhere(text string, now time.Time) (store.Match, error) {
	var m store.Match
	if len(text) > maxWhere || !utf8.ValidString(text) {
		return m, wrong("it is longer than %d bytes, or not UTF-8", maxWhere)
	}
	rest := text
	for {
		term, after, more, err := cutTerm(rest)
		if err != nil {
			return store.Match{}, err
		}
		if err := addTerm(&m, term, now); err != nil {
			return store.Match{}, err
		}
		if !more {
			return m, nil
		}
		rest = after
	}
}

func wrong(format string, args ...any) error {
	return fault.New(fault.Malformed, "the expression: "+format, args...).Because("where")
}

// cutTerm cuts the text at its first comma that is not quoted.
func cutTerm(text string) (term, rest string, more bool, err error) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return text[:i], text[i+1:], true, nil
		}
	}
	if quoted {
		return "", "", false, wrong("a quote is not closed in %q", text)
	}
	return text, "", false, nil
}

func addTerm(m *store.Match, term string, now time.Time) error {
	term = strings.TrimSpace(term)
	at := strings.IndexAny(term, "=~<>")
	if at < 1 {
		return wrong("%q is not a term such as name~*.old.example or issuer=web-a", term)
	}
	name, op := strings.TrimSpace(term[:at]), term[at]
	f, ok := fields[name]
	if !ok {
		return wrong("there is no field %q; known: name, issuer, profile, protocol, endpoint, requester, key, "+
			"not_after, issued", name)
	}
	if !strings.Contains(f.operators, string(op)) {
		return wrong("%s takes %s, not %c", name, strings.Join(strings.Split(f.operators, ""), " or "), op)
	}
	value, err := unquote(strings.TrimSpace(term[at+1:]))
	if err != nil {
		return err
	}
	if err := f.set(m, op, value, now); err != nil {
		return wrong("%s: %s", name, fault.Of(err).Detail)
	}
	return nil
}

// unquote returns a value as it is meant.
func unquote(text string) (string, error) {
	value := text
	if strings.HasPrefix(text, `"`) {
		inner, closed := strings.CutSuffix(text[1:], `"`)
		var b strings.Builder
		for i := 0; i < len(inner); i++ {
			switch c := inner[i]; {
			case c == '\\' && i+1 < len(inner):
				i++
				b.WriteByte(inner[i])
			case c == '\\' || c == '"':
				closed = false
			default:
				b.WriteByte(c)
			}
		}
		if !closed {
			return "", wrong("%s is not one value in quotes", text)
		}
		value = b.String()
	} else if strings.ContainsAny(text, "\"=~<>") {
		return "", wrong("the value %s needs quotes", text)
	}
	if value == "" {
		return "", wrong("a value is empty")
	}
	for _, r := range value {
		if r < ' ' || r == 0x7f {
			return "", wrong("a value holds a control character")
		}
	}
	return value, nil
}

func once(into *string, value string) error {
	if *into != "" {
		return errTwice
	}
	*into = value
	return nil
}

func bound(from, before *time.Time, op byte, value string, now time.Time) error {
	at, err := parseMoment(value, now)
	if err != nil {
		return err
	}
	into := from
	if op == '<' {
		into = before
	}
	if !into.IsZero() {
		return errTwice
	}
	*into = at
	return nil
}

// parseMoment reads a point in time: RFC 3339, a date (its first instant in
// UTC), or a span from now such as 36h or -30d.
func parseMoment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 0 {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > -100_000 && n < 100_000 {
			return now.AddDate(0, 0, n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	return time.Time{}, fault.New(fault.Malformed,
		"%q is not a time such as 2027-01-31T12:00:00Z, a date such as 2027-01-31, or a span from now such as 36h or "+
			"30d", text)
}
