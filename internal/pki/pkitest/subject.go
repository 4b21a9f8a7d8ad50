package pkitest

import (
	"bytes"
	"encoding/asn1"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Unwritable returns names in DER as requests have them and no certificate of ours:
// each is a common name and something that Name.Check refuses, or that is no text.
func Unwritable(t testing.TB, commonName string) map[string][]byte {
	t.Helper()
	org, country := asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{2, 5, 4, 6}
	cn := pair(asn1.ObjectIdentifier{2, 5, 4, 3}, cbasn1.UTF8String, []byte(commonName))
	all := map[string][]byte{}
	for name, a := range map[string][]byte{
		"country in small letters": pair(country, cbasn1.PrintableString, []byte("us")),
		"country's name":           pair(country, cbasn1.PrintableString, []byte("Switzerland")),
		"space at the end":         pair(org, cbasn1.UTF8String, []byte("Corp ")),
		"empty":                    pair(org, cbasn1.UTF8String, nil),
		"empty common name":        pair(asn1.ObjectIdentifier{2, 5, 4, 3}, cbasn1.UTF8String, nil),
		"too long":                 pair(org, cbasn1.UTF8String, bytes.Repeat([]byte("x"), 300)),
		"control character":        pair(org, cbasn1.UTF8String, []byte("a\x00b\n")),
		"right-to-left override":   pair(org, cbasn1.UTF8String, []byte("a\u202eb")),
		"not in form C":            pair(org, cbasn1.UTF8String, []byte("e\u0301")),
		"Latin-1 in a T61String":   pair(org, cbasn1.T61String, []byte("M\xfcller")),
		"Latin-1 as UTF-8":         pair(org, cbasn1.UTF8String, []byte("M\xfcller")),
		"a sign not printable":     pair(org, cbasn1.PrintableString, []byte("#1!")),
		"UniversalString":          pair(org, cbasn1.Tag(28), []byte("\x00\x00\x00a")),
		"BMPString of odd length":  pair(org, cbasn1.Tag(30), []byte("\x00ab")),
		"a number":                 pair(org, cbasn1.INTEGER, []byte{5}),
	} {
		all[name] = rdns(set(a), set(cn))
	}
	o := pair(org, cbasn1.UTF8String, []byte("Corp"))
	all["twice in one relative name"] = rdns(set(o, o), set(cn))
	all["relative name without attributes"] = rdns(set(), set(cn))
	all["unknown attribute"] = rdns(set(pair(asn1.ObjectIdentifier{1, 2, 3}, cbasn1.NULL, nil)), set(cn))
	return all
}

// LongName is a DNS name that no common name can hold.
func LongName(domain string) string { return strings.Repeat("a", 60) + "." + domain }

func pair(oid asn1.ObjectIdentifier, tag cbasn1.Tag, value []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	})
	return b.BytesOrPanic()
}

func set(attributes ...[]byte) []byte { return collect(cbasn1.SET, attributes...) }

func rdns(sets ...[]byte) []byte { return collect(cbasn1.SEQUENCE, sets...) }

func collect(tag cbasn1.Tag, members ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(members, nil)) })
	return b.BytesOrPanic()
}
