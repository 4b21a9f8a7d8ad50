package ceremony

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// Entry is one line of index.txt: a certificate that this CA has signed, or was
// about to sign.
type Entry struct {
	Serial   pki.Serial
	NotAfter time.Time
	Subject  string          // as OpenSSL prints it on one line: /C=DE/O=Example/CN=x
	Revoked  *issuer.Revoked // nil while it is valid
	File     string          // "unknown", as OpenSSL writes it
	Expired  bool            // marked E by openssl ca -updatedb
}

// Index returns the folder's entries in the order in which they were made.
func (ca CA) Index() ([]Entry, error) {
	text, err := os.ReadFile(ca.path(indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return ParseIndex(text)
}

func (ca CA) writeIndex(entries []Entry) error {
	var text strings.Builder
	for _, e := range entries {
		text.WriteString(e.line())
	}
	return writeFile(ca.path(indexFile), []byte(text.String()), 0o644)
}

// ParseIndex reads OpenSSL's index.txt: six fields with tabs between them, of
// which the third is empty unless the first is R.
func ParseIndex(text []byte) ([]Entry, error) {
	var entries []Entry
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		e, err := parseEntry(line)
		if err != nil {
			return nil, fmt.Errorf("index.txt line %d: %w", n+1, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseEntry(line string) (Entry, error) {
	f := strings.Split(line, "\t")
	if len(f) != 6 {
		return Entry{}, fmt.Errorf("%d fields: want 6 with tabs between", len(f))
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
	if !utf8.ValidString(line) {
		return Entry{}, errors.New("not UTF-8")
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
		r.Serial = e.Serial
		e.Revoked = &r
	default:
		return Entry{}, fmt.Errorf("status %q: want V, R or E", f[0])
	}
	return e, nil
}

// opensslReasons are the words of index.txt. OpenSSL has none for reasons 9 and
// 10, so an index that should stay readable cannot hold them.
var opensslReasons = []struct {
	word   string
	reason pki.Reason
}{
	{"unspecified", pki.Unspecified}, {"keyCompromise", pki.KeyCompromise}, {"CACompromise", pki.CACompromise},
	{"affiliationChanged", pki.AffiliationChanged}, {"superseded", pki.Superseded},
	{"cessationOfOperation", pki.CessationOfOperation}, {"certificateHold", pki.CertificateHold},
	// With the time since when the key is compromised as a third part:
	{"keyTime", pki.KeyCompromise}, {"CAkeyTime", pki.CACompromise},
}

// parseRevocation reads DATE[,REASON[,TIME]].
func parseRevocation(s string) (issuer.Revoked, error) {
	parts := strings.Split(s, ",")
	var r issuer.Revoked
	var err error
	if r.At, err = parseTime(parts[0]); err != nil {
		return r, err
	}
	if len(parts) == 1 {
		return r, nil
	}
	known := false
	for _, o := range opensslReasons {
		if o.word == parts[1] {
			r.Reason, known = o.reason, true
		}
	}
	timed := parts[1] == "keyTime" || parts[1] == "CAkeyTime"
	if !known || timed != (len(parts) == 3) || len(parts) > 3 {
		return r, fmt.Errorf("revocation %q is not understood", s)
	}
	if timed {
		at, err := parseTime(parts[2])
		if err != nil {
			return r, err
		}
		r.InvalidityAt = &at
	}
	return r, nil
}

// revocation is the inverse of parseRevocation.
func revocation(r issuer.Revoked) string {
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
	for _, o := range opensslReasons {
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
		status, revoked = "R", revocation(*e.Revoked)
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

// oneLine prints a name as OpenSSL's X509_NAME_oneline does, which is how
// index.txt holds it.
func oneLine(name pki.Name) string {
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
