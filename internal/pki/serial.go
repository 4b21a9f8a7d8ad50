package pki

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// Serial is a certificate's serial number as lower-case hexadecimal digits of
// its big-endian octets, without a leading zero octet: the form that the store,
// URLs and the command line carry. It is comparable; the empty Serial is none.
type Serial string

// NewSerial returns a random positive serial of 159 bits: 20 octets with the
// top bit clear and the next one set, so that the length never varies (RFC 5280,
// section 4.1.2.2; rule X1).
func NewSerial() Serial {
	var b [20]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails; it ends the process instead
	b[0] = b[0]&0x7f | 0x40
	return Serial(hex.EncodeToString(b[:]))
}

// SerialFromBig returns the Serial of a parsed certificate's number.
func SerialFromBig(n *big.Int) Serial {
	return Serial(hex.EncodeToString(n.Bytes()))
}

// ParseSerial reads a serial as a person types it: hexadecimal of either case,
// with or without 0x and colons.
func ParseSerial(s string) (Serial, error) {
	digits := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(strings.TrimSpace(s)))
	digits = strings.TrimPrefix(digits, "0x")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) == 0 {
		return "", fmt.Errorf("serial %q: want hexadecimal digits", s)
	}
	n := new(big.Int).SetBytes(b)
	if n.Sign() == 0 || n.BitLen() > 159 {
		return "", fmt.Errorf("serial %q: want a positive number of at most 159 bits", s)
	}
	return SerialFromBig(n), nil
}

// Big returns the serial as a number.
func (s Serial) Big() *big.Int {
	b, err := hex.DecodeString(string(s))
	if err != nil {
		return new(big.Int)
	}
	return new(big.Int).SetBytes(b)
}
