package transcript

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxText    = 4096 // characters of one value
	maxMembers = 256  // of one list
)

// check refuses a record whose values have no place in it.
func (r Record) check() error {
	kinds := 0
	for _, there := range []bool{r.Ceremony != nil, r.Act != nil, len(r.Signatures) > 0} {
		if there {
			kinds++
		}
	}
	_, offset := r.Time.Zone()
	switch {
	case offset != 0 || r.Time.Nanosecond() != 0 || r.Time.IsZero():
		return errors.New("want a time in UTC with whole seconds")
	case kinds != 1:
		return errors.New("want one of ceremony, act and signatures in a record")
	case r.Ceremony != nil:
		return r.Ceremony.check()
	case r.Act != nil:
		return r.Act.check()
	}
	return checkSignatures(r.Signatures)
}

func (c *Ceremony) check() error {
	texts := append([]string{c.Name, c.CA, c.Reason, c.Tool, c.Configuration}, c.Warnings...)
	if len(c.Custodians) > maxMembers || len(c.Warnings) > maxMembers {
		return fmt.Errorf("more than %d custodians or warnings", maxMembers)
	}
	names := map[string]bool{}
	for _, p := range c.Custodians {
		if p.Name == "" || names[p.Name] {
			return fmt.Errorf("custodian %q is there twice or has no name", p.Name)
		}
		names[p.Name] = true
		texts = append(texts, p.Name)
		if len(p.Key) > maxText {
			return fmt.Errorf("custodian %q: the key is too long", p.Name)
		}
	}
	if c.Name == "" || c.Tool == "" {
		return errors.New("a ceremony has a name and a tool")
	}
	return errors.Join(checkTexts(texts), checkHashes(c.ToolHash, c.ConfigHash))
}

func (a *Act) check() error {
	if a.Name == "" {
		return errors.New("an act has a name")
	}
	if len(a.Shares) > maxMembers || len(a.Custodians) > maxMembers {
		return fmt.Errorf("more than %d shares or custodians", maxMembers)
	}
	texts := append([]string{a.Name, a.Reason, a.Subject, a.Issuer, a.Serial, a.CRLNumber, a.Quorum, a.Note, a.Failed},
		a.Custodians...)
	return errors.Join(checkTexts(texts), checkHashes(a.Key, a.Request, a.Certificate, a.CRL))
}

func checkSignatures(list []Signature) error {
	if len(list) > maxMembers {
		return fmt.Errorf("more than %d signatures", maxMembers)
	}
	var texts []string
	for _, s := range list {
		texts = append(texts, s.Signer, s.Algorithm)
		if len(s.Key) > maxText || len(s.Value) > maxText {
			return errors.New("a signature or its key is too long")
		}
	}
	return checkTexts(texts)
}

// checkTexts refuses what would not survive encoding, or would disturb the
// terminal and the page on which it is read.
func checkTexts(texts []string) error {
	for _, s := range texts {
		switch {
		case !utf8.ValidString(s):
			return errors.New("a value that is not UTF-8")
		case utf8.RuneCountInString(s) > maxText:
			return fmt.Errorf("a value longer than %d characters", maxText)
		case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
			return fmt.Errorf("the value %q holds a character that does not print", clip(s))
		}
	}
	return nil
}

func checkHashes(hashes ...string) error {
	for _, h := range hashes {
		if h == "" {
			continue
		}
		if b, err := hex.DecodeString(h); err != nil || len(b) != 32 || strings.ToLower(h) != h {
			return fmt.Errorf("hash %q: want SHA-256 as 64 lower-case hexadecimal digits", clip(h))
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
