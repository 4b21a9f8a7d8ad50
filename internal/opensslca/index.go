package opensslca

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/privyseal/privyseal/internal/pki"
)

// Entry is one line of index.txt: a certificate that the CA has signed, or was
// about to sign.
type Entry struct {
	Serial   pki.Serial
	NotAfter time.Time
	Subject  string      // as OpenSSL prints it on one line: /C=DE/O=Example/CN=x
	Revoked  *Revocation // nil while it is valid
	File     string      // "unknown", as OpenSSL writes it
	Expired  bool        // marked E by openssl ca -updatedb
}

// Revocation is what index.txt says of a revoked certificate.
type Revocation struct {
	At           time.Time
	Reason       pki.Reason
	InvalidityAt *time.Time // since when the key is thought to be compromised
}

// Limits of an index.
const (
	maxIndex = 256 << 20 // octets, about two million certificates
	maxLine  = 16 << 10
)

// ParseIndex reads index.txt: six fields with tabs between them, of which the
// third is empty unless the first is R. As in OpenSSL a serial occurs once, and
// lines that begin with # are skipped. Errors name the line.
func ParseIndex(text []byte) ([]Entry, error) {
	if len(text) > maxIndex {
		return nil, fmt.Errorf("index.txt: longer than %d octets", maxIndex)
	}
	var entries []Entry
	lines := make(map[pki.Serial]int)
	n := 0
	for raw := range bytes.Lines(text) {
		n++
		line := strings.TrimRight(string(raw), "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseEntry(line)
		if err == nil && lines[e.Serial] != 0 {
			err = fmt.Errorf("serial %s is in line %d already", e.Serial, lines[e.Serial])
		}
		if err != nil {
			return nil, fmt.Errorf("index.txt line %d: %w", n, err)
		}
		lines[e.Serial] = n
		entries = append(entries, e)
	}
	return entries, nil
}

// FormatIndex is the inverse of ParseIndex.
func FormatIndex(entries []Entry) []byte {
	var b bytes.Buffer
	for _, e := range entries {
		b.WriteString(e.line())
	}
	return b.Bytes()
}

func parseEntry(line string) (Entry, error) {
	f := strings.Split(line, "\t")
	switch {
	case len(line) > maxLine:
		return Entry{}, fmt.Errorf("longer than %d octets", maxLine)
	case len(f) != 6:
		return Entry{}, fmt.Errorf("%d fields: want 6 with tabs between", len(f))
	case !utf8.ValidString(line) || strings.ContainsRune(line, '\r'):
		return Entry{}, errors.New("not UTF-8 text")
	}
	var e Entry
	var err error
	if e.NotAfter, err = parseTime(f[1]); err != nil {
		return Entry{}, err
	}
	if e.Serial, err = pki.ParseSerial(f[3]); err != nil {
		return Entry{}, err
	}
	e.File, e.Subject = f[4], f[5]
	if e.File == "" {
		e.File = "unknown"
	}
	switch f[0] {
	case "V", "E":
		e.Expired = f[0] == "E"
		if f[2] != "" {
			return Entry{}, errors.New("a revocation date in a line that is not R")
		}
	case "R":
		r, err := parseRevocation(f[2])
		if err != nil {
			return Entry{}, err
		}
		e.Revoked = &r
	default:
		return Entry{}, fmt.Errorf("status %q: want V, R or E", f[0])
	}
	return e, nil
}

// reasons are the words of index.txt. OpenSSL has none for reasons 9 and 10, so
// an index that should stay readable cannot hold them.
var reasons = []struct {
	word   string
	reason pki.Reason
	third  bool // a third part follows
}{
	{"unspecified", pki.Unspecified, false}, {"keyCompromise", pki.KeyCompromise, false},
	{"CACompromise", pki.CACompromise, false}, {"affiliationChanged", pki.AffiliationChanged, false},
	{"superseded", pki.Superseded, false}, {"cessationOfOperation", pki.CessationOfOperation, false},
	{"certificateHold", pki.CertificateHold, false},
	// an instruction's name, obsolete since RFC 5280
	{"holdInstruction", pki.CertificateHold, true},
	{"keyTime", pki.KeyCompromise, true}, {"CAkeyTime", pki.CACompromise, true}, // since when
}

// Storable reports whether index.txt has a word for the reason.
func Storable(r pki.Reason) bool {
	for _, o := range reasons {
		if o.reason == r {
			return true
		}
	}
	return false
}

// parseRevocation reads DATE[,REASON[,TIME]].
func parseRevocation(s string) (Revocation, error) {
	parts := strings.Split(s, ",")
	var r Revocation
	var err error
	if r.At, err = parseTime(parts[0]); err != nil || len(parts) == 1 {
		return r, err
	}
	for _, o := range reasons {
		if !strings.EqualFold(o.word, parts[1]) || len(parts) != 2 && !o.third || len(parts) != 3 && o.third {
			continue
		}
		r.Reason = o.reason
		if o.third && o.reason != pki.CertificateHold {
			at, err := parseTime(parts[2])
			if err != nil {
				return r, err
			}
			r.InvalidityAt = &at
		}
		return r, nil
	}
	return r, fmt.Errorf("revocation %q is not understood", s)
}

// text is the inverse of parseRevocation.
func (r Revocation) text() string {
	s := formatTime(r.At)
	if r.InvalidityAt != nil {
		word := ",keyTime,"
		if r.Reason == pki.CACompromise {
			word = ",CAkeyTime,"
		}
		return s + word + r.InvalidityAt.UTC().Format(generalized)
	}
	if r.Reason == pki.Unspecified {
		return s
	}
	for _, o := range reasons {
		if o.reason == r.Reason {
			return s + "," + o.word
		}
	}
	return s
}

// line is the inverse of parseEntry.
func (e Entry) line() string {
	status, revoked, file := "V", "", e.File
	switch {
	case e.Revoked != nil:
		status, revoked = "R", e.Revoked.text()
	case e.Expired:
		status = "E"
	}
	if file == "" {
		file = "unknown"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\n",
		status, formatTime(e.NotAfter), revoked, strings.ToUpper(string(e.Serial)), file, e.Subject)
}

// The two encodings of a Time, which index.txt uses as a certificate does.
const (
	utcTime     = "060102150405Z"
	generalized = "20060102150405Z"
)

func formatTime(t time.Time) string {
	t = t.UTC()
	if y := t.Year(); y >= 1950 && y < 2050 {
		return t.Format(utcTime)
	}
	return t.Format(generalized)
}

func parseTime(s string) (time.Time, error) {
	layout := generalized
	if len(s) == len(utcTime) {
		layout = utcTime
	}
	t, err := time.Parse(layout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("time %q: want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ", s)
	}
	// Go reads the years 69 to 99 as 19xx, RFC 5280 those from 50 (4.1.2.5.1).
	if layout == utcTime && t.Year() >= 2050 {
		t = t.AddDate(-100, 0, 0)
	}
	return t, nil
}

// OneLine prints a name as OpenSSL's X509_NAME_oneline does, which is how
// index.txt holds it.
func OneLine(name pki.Name) string {
	var b strings.Builder
	for _, rdn := range name {
		for _, a := range rdn {
			b.WriteString("/" + pki.AttributeName(a.OID) + "=")
			for _, c := range []byte(a.Value) {
				if c < ' ' || c > '~' {
					fmt.Fprintf(&b, `\x%02X`, c)
				} else {
					b.WriteByte(c)
				}
			}
		}
	}
	return b.String()
}
