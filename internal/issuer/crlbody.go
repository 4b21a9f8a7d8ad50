package issuer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/privyseal/privyseal/internal/pki"
)

const (
	crlBuffer    = 256 << 10 // octets written or read at a time
	readBackSize = 1 << 20   // lists up to this length are parsed after they are signed
	sampleSize   = 256       // entries that the linter sees
)

// crlBody is a TBSCertList in the making. The entries are written first, behind a
// gap; the octets before them hold their length, so they come last, into the end
// of the gap. Then all of it stands in one piece.
type crlBody struct {
	to         scratch
	gap        int64 // where the entries begin
	head       []byte
	length     int64 // of the entries
	count      int64
	extensions []byte
	first      []byte // the first entries again, for the linter
	fields     []byte // version to nextUpdate
}

// encodeCRL writes the TBSCertList (RFC 5280, section 5.1).
func (i *Issuer) encodeCRL(ctx context.Context, to scratch, crl CRL, entries Entries) (*crlBody, error) {
	if err := crl.check(); err != nil {
		return nil, err
	}
	fields, err := i.crlFields(crl)
	if err != nil {
		return nil, err
	}
	c := &crlBody{to: to, gap: int64(len(fields)) + 16, fields: fields}
	if c.extensions, err = i.crlExtensions(crl); err != nil {
		return nil, err
	}
	if err := c.writeEntries(ctx, crl.Base != nil, entries); err != nil {
		return nil, err
	}
	c.head = tbsHead(fields, c.length, len(c.extensions))
	if _, err := to.WriteAt(c.head, c.gap-int64(len(c.head))); err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	if _, err := to.WriteAt(c.extensions, c.gap+c.length); err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	return c, nil
}

// crlFields returns what stands before the entries.
func (i *Issuer) crlFields(crl CRL) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1Int64(1) // version 2
	b.AddBytes(i.scheme.algorithm)
	b.AddBytes(i.subject)
	addTime(&b, crl.ThisUpdate)
	addTime(&b, crl.NextUpdate)
	return b.Bytes()
}

// tbsHead returns everything before the entries. Without any, revokedCertificates
// is absent, never an empty SEQUENCE (rule C1).
func tbsHead(fields []byte, entries int64, extensions int) []byte {
	var list []byte
	if entries > 0 {
		list = appendHeader(nil, 0x30, entries)
	}
	head := appendHeader(nil, 0x30, int64(len(fields)+len(list)+extensions)+entries)
	return append(append(head, fields...), list...)
}

// appendHeader appends a tag and a length in DER.
func appendHeader(b []byte, tag byte, length int64) []byte {
	b = append(b, tag)
	if length < 0x80 {
		return append(b, byte(length))
	}
	octets := 1
	for length>>(8*octets) > 0 {
		octets++
	}
	b = append(b, 0x80|byte(octets))
	for octets--; octets >= 0; octets-- {
		b = append(b, byte(length>>(8*octets)))
	}
	return b
}

