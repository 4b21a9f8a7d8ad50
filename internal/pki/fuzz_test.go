package pki

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParseSAN(f *testing.F) {
	for _, ids := range [][]Identifier{
		{{DNS, "*.example.com"}, {IP, "10.0.0.1"}, {IP, "2001:db8::1"}},
		{{Email, "a@example.com"}, {URI, "urn:a:b"}, {UPN, "a@b"}},
		{{PermanentID, "1.2.3/x"}, {HardwareID, "1.2.3/00"}, {DirName, "CN=x,O=y"}},
	} {
		der, err := MarshalSAN(ids)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		names, err := ParseSAN(der)
		if err != nil {
			return
		}
		again, err := MarshalSAN(names)
		if err != nil {
			t.Fatalf("%v cannot be written: %v", names, err)
		}
		if back, err := ParseSAN(again); err != nil || !reflect.DeepEqual(back, names) {
			t.Fatalf("%v comes back as %v, %v", names, back, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"", "CN=x,O=y", "CN=a\\,b+serialNumber=1,C=CH", "DC=a,DC=b", "1.2.3=x"} {
		n, err := ParseName(s)
		if err != nil {
			f.Fatal(err)
		}
		der, err := n.DER()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der, s)
	}
	f.Fuzz(func(t *testing.T, der []byte, text string) {
		if n, err := ParseNameDER(der); err == nil && n.Check() == nil {
			again, err := n.DER()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := ParseNameDER(again); err != nil || !back.EqualRFC5280(n) {
				t.Fatalf("%q comes back as %q, %v", n.String(), back.String(), err)
			}
			if back, err := ParseName(n.String()); err != nil || !back.EqualRFC5280(n) {
				t.Fatalf("%q reads as %q, %v", n.String(), back.String(), err)
			}
		}
		n, err := ParseName(text)
		if err != nil {
			return
		}
		if back, err := ParseName(n.String()); err != nil || back.String() != n.String() || !utf8.ValidString(n.String()) {
			t.Fatalf("%q reads as %q, %v", n.String(), back.String(), err)
		}
	})
}

func FuzzCheckDNSName(f *testing.F) {
	f.Add("*.xn--bcher-kva.example")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := CheckDNSName(s, anyDNS)
		if err != nil {
			return
		}
		if again, err := CheckDNSName(c, anyDNS); err != nil || again != c || c != strings.ToLower(s) {
			t.Fatalf("%q is %q, then %q, %v", s, c, again, err)
		}
	})
}
