package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
)

// attributeOf returns an attribute with one value, a whole element.
func attributeOf(id asn1.ObjectIdentifier, value []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	})
	return b.BytesOrPanic()
}

// requestFor returns the value of an extension request for a DNS name and a key
// usage.
func requestFor(t testing.TB, name string) []byte {
	t.Helper()
	san, err := MarshalSAN([]Identifier{{DNS, name}})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal([]pkix.Extension{{Id: OIDSubjectAltName, Value: san}, {Id: []int{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 5, 0xa0}}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestFR10_MicrosoftExtensions are read like those of PKCS#9; where both are there,
// they are the same.
func TestFR10_MicrosoftExtensions(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	here, other := requestFor(t, "a.example.com"), requestFor(t, "b.example.com")
	pkcs9 := attributeOf(oidExtensionRequest, here)
	microsoft := attributeOf(oidMicrosoftExtension, here)
	want, err := ParseCSR(t.Context(), signInfo(t, key, 0, pkcs9))
	if err != nil || len(want.Names) != 1 || len(want.Extensions) != 1 {
		t.Fatalf("%v %+v", err, want)
	}
	for name, attributes := range map[string][][]byte{
		"alone": {microsoft}, "first": {microsoft, pkcs9}, "second": {pkcs9, microsoft},
	} {
		got, err := ParseCSR(t.Context(), signInfo(t, key, 0, attributes...))
		if err != nil || !reflect.DeepEqual(got.Names, want.Names) || !reflect.DeepEqual(got.Extensions, want.Extensions) {
			t.Errorf("%s: %v %+v", name, err, got)
		}
	}
	for name, attributes := range map[string][][]byte{
		"differ":       {attributeOf(oidMicrosoftExtension, other), pkcs9},
		"one is empty": {pkcs9, attributeOf(oidMicrosoftExtension, nil)},
		"twice":        {microsoft, microsoft},
		"no list":      {attributeOf(oidMicrosoftExtension, []byte{0x0c, 1, 'x'})},
		"empty":        {attributeOf(oidMicrosoftExtension, nil)},
		"empty, first": {attributeOf(oidMicrosoftExtension, nil), pkcs9},
	} {
		_, err := ParseCSR(t.Context(), signInfo(t, key, 0, attributes...))
		if !fault.Is(err, fault.BadCSR) || name == "differ" && !strings.Contains(err.Error(), "differ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFR5_ChallengeIsOctets, whatever string type says of its characters.
func TestFR5_ChallengeIsOctets(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for _, c := range []struct {
		tag    cbasn1.Tag
		octets string
		want   string
	}{
		{cbasn1.PrintableString, "a#b@c_d!$%{}", "a#b@c_d!$%{}"},
		{cbasn1.PrintableString, "gr\u00fcn", "gr\u00fcn"},
		{cbasn1.IA5String, "\xfc#", "\xfc#"},
		{cbasn1.T61String, "\xfc#", "\xfc#"},
		{cbasn1.UTF8String, "\xfc#", "\xfc#"},
		{tagNumericString, "12#", "12#"},
		{tagVisibleString, "\x80", "\x80"},
		{tagBMPString, "\x00a\x00#", "a#"},
		{tagBMPString, "\x00a#", "\x00a#"},
	} {
		var value cryptobyte.Builder
		addText(&value, c.tag, c.octets)
		got, err := ParseCSR(t.Context(), signInfo(t, key, 0, attributeOf(oidChallengePassword, value.BytesOrPanic())))
		if err != nil || got.ChallengePassword != c.want {
			t.Errorf("tag %d, %q: %v, want %q", c.tag, c.octets, err, c.want)
		}
	}
}