func (c *crlBody) writeEntries(ctx context.Context, delta bool, entries Entries) error {
	var last serial
	at := c.gap
	buffer := make([]byte, 0, crlBuffer+128)
	flush := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := c.to.WriteAt(buffer, at); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		at, buffer = at+int64(len(buffer)), buffer[:0]
		return nil
	}
	err := entries(func(e Revoked) error {
		n, err := e.serial(delta)
		if err != nil {
			return err
		}
		if c.count > 0 && !last.before(n) {
			return fmt.Errorf("serial %s is listed twice, or after a higher one", e.Serial)
		}
		last = n
		buffer = e.append(buffer, n)
		if c.count++; c.count == sampleSize {
			c.first = bytes.Clone(buffer)
		}
		if len(buffer) >= crlBuffer {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.first == nil {
		c.first = bytes.Clone(buffer)
	}
	err = flush()
	c.length = at - c.gap
	return err
}

// sample is a TBSCertList with the first entries, for the linter.
func (c *crlBody) sample() []byte {
	head := tbsHead(c.fields, int64(len(c.first)), len(c.extensions))
	return append(append(head, c.first...), c.extensions...)
}

func (c *crlBody) size() int64 { return int64(len(c.head)) + c.length + int64(len(c.extensions)) }

// tbs reads the TBSCertList.
func (c *crlBody) tbs() *io.SectionReader {
	return io.NewSectionReader(c.to, c.gap-int64(len(c.head)), c.size())
}

// input returns what goes to the key: a digest, or, for Ed25519, the message
// itself, which is in the file and mapped. free lets go of it.
func (c *crlBody) input(s scheme) (input []byte, free func(), err error) {
	if s.hash == 0 {
		start := c.gap - int64(len(c.head))
		all, free, err := c.to.whole(start + c.size())
		if err != nil {
			return nil, nil, err
		}
		return all[start:], free, nil
	}
	h := s.hash.New()
	if _, err := io.CopyBuffer(h, onlyReader{c.tbs()}, make([]byte, crlBuffer)); err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	return h.Sum(nil), func() {}, nil
}

// onlyReader hides the other methods of a reader, so that copying from it uses
// the buffer that it is given.
type onlyReader struct{ io.Reader }

// SignedCRL is a signed list. Close removes what it is kept in.
type SignedCRL struct {
	Size, Entries int64
	SHA256        [sha256.Size]byte
	head, tail    []byte
	body          *crlBody
}

// assemble puts the signature behind the TBSCertList.
func (c *crlBody) assemble(algorithm, sig []byte) (*SignedCRL, error) {
	var b cryptobyte.Builder
	b.AddBytes(algorithm)
	b.AddASN1BitString(sig)
	tail, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	s := &SignedCRL{head: appendHeader(nil, 0x30, c.size()+int64(len(tail))), tail: tail, body: c, Entries: c.count}
	s.Size = int64(len(s.head)+len(tail)) + c.size()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{s.Reader()}, make([]byte, crlBuffer)); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	h.Sum(s.SHA256[:0])
	return s, nil
}

// Reader returns a reader of the whole list, from its beginning.
func (s *SignedCRL) Reader() io.Reader {
	return io.MultiReader(bytes.NewReader(s.head), s.body.tbs(), bytes.NewReader(s.tail))
}

// Close removes the list.
func (s *SignedCRL) Close() error { return s.body.to.Close() }

// serial is a serial number in octets, right-aligned, and how many there are.
type serial struct {
	octets [20]byte
	length int
}

func (s serial) before(o serial) bool { return bytes.Compare(s.octets[:], o.octets[:]) < 0 }

// serial reads the hexadecimal serial, and refuses what no list may say.
// removeFromCRL belongs in a delta list only (rule C2).
func (e Revoked) serial(delta bool) (serial, error) {
	if !e.Reason.Valid() || e.Reason == pki.RemoveFromCRL && !delta {
		return serial{}, fmt.Errorf("serial %s: %s does not belong in a full list", e.Serial, e.Reason)
	}
	var s serial
	digits := string(e.Serial)
	for len(digits) > 0 && digits[0] == '0' {
		digits = digits[1:]
	}
	if digits == "" || len(digits) > 40 {
		return serial{}, fmt.Errorf("serial %q is not a number of 1 to 20 octets", string(e.Serial))
	}
	s.length = (len(digits) + 1) / 2
	at, wrong := len(s.octets)-s.length, byte(0)
	if len(digits)%2 == 1 {
		wrong = hexValue[digits[0]]
		s.octets[at] = wrong
		at, digits = at+1, digits[1:]
	}
	for n := 0; n+1 < len(digits); n += 2 {
		high, low := hexValue[digits[n]], hexValue[digits[n+1]]
		wrong |= high | low
		s.octets[at] = high<<4 | low
		at++
	}
	if wrong == notHex {
		return serial{}, fmt.Errorf("serial %q is not hexadecimal", string(e.Serial))
	}
	return s, nil
}

const notHex = 0xff

// hexValue is what a lower-case hexadecimal digit is worth: a table, because a
// list has tens of millions of them.
var hexValue = func() (t [256]byte) {
	for c := range t {
		t[c] = notHex
	}
	for n, c := range "0123456789abcdef" {
		t[c] = byte(n)
	}
	return t
}()

// append writes one element of revokedCertificates (RFC 5280, section 5.3) by
// hand, because there may be millions: nothing in it is longer than 127 octets,
// and none of its extensions is critical.
func (e Revoked) append(b []byte, n serial) []byte {
	start := len(b)
	b = append(b, 0x30, 0)
	number := n.octets[len(n.octets)-n.length:]
	if number[0] >= 0x80 {
		b = append(b, 0x02, byte(n.length+1), 0)
	} else {
		b = append(b, 0x02, byte(n.length))
	}
	b = append(b, number...)
	b = appendTime(b, e.At)
	if e.Reason != pki.Unspecified || e.InvalidityAt != nil {
		extensions := len(b)
		b = append(b, 0x30, 0)
		if e.Reason != pki.Unspecified {
			// Extension { 2.5.29.21, OCTET STRING { ENUMERATED } }
			b = append(b, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01, byte(e.Reason))
		}
		if e.InvalidityAt != nil {
			// Extension { 2.5.29.24, OCTET STRING { GeneralizedTime } }
			b = append(b, 0x30, 0x18, 0x06, 0x03, 0x55, 0x1d, 0x18, 0x04, 0x11)
			b = appendGeneralized(b, *e.InvalidityAt)
		}
		b[extensions+1] = byte(len(b) - extensions - 2)
	}
	b[start+1] = byte(len(b) - start - 2)
	return b
}

// appendTime is addTime by hand.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	y, month, day := t.Date()
	if y >= 2050 {
		return appendGeneralized(b, t)
	}
	return appendClock(append(b, 0x17, 13, digit(y/10), digit(y)), month, day, t)
}

func appendGeneralized(b []byte, t time.Time) []byte {
	t = t.UTC()
	y, month, day := t.Date()
	return appendClock(append(b, 0x18, 15, digit(y/1000), digit(y/100), digit(y/10), digit(y)), month, day, t)
}

func appendClock(b []byte, month time.Month, day int, t time.Time) []byte {
	hour, minute, second := t.Clock()
	return append(b, digit(int(month)/10), digit(int(month)), digit(day/10), digit(day), digit(hour/10), digit(hour),
		digit(minute/10), digit(minute), digit(second/10), digit(second), 'Z')
}

func digit(v int) byte { return '0' + byte(v%10) }
