package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/opensslca"
	"github.com/privyseal/privyseal/internal/pki"
)

// Status is what is known of a CA's folder without its key.
type Status struct {
	CA         string    `json:"ca"` // the folder
	Subject    string    `json:"subject"`
	NotAfter   time.Time `json:"not_after"`
	Opens      string    `json:"opens"` // what opens the key
	Signed     int       `json:"signed"`
	Revoked    int       `json:"revoked"`
	Ceremonies []Held    `json:"ceremonies"`
	Due        []Due     `json:"due"` // what is to be done, the next first
	Unfinished string    `json:"unfinished,omitempty"`
}

// Held is one ceremony of the transcript.
type Held struct {
	Time   time.Time `json:"time"`
	Name   string    `json:"name"`
	Reason string    `json:"reason"` // empty: none was given
	Acts   int       `json:"acts"`
	Signed bool      `json:"signed"`
}

// Due is something that ends.
type Due struct {
	Time time.Time `json:"time"`
	What string    `json:"what"`
}

// Folders returns the CAs' folders below dir, dir itself among them.
func Folders(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*", "certs", "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("look for CAs: %w", err)
	}
	if exists(filepath.Join(dir, "certs", "ca.pem")) {
		found = append(found, filepath.Join(dir, "certs", "ca.pem"))
	}
	for i := range found {
		found[i] = filepath.Dir(filepath.Dir(found[i]))
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s holds no CA: want certs/ca.pem in it or in a folder below; --dir names another "+
			"folder", dir)
	}
	return found, nil
}

// Inspect returns the status of a CA. It needs no key and changes nothing.
func Inspect(ca CA) (*Status, error) {
	chain, err := ca.Chain()
	if err != nil {
		return nil, err
	}
	s := &Status{CA: ca.Dir, Subject: nameOf(chain[0].RawSubject), NotAfter: chain[0].NotAfter.UTC(),
		Opens: "a passphrase, or a token's PIN"}
	h, err := ca.holders()
	if err != nil {
		return nil, err
	}
	if h != nil {
		s.Opens = fmt.Sprintf("%d of %s (set %s)", h.set.Need, strings.Join(h.Custodians, ", "), h.set.ID)
	}
	if !exists(ca.path(keyFile)) {
		s.Opens = "a token's PIN, if the key was not destroyed"
	}
	s.Due = append(s.Due, Due{s.NotAfter, "the CA's own certificate ends"})
	if err := s.addIndex(ca); err != nil {
		return nil, err
	}
	last, err := ca.lastCRL()
	switch {
	case err != nil:
		return nil, err
	case last == nil:
		s.Due = append(s.Due, Due{ca.Now().UTC().Truncate(time.Second), "there is no list yet"})
	default:
		s.Due = append(s.Due, Due{last.NextUpdate.UTC(),
			fmt.Sprintf("list %s ends: hold a ceremony with the act crl before", last.Number)})
	}
	slices.SortFunc(s.Due, func(a, b Due) int { return a.Time.Compare(b.Time) })
	if exists(filepath.Join(filepath.Dir(ca.Dir), journalFile)) {
		s.Unfinished = filepath.Join(filepath.Dir(ca.Dir), journalFile)
	}
	return s, s.addTranscript(ca)
}

func (s *Status) addIndex(ca CA) error {
	index, err := ca.Index()
	if err != nil {
		return err
	}
	s.Signed = len(index)
	for _, e := range index {
		switch {
		case e.Revoked != nil:
			s.Revoked++
		case e.NotAfter.After(ca.Now()):
			s.Due = append(s.Due, Due{e.NotAfter.UTC(), "the certificate of " + e.Subject + " ends"})
		}
	}
	return nil
}

func (s *Status) addTranscript(ca CA) error {
	l, err := openLedger(ca)
	if err != nil {
		return err
	}
	for _, rec := range l.Records() {
		switch n := len(s.Ceremonies); {
		case rec.Ceremony != nil:
			s.Ceremonies = append(s.Ceremonies, Held{Time: rec.Time, Name: rec.Ceremony.Name,
				Reason: rec.Ceremony.Reason})
		case rec.Act != nil && rec.Act.Failed == "" && n > 0:
			s.Ceremonies[n-1].Acts++
		case rec.Signatures != nil && n > 0:
			s.Ceremonies[n-1].Signed = true
		}
	}
	return nil
}

// Text returns the status for a person to read.
func (s *Status) Text(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", s.CA, s.Subject)
	fmt.Fprintf(&b, "  opened by   %s\n  signed      %d, of which %d are revoked\n", s.Opens, s.Signed, s.Revoked)
	for i, d := range s.Due {
		name := ""
		if i == 0 {
			name = "due"
		}
		fmt.Fprintf(&b, "  %-11s %s (%s)  %s\n", name, day(d.Time), left(d.Time.Sub(now)), d.What)
	}
	fmt.Fprintf(&b, "  ceremonies  %d\n", len(s.Ceremonies))
	for _, c := range s.Ceremonies {
		reason := c.Reason
		if reason == "" {
			reason = "NO REASON GIVEN"
		}
		open := ""
		if !c.Signed {
			open = ", NOT SIGNED"
		}
		fmt.Fprintf(&b, "              %s  %s: %s (%d acts%s)\n", day(c.Time), c.Name, reason, c.Acts, open)
	}
	if s.Unfinished != "" {
		fmt.Fprintf(&b, "  UNFINISHED  a ceremony was interrupted (%s): run it again\n", s.Unfinished)
	}
	return b.String()
}

func left(d time.Duration) string {
	days := int(d.Hours() / 24)
	if d < 0 {
		return fmt.Sprintf("OVERDUE since %d days", -days)
	}
	return fmt.Sprintf("in %d days", days)
}

// ExportIndex returns the CA's index as OpenSSL's index.txt has it, after it was
// held against the certificates that are filed.
func ExportIndex(ca CA) ([]byte, error) {
	text, err := os.ReadFile(ca.path(indexFile))
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	entries, err := opensslca.ParseIndex(text)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		filedAs, err := os.ReadFile(ca.path(filed("newcerts", e.Serial)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken over without it, or void
		}
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		chain, err := pki.ParseChain(filedAs)
		if err != nil {
			return nil, fmt.Errorf("serial %s: %w", e.Serial, err)
		}
		if !chain[0].NotAfter.Equal(e.NotAfter) || pki.SerialFromBig(chain[0].SerialNumber) != e.Serial {
			return nil, fmt.Errorf("serial %s: the index and the certificate in newcerts differ: restore the folder "+
				"from its copy", e.Serial)
		}
	}
	if again := opensslca.FormatIndex(entries); !bytes.Equal(again, text) {
		return again, nil // comments and marks of other tools are left out
	}
	return text, nil
}
