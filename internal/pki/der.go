package pki

import (
	"encoding/asn1"
	"errors"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Tags that cryptobyte has no name for.
const (
	tagNumericString = cbasn1.Tag(18)
	tagVisibleString = cbasn1.Tag(26)
	tagBMPString     = cbasn1.Tag(30)
)

// readText reads one string of the kinds that DirectoryString and its cousins
// know, as UTF-8. T61String is taken only while it is ASCII: beyond that nobody
// agrees on what it says.
func readText(s *cryptobyte.String) (string, error) {
	var body cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadAnyASN1(&body, &tag) {
		return "", errors.New("not a string")
	}
	switch tag {
	case cbasn1.UTF8String:
		if !utf8.Valid(body) {
			return "", errors.New("a UTF8String that is not UTF-8")
		}
	case cbasn1.PrintableString:
		for _, c := range body {
			// "*" and "&" and "@" are not in the alphabet but common in old names.
			if !printable(c) && c != '*' && c != '&' && c != '@' && c != '_' {
				return "", errors.New("a PrintableString with other characters in it")
			}
		}
	case cbasn1.IA5String, cbasn1.T61String, tagNumericString, tagVisibleString:
		for _, c := range body {
			if c >= 0x80 {
				return "", errors.New("a character string with octets beyond ASCII")
			}
		}
	case tagBMPString:
		return readBMP(body)
	default:
		return "", errors.New("a value that is not a character string")
	}
	return string(body), nil
}

// readSecret reads a string as readText does, but for what it may hold: a secret is
// compared as octets, and shown to nobody. A BMPString is UTF-8 where it can be.
func readSecret(s *cryptobyte.String) (string, error) {
	var body cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadAnyASN1(&body, &tag) {
		return "", errors.New("not a string")
	}
	switch tag {
	case tagBMPString:
		if text, err := readBMP(body); err == nil {
			return text, nil
		}
	case cbasn1.UTF8String, cbasn1.PrintableString, cbasn1.IA5String, cbasn1.T61String,
		tagNumericString, tagVisibleString:
	default:
		return "", errors.New("a value that is not a character string")
	}
	return string(body), nil
}

func readBMP(body []byte) (string, error) {
	if len(body)%2 != 0 {
		return "", errors.New("a BMPString of odd length")
	}
	units := make([]uint16, len(body)/2)
	for i := range units {
		units[i] = uint16(body[2*i])<<8 | uint16(body[2*i+1])
		if utf16.IsSurrogate(rune(units[i])) {
			return "", errors.New("a BMPString with surrogates")
		}
	}
	return string(utf16.Decode(units)), nil
}

// printable reports whether c is in the PrintableString alphabet.
func printable(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case ' ', '\'', '(', ')', '+', ',', '-', '.', '/', ':', '=', '?':
		return true
	}
	return false
}

func allPrintable(s string) bool {
	for i := range len(s) {
		if !printable(s[i]) {
			return false
		}
	}
	return true
}

func allASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// addText adds a string under the given tag.
func addText(b *cryptobyte.Builder, tag cbasn1.Tag, s string) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

// readOID reads an object identifier.
func readOID(s *cryptobyte.String) (asn1.ObjectIdentifier, bool) {
	var oid asn1.ObjectIdentifier
	ok := s.ReadASN1ObjectIdentifier(&oid)
	return oid, ok
}
