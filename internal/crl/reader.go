package crl

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// Bounds of what a reader takes into memory at once.
const (
	maxField  = 64 << 10 // a name, an entry, the extensions
	maxNumber = 20       // octets of a serial or of a list's number
)

// reader walks a list that may be too long for memory: what stands before the
// entries first, then the entries, then the extensions. It checks the form, not
// the signature.
type reader struct {
	in   *bufio.Reader
	left int64 // octets of the TBSCertList that are not read yet
	list int64 // octets of revokedCertificates that are not read yet
	body []byte

	issuer                 []byte
	thisUpdate, nextUpdate time.Time
	last                   entry // the entry that was read last
	entries                int64
	sorted                 bool // so far, the serials rise

	// What end reads.
	number *big.Int
	base   *big.Int // of a delta list
	point  string   // URI of the issuing distribution point
}

// entry is one element of revokedCertificates. serial is only good until the next
// one is read.
type entry struct {
	serial []byte // big-endian, without leading zeros
	der    []byte
}

var errForm = errors.New("not a DER list of RFC 5280, section 5.1")

// newReader reads up to the first entry.
func newReader(r io.Reader) (*reader, error) {
	l := &reader{in: bufio.NewReaderSize(r, 256<<10), sorted: true, body: make([]byte, 0, 256)}
	if _, err := l.header(cbasn1.SEQUENCE, -1); err != nil { // CertificateList
		return nil, err
	}
	var err error
	if l.left, err = l.header(cbasn1.SEQUENCE, -1); err != nil { // TBSCertList
		return nil, err
	}
	return l, l.fields()
}

func (l *reader) fields() error {
	version, err := l.element(cbasn1.INTEGER)
	if err != nil || !bytes.Equal(version, []byte{2, 1, 1}) {
		return errors.Join(fmt.Errorf("%w: not of version 2", errForm), err)
	}
	if _, err := l.element(cbasn1.SEQUENCE); err != nil { // signature
		return err
	}
	name, err := l.element(cbasn1.SEQUENCE)
	if err != nil {
		return err
	}
	l.issuer = bytes.Clone(name)
	if l.thisUpdate, err = l.time(); err != nil {
		return err
	}
	if l.nextUpdate, err = l.time(); err != nil {
		return fmt.Errorf("%w: nextUpdate", err)
	}
	if tag, err := l.peek(); err != nil || tag != cbasn1.SEQUENCE {
		return err
	}
	l.list, err = l.header(cbasn1.SEQUENCE, l.left)
	return err
}

// next reads the next entry, or returns false after the last one.
func (l *reader) next() (bool, error) {
	if l.list <= 0 {
		return false, nil
	}
	before := l.left
	der, err := l.element(cbasn1.SEQUENCE)
	if err != nil {
		return false, err
	}
	if l.list -= before - l.left; l.list < 0 {
		return false, fmt.Errorf("%w: an entry is longer than the list of entries", errForm)
	}
	s := cryptobyte.String(der)
	var content, serial cryptobyte.String
	if !s.ReadASN1(&content, cbasn1.SEQUENCE) || !content.ReadASN1(&serial, cbasn1.INTEGER) || len(serial) == 0 ||
		serial[0] >= 0x80 {
		return false, fmt.Errorf("%w: entry %d", errForm, l.entries+1)
	}
	octets := bytes.TrimLeft(serial, "\x00")
	if len(octets) > maxNumber {
		return false, fmt.Errorf("%w: a serial of %d octets", errForm, len(octets))
	}
	if l.entries > 0 && compare(l.last.serial, octets) >= 0 {
		l.sorted = false
	}
	l.last.serial = append(l.last.serial[:0], octets...)
	l.last.der = der
	l.entries++
	return true, nil
}

// end reads what stands behind the entries, of which none may be left.
func (l *reader) end() error {
	if l.left == 0 {
		return fmt.Errorf("%w: no extensions", errForm)
	}
	der, err := l.element(cbasn1.Tag(0).ContextSpecific().Constructed())
	if err != nil {
		return err
	}
	if l.left != 0 {
		return fmt.Errorf("%w: more behind the extensions", errForm)
	}
	s := cryptobyte.String(der)
	var outer, all cryptobyte.String
	if !s.ReadASN1(&outer, cbasn1.Tag(0).ContextSpecific().Constructed()) || !outer.ReadASN1(&all, cbasn1.SEQUENCE) ||
		!outer.Empty() {
		return fmt.Errorf("%w: extensions", errForm)
	}
	for !all.Empty() {
		if !l.extension(&all) {
			return fmt.Errorf("%w: an extension", errForm)
		}
	}
	if l.number == nil {
		return fmt.Errorf("%w: no CRL number", errForm)
	}
	return nil
}

func (l *reader) extension(all *cryptobyte.String) bool {
	var ext, oid, value cryptobyte.String
	if !all.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		!ext.SkipOptionalASN1(cbasn1.BOOLEAN) || !ext.ReadASN1(&value, cbasn1.OCTET_STRING) {
		return false
	}
	n := new(big.Int)
	switch string(oid) {
	case "\x55\x1d\x14": // cRLNumber
		l.number = n
		return value.ReadASN1Integer(n)
	case "\x55\x1d\x1b": // deltaCRLIndicator
		l.base = n
		return value.ReadASN1Integer(n)
	case "\x55\x1d\x1c": // issuingDistributionPoint
		var idp, point, full, uri cryptobyte.String
		tag := cbasn1.Tag(0).ContextSpecific().Constructed()
		if !value.ReadASN1(&idp, cbasn1.SEQUENCE) {
			return false
		}
		if idp.ReadASN1(&point, tag) && point.ReadASN1(&full, tag) &&
			full.ReadASN1(&uri, cbasn1.Tag(6).ContextSpecific()) {
			l.point = string(uri)
		}
	}
	return true
}

