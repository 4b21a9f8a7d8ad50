package scep

import (
	"encoding/base64"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
)

// parameter returns a parameter of a raw query, still percent-encoded. The query
// is not parsed as a form: that would make spaces of the plus signs of base64
// (rule S3).
func parameter(rawQuery, name string) (value string, ok bool) {
	for _, pair := range strings.Split(rawQuery, "&") {
		if key, value, found := strings.Cut(pair, "="); found && strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
}

// unescape decodes percent-encoding and nothing else.
func unescape(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi > 15 || lo > 15 {
			return "", false
		}
		out = append(out, hi<<4|lo)
		i += 2
	}
	return string(out), true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// queryMessage reads the message of a GET: base64, of which clients percent-encode
// all, some or nothing, with line breaks or without, padded or not, in either
// alphabet (rule S3).
func queryMessage(rawQuery string) ([]byte, error) {
	bad := func(why string) error {
		return fault.New(fault.Malformed, "the parameter message %s", why).Because("scep_query")
	}
	value, ok := parameter(rawQuery, "message")
	if !ok || value == "" {
		return nil, bad("is missing")
	}
	text, ok := unescape(value)
	if !ok {
		return nil, bad("is not percent-encoded")
	}
	clean := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
		case '-':
			clean = append(clean, '+')
		case '_':
			clean = append(clean, '/')
		default:
			clean = append(clean, c)
		}
	}
	message, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(string(clean), "="))
	if err != nil || len(message) == 0 {
		return nil, bad("is not base64")
	}
	return message, nil
}
