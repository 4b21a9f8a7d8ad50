package quorum

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ID names a set of shares. It is random, and printed on every sheet.
type ID [4]byte

func newID() (id ID) {
	_, _ = rand.Read(id[:])
	return id
}

// String returns the id as the sheets have it: 7F3A-91C2.
func (id ID) String() string {
	digits := strings.ToUpper(hex.EncodeToString(id[:]))
	return digits[:4] + "-" + digits[4:]
}

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what String writes.
func (id *ID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.ToLower(strings.Replace(string(text), "-", "", 1)))
	if err != nil || len(b) != len(id) || ID(b).String() != string(text) {
		return fmt.Errorf("set id %q: want eight hexadecimal digits such as 7F3A-91C2", text)
	}
	copy(id[:], b)
	return nil
}

// Hash is a commitment, in hexadecimal where it is text.
type Hash [32]byte

// MarshalText returns the hash in lower-case hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(h) {
		return errors.New("want 64 hexadecimal digits")
	}
	copy(h[:], b)
	return nil
}

// Set is the public record of a set of shares. It is no secret: it holds salted
// hashes of values of 32 random octets, which nobody finds by trying.
type Set struct {
	Format string `json:"format"` // setFormat
	ID     ID     `json:"set"`
	Need   int    `json:"need"`   // k
	Of     int    `json:"of"`     // n
	Salt   Hash   `json:"salt"`   // 32 random octets
	Whole  Hash   `json:"whole"`  // commitment of the secret
	Shares []Hash `json:"shares"` // commitment of share 1, 2, …
}

const (
	setFormat  = "privyseal-quorum/1"
	maxSetText = 64 << 10
)

func newSet(id ID, k int, shares []Share, secret []byte) Set {
	set := Set{Format: setFormat, ID: id, Need: k, Of: len(shares)}
	_, _ = rand.Read(set.Salt[:])
	set.Whole = set.commitment(0, secret)
	for _, s := range shares {
		set.Shares = append(set.Shares, set.commitment(s.number, s.value[:]))
	}
	return set
}

// commitment is the salted hash of share number, or of the secret for 0.
func (set Set) commitment(number int, value []byte) Hash {
	return hash([]byte(setFormat), set.Salt[:], set.ID[:], []byte{byte(set.Need), byte(set.Of), byte(number)}, value)
}

// Check reports why a share is not of this set, or nil.
func (set Set) Check(s Share) error {
	if s.id != set.ID {
		return fmt.Errorf("share %d is not of this set: it is of set %s, and set %s is needed", s.number, s.id, set.ID)
	}
	if s.number < 1 || s.number > len(set.Shares) || s.need != set.Need || s.of != set.Of {
		return fmt.Errorf("share %d is not of this set: it says %d of %d are needed, set %s says %d of %d",
			s.number, s.need, s.of, set.ID, set.Need, set.Of)
	}
	got := set.commitment(s.number, s.value[:])
	if subtle.ConstantTimeCompare(got[:], set.Shares[s.number-1][:]) != 1 {
		return fmt.Errorf("share %d is not of this set: it bears the set's id %s, but its value is another", s.number,
			set.ID)
	}
	return nil
}

// Text returns the record as JSON for a file beside the key.
func (set Set) Text() ([]byte, error) {
	if err := set.check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write set of shares: %w", err)
	}
	return append(text, '\n'), nil
}

// ParseSet reads what Text writes.
func ParseSet(text []byte) (Set, error) {
	if len(text) > maxSetText {
		return Set{}, fmt.Errorf("read set of shares: longer than %d octets", maxSetText)
	}
	var set Set
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&set); err != nil {
		return Set{}, fmt.Errorf("read set of shares: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Set{}, errors.New("read set of shares: something follows its end")
	}
	if err := set.check(); err != nil {
		return Set{}, fmt.Errorf("read set of shares: %w", err)
	}
	return set, nil
}

func (set Set) check() error {
	switch {
	case set.Format != setFormat:
		return fmt.Errorf("format %q: want %s", set.Format, setFormat)
	case set.Need < 2 || set.Of < set.Need || set.Of > MaxShares || len(set.Shares) != set.Of:
		return fmt.Errorf("a set of %d of %d shares with %d hashes", set.Need, set.Of, len(set.Shares))
	}
	return nil
}
