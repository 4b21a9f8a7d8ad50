package transcript

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// Bad is the error that names the first record in which something is wrong.
type Bad struct {
	Line int // of the file, from 1; also the record's number
	Why  string
}

// Error names the record and what is wrong with it.
func (b *Bad) Error() string { return fmt.Sprintf("record %d: %s", b.Line, b.Why) }

// Report is what Verify found in a transcript that holds.
type Report struct {
	Records    int
	Ceremonies int
	Acts       int       // done
	Failed     int       // tried and not done
	First      time.Time // of the first record
	Last       time.Time // of the last record
	Head       string    // hash of the last record
	Keys       []string  // SHA-256 of the CA keys' SubjectPublicKeyInfo, in the order of their first signature
	Trusted    bool      // the CA keys were compared with those that the caller knows
	Notes      []string  // what deserves a look: a ceremony without reason, an interrupted one
}

// Verify checks every record: its hash, that it follows the one before, the
// times, and each signature. Custodians' signatures are checked with the keys
// that the ceremony's opening names. The CA's signatures must be by one of the
// given keys; without any, the transcript only vouches for itself and the
// report's Trusted is false. The last ceremony must be signed. The error is a
// *Bad.
func (t *Transcript) Verify(ca ...crypto.PublicKey) (*Report, error) {
	report, err := t.verify(ca)
	if err == nil && t.open() {
		return nil, &Bad{Line: len(t.records), Why: "no signature follows: the last ceremony was not closed, or the " +
			"end was cut off"}
	}
	return report, err
}

// Reaches checks that a transcript has not lost its end since its head was written down:
// the head, in hexadecimal of either case, is the hash of one of its records. It returns
// how many records came after it.
func (t *Transcript) Reaches(head string) (after int, err error) {
	for i, r := range t.records {
		if strings.EqualFold(r.Hash, strings.TrimSpace(head)) {
			return len(t.records) - 1 - i, nil
		}
	}
	return 0, &Bad{Line: len(t.records), Why: "no record has the given head: the end was cut off, or it is another " +
		"transcript"}
}

// GoesOn is Verify for who is about to append: the last ceremony may be open.
func (t *Transcript) GoesOn(ca ...crypto.PublicKey) error {
	_, err := t.verify(ca)
	return err
}

func (t *Transcript) verify(ca []crypto.PublicKey) (*Report, error) {
	known, err := encodeKeys(ca)
	if err != nil {
		return nil, err
	}
	report := &Report{Records: len(t.records), Trusted: len(ca) > 0}
	if len(t.records) == 0 {
		return nil, &Bad{Line: 1, Why: "the transcript has no records"}
	}
	report.First, report.Last, report.Head = t.records[0].Time, t.Last(), t.Head()
	for i, r := range t.records {
		if err := t.checkLink(i); err != nil {
			return nil, err
		}
		switch {
		case r.Ceremony != nil:
			report.opened(t, i)
		case r.Act != nil && r.Act.Failed != "":
			report.Failed++
		case r.Act != nil:
			report.Acts++
		default:
			if err := t.checkSigners(r); err != nil {
				return nil, &Bad{Line: r.Seq, Why: err.Error()}
			}
			if err := report.signed(r, known); err != nil {
				return nil, err
			}
		}
	}
	return report, nil
}

func encodeKeys(keys []crypto.PublicKey) ([][]byte, error) {
	var list [][]byte
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, fmt.Errorf("verify transcript: encode key: %w", err)
		}
		list = append(list, der)
	}
	return list, nil
}

