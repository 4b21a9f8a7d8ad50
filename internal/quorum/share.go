package quorum

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Share is one custodian's part of a secret. It does not show its value where it
// is printed or logged; Lines does.
type Share struct {
	id       ID
	need, of int
	number   int // 1 to of; the place at which the polynomials are evaluated
	value    [SecretSize]byte
}

// Set returns the id of the share's set.
func (s Share) Set() ID { return s.id }

// Number returns which share of the set it is, from 1.
func (s Share) Number() int { return s.number }

// Need returns how many shares restore the secret.
func (s Share) Need() int { return s.need }

// Of returns how many shares the set has.
func (s Share) Of() int { return s.of }

// String names the share without its value.
func (s Share) String() string { return fmt.Sprintf("share %d of %d of set %s", s.number, s.of, s.id) }

// GoString is String.
func (s Share) GoString() string { return s.String() }

// The printed form is five lines of ten words. Eight words are octets of the
// share, two are the line's checksum: the first two octets of SHA-256 over a
// label, the line's number and its octets. The first line is the version, the
// set's id, k, n and the share's number; the others are the value.
const (
	ShareLines  = 5
	lineWords   = 10
	lineOctets  = 8
	sheetFormat = 1
	maxText     = 16 << 10
)

// Lines returns the printed form, line by line. It is the secret part of a sheet.
func (s Share) Lines() []string {
	octets := append([]byte{sheetFormat}, s.id[:]...)
	octets = append(octets, byte(s.need), byte(s.of), byte(s.number))
	octets = append(octets, s.value[:]...)
	lines := make([]string, ShareLines)
	for i := range lines {
		part := octets[i*lineOctets : (i+1)*lineOctets]
		sum := lineSum(i+1, part)
		words := make([]string, 0, lineWords)
		for _, b := range append(part[:lineOctets:lineOctets], sum[:]...) {
			words = append(words, word(b))
		}
		lines[i] = strings.Join(words, " ")
	}
	return lines
}

func lineSum(line int, octets []byte) [2]byte {
	sum := hash([]byte("privyseal-share-line/1"), []byte{byte(line)}, octets)
	return [2]byte(sum[:2])
}

// CheckLine reports what is wrong with one line of a share as it was typed: line
// is its number, from 1. A prompt asks for the line again at once. The number
// that the sheet prints before the words may be typed or not; case and the
// amount of space do not count.
func CheckLine(line int, typed string) error {
	_, err := readLine(line, typed)
	return err
}

func readLine(line int, typed string) ([]byte, error) {
	if line < 1 || line > ShareLines {
		return nil, fmt.Errorf("line %d: a share has %d lines", line, ShareLines)
	}
	if len(typed) > maxText {
		return nil, fmt.Errorf("line %d: too long", line)
	}
	words := strings.Fields(strings.ToLower(strings.ReplaceAll(typed, "|", " ")))
	if len(words) > 0 {
		if n, err := strconv.Atoi(strings.TrimRight(words[0], ".:)")); err == nil {
			if n != line {
				return nil, fmt.Errorf("line %d: this is line %d of a sheet", line, n)
			}
			words = words[1:]
		}
	}
	octets := make([]byte, 0, lineWords)
	for i, w := range words[:min(len(words), lineWords)] {
		b, ok := number(w)
		if !ok {
			return nil, fmt.Errorf("line %d, word %d: %w", line, i+1, unknown(w))
		}
		octets = append(octets, b)
	}
	if len(words) != lineWords {
		return nil, fmt.Errorf("line %d: %d words: want %d", line, len(words), lineWords)
	}
	if lineSum(line, octets[:lineOctets]) != [2]byte(octets[lineOctets:]) {
		return nil, fmt.Errorf("line %d: the checksum (its last two words) does not fit: a word is wrong, or two are "+
			"exchanged", line)
	}
	return octets[:lineOctets], nil
}

// ParseShare reads a share as it is printed: five lines of words. Empty lines are
// skipped. Where as many lines have the sheet's mark, "1 |", as a share has lines,
// only those count, so that the text of a whole sheet is read too. Its errors name the line, and the word where
// that is known; they hold no more of the share than the mistyped word.
func ParseShare(text string) (Share, error) {
	if len(text) > maxText {
		return Share{}, fmt.Errorf("read share: longer than %d octets", maxText)
	}
	marked := strings.Count(text, "|") >= ShareLines
	var octets []byte
	lines := 0
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" || marked && !strings.Contains(line, "|") {
			continue
		}
		if lines++; lines > ShareLines {
			return Share{}, fmt.Errorf("read share: more than %d lines", ShareLines)
		}
		part, err := readLine(lines, line)
		if err != nil {
			return Share{}, fmt.Errorf("read share: %w", err)
		}
		octets = append(octets, part...)
	}
	if lines < ShareLines {
		return Share{}, fmt.Errorf("read share: %d lines: want %d", lines, ShareLines)
	}
	return shareOf(octets)
}

// shareOf is the inverse of what Lines prints, whose length it has.
func shareOf(octets []byte) (Share, error) {
	if octets[0] != sheetFormat {
		return Share{}, fmt.Errorf("read share: it has form %d; this program reads form %d", octets[0], sheetFormat)
	}
	s := Share{id: ID(octets[1:5]), need: int(octets[5]), of: int(octets[6]), number: int(octets[7])}
	copy(s.value[:], octets[lineOctets:])
	if s.need < 2 || s.of < s.need || s.number < 1 || s.number > s.of {
		return Share{}, errors.New("read share: line 1: its numbers make no sense")
	}
	return s, nil
}