// walk reads the rest of the list.
func (l *reader) walk() error {
	for {
		if more, err := l.next(); err != nil {
			return err
		} else if !more {
			return l.end()
		}
	}
}

func (l *reader) peek() (cbasn1.Tag, error) {
	if l.left == 0 {
		return 0, nil
	}
	b, err := l.in.Peek(1)
	if err != nil {
		return 0, short(err)
	}
	return cbasn1.Tag(b[0]), nil
}

// header reads a tag and a length of at most limit octets; -1 is no limit.
func (l *reader) header(want cbasn1.Tag, limit int64) (int64, error) {
	tag, err := l.in.ReadByte()
	if err != nil {
		return 0, short(err)
	}
	if cbasn1.Tag(tag) != want {
		return 0, fmt.Errorf("%w: tag %02x where %02x belongs", errForm, tag, uint8(want))
	}
	l.body = append(l.body[:0], tag)
	first, err := l.in.ReadByte()
	if err != nil {
		return 0, short(err)
	}
	l.body = append(l.body, first)
	length := int64(first)
	if first >= 0x80 {
		if length, err = l.longLength(int(first & 0x7f)); err != nil {
			return 0, err
		}
	}
	l.left -= int64(len(l.body))
	if limit >= 0 && length > limit-int64(len(l.body)) {
		return 0, fmt.Errorf("%w: an element is longer than what it is in", errForm)
	}
	return length, nil
}

func (l *reader) longLength(octets int) (int64, error) {
	if octets < 1 || octets > 6 {
		return 0, fmt.Errorf("%w: a length of %d octets", errForm, octets)
	}
	var length int64
	for range octets {
		b, err := l.in.ReadByte()
		if err != nil {
			return 0, short(err)
		}
		l.body = append(l.body, b)
		length = length<<8 | int64(b)
	}
	if length < 0x80 || length>>(8*(octets-1)) == 0 {
		return 0, fmt.Errorf("%w: a length that is not the shortest", errForm)
	}
	return length, nil
}

// element reads one element as a whole. The octets are good until the next read.
func (l *reader) element(want cbasn1.Tag) ([]byte, error) {
	length, err := l.header(want, l.left)
	if err != nil {
		return nil, err
	}
	if length > maxField {
		return nil, fmt.Errorf("%w: an element of %d octets", errForm, length)
	}
	start := len(l.body)
	l.body = slices.Grow(l.body, int(length))[:start+int(length)]
	if _, err := io.ReadFull(l.in, l.body[start:]); err != nil {
		return nil, short(err)
	}
	l.left -= length
	return l.body, nil
}

func (l *reader) time() (time.Time, error) {
	tag, err := l.peek()
	if err != nil {
		return time.Time{}, err
	}
	der, err := l.element(tag)
	if err != nil {
		return time.Time{}, err
	}
	s := cryptobyte.String(der)
	return readTime(&s)
}

func readTime(s *cryptobyte.String) (time.Time, error) {
	var t time.Time
	if s.PeekASN1Tag(cbasn1.UTCTime) && s.ReadASN1UTCTime(&t) || s.PeekASN1Tag(cbasn1.GeneralizedTime) &&
		s.ReadASN1GeneralizedTime(&t) {
		return t, nil
	}
	return t, fmt.Errorf("%w: a time", errForm)
}

// short says that a list ends too early.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", errForm)
	}
	return err
}

// compare orders serials as numbers; they have no leading zeros.
func compare(a, b []byte) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}

func (e entry) id() pki.Serial { return pki.Serial(hex.EncodeToString(e.serial)) }

// revoked decodes an entry.
func (e entry) revoked() (issuer.Revoked, error) {
	r := issuer.Revoked{Serial: e.id()}
	s := cryptobyte.String(e.der)
	var content, extensions cryptobyte.String
	if !s.ReadASN1(&content, cbasn1.SEQUENCE) || !content.SkipASN1(cbasn1.INTEGER) {
		return r, errForm
	}
	var err error
	if r.At, err = readTime(&content); err != nil {
		return r, err
	}
	if content.Empty() {
		return r, nil
	}
	if !content.ReadASN1(&extensions, cbasn1.SEQUENCE) {
		return r, errForm
	}
	for !extensions.Empty() {
		var ext, oid, value cryptobyte.String
		if !extensions.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
			!ext.SkipOptionalASN1(cbasn1.BOOLEAN) || !ext.ReadASN1(&value, cbasn1.OCTET_STRING) {
			return r, errForm
		}
		switch string(oid) {
		case "\x55\x1d\x15": // reasonCode
			var code int
			if !value.ReadASN1Enum(&code) {
				return r, errForm
			}
			r.Reason = pki.Reason(code)
		case "\x55\x1d\x18": // invalidityDate
			at, err := readTime(&value)
			if err != nil {
				return r, err
			}
			r.InvalidityAt = &at
		}
	}
	return r, nil
}