// checkLink checks the record's own hash, then how it follows the one before.
func (t *Transcript) checkLink(i int) error {
	r := t.records[i]
	sum, err := r.sum()
	if err != nil {
		return &Bad{Line: i + 1, Why: err.Error()}
	}
	bad := func(line int, format string, args ...any) error {
		return &Bad{Line: line, Why: fmt.Sprintf(format, args...)}
	}
	if sum != r.Hash {
		return bad(i+1, "its hash does not fit: it was altered")
	}
	if r.Seq != i+1 {
		return bad(i+1, "it says that it is record %d: one is missing, was added, or moved", r.Seq)
	}
	prev, last := zeros, time.Time{}
	if i > 0 {
		prev, last = t.records[i-1].Hash, t.records[i-1].Time
	}
	switch {
	case r.Prev != prev && i == 0:
		return bad(1, "it follows another one: the beginning is missing")
	case r.Prev != prev:
		return bad(i, "the record after it follows another one: it was replaced")
	case r.Time.Before(last):
		return bad(i+1, "its time is before that of record %d", i)
	case r.Ceremony == nil && (i == 0 || t.records[i-1].Signatures != nil):
		return bad(i+1, "no ceremony was begun before it")
	}
	return nil
}

// opening returns the ceremony to which record number seq belongs.
func (t *Transcript) opening(seq int) *Ceremony {
	for i := seq - 2; i >= 0; i-- {
		if c := t.records[i].Ceremony; c != nil {
			return c
		}
	}
	return &Ceremony{}
}

// checkSigners compares who signs in record r with the ceremony's opening.
func (t *Transcript) checkSigners(r Record) error {
	open, seen := t.opening(r.Seq), map[string]bool{}
	for _, s := range r.Signatures {
		if seen[s.Signer] {
			return fmt.Errorf("%s signs twice", s.Signer)
		}
		seen[s.Signer] = true
		if s.Signer != CASigner && !bytes.Equal(open.key(s.Signer), s.Key) {
			return fmt.Errorf("the signature of %q is by a key that the ceremony's opening does not name", s.Signer)
		}
	}
	for _, p := range open.Custodians {
		if p.Key != nil && !seen[p.Name] {
			return fmt.Errorf("the custodian %q, whose key the opening names, did not sign", p.Name)
		}
	}
	if !seen[CASigner] {
		return errors.New("the CA's own signature is missing")
	}
	return nil
}

// key returns the custodian's key, or nil.
func (c *Ceremony) key(name string) []byte {
	for _, p := range c.Custodians {
		if p.Name == name {
			return p.Key
		}
	}
	return nil
}

// signed checks the signatures of record r, each over the record before it and the time.
func (report *Report) signed(r Record, known [][]byte) error {
	for _, s := range r.Signatures {
		err := s.verify(message(r.Prev, r.Time))
		if err != nil && s.verify(untimed(r.Prev)) == nil {
			err = nil
			report.Notes = append(report.Notes, fmt.Sprintf(
				"record %d: the signature of %q is of an older form, which does not cover its time", r.Seq, s.Signer))
		}
		if err != nil {
			return &Bad{Line: r.Seq, Why: fmt.Sprintf("the signature of %q: %v", s.Signer, err)}
		}
		if s.Signer != CASigner {
			continue
		}
		sum := pki.Fingerprint(s.Key)
		if len(known) > 0 && !slices.ContainsFunc(known, func(k []byte) bool { return bytes.Equal(k, s.Key) }) {
			return &Bad{Line: r.Seq, Why: "the CA's signature is by a foreign key, SHA-256 " + sum}
		}
		if len(report.Keys) == 0 || report.Keys[len(report.Keys)-1] != sum {
			report.Keys = append(report.Keys, sum)
		}
	}
	return nil
}

// opened counts a ceremony and notes what is odd about it.
func (report *Report) opened(t *Transcript, i int) {
	c := t.records[i].Ceremony
	report.Ceremonies++
	if c.Reason == "" {
		report.Notes = append(report.Notes, fmt.Sprintf("record %d: ceremony %q has no reason", i+1, c.Name))
	}
	if i > 0 && t.records[i-1].Signatures == nil {
		report.Notes = append(report.Notes,
			fmt.Sprintf("record %d: ceremony %q began while the one before was not signed: that one was interrupted",
				i+1, c.Name))
	}
}
