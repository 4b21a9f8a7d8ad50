package pki

import (
	"bytes"
	"encoding/asn1"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/privyseal/privyseal/internal/fault"
)

func TestA34_CheckDNSName(t *testing.T) {
	t.Parallel()
	all := DNSRules{Wildcard: true, SingleLabel: true, Underscore: true}
	for in, want := range map[string]string{
		"a.example.com": "a.example.com", "A.Example.COM": "a.example.com", "*.example.com": "*.example.com",
		"printer": "printer", "*.internal": "*.internal", "_x.example.com": "_x.example.com", "1.example": "1.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "a-b.example": "a-b.example", "3com.com": "3com.com",
		strings.Repeat("a", 63) + ".example": strings.Repeat("a", 63) + ".example",
	} {
		if got, err := CheckDNSName(in, all); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", ".", "a.", ".a", "a..b", "-a.b", "a-.b", "a b.c", "a\x00.b", "bücher.example", "xn--.example",
		"xn--a.example", "xn--abc-.example", "ab--cd.example", "10.0.0.1", "::1", "2001:db8::1", "1.2.3", "a.123", "0x7f.1",
		"*", "*.", "a.*.b", "*a.b", "a*.b", "**.b", "*.*.b", "a/b", "a:443", "xn--bcher-kva-.example",
		strings.Repeat("a", 64) + ".b", strings.Repeat("abcdefg.", 32) + "b",
	} {
		if got, err := CheckDNSName(in, all); !fault.Is(err, fault.Malformed) {
			t.Errorf("%q: %q, %v, want malformed", in, got, err)
		}
	}
	for in, rules := range map[string]DNSRules{
		"*.example.com":    {SingleLabel: true, Underscore: true},
		"printer":          {Wildcard: true, Underscore: true},
		"*.internal":       {Wildcard: true, Underscore: true},
		"a_b.example.com":  {Wildcard: true, SingleLabel: true},
		"_dmarc.localhost": {},
	} {
		if _, err := CheckDNSName(in, rules); !fault.Is(err, fault.RejectedIdentifier) || fault.Of(err).Identifier.Value != in {
			t.Errorf("%q: %v, want rejectedIdentifier", in, err)
		}
	}
}

func TestA58_CanonicalIP(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "2001:DB8:0:0::1": "2001:db8::1", "::": "::", "2001:0db8:0000:0000:0001::": "2001:db8:0:0:1::",
	} {
		if got, err := CanonicalIP(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "10.0.0", "010.0.0.1", "1.2.3.4.5", "::ffff:10.0.0.1", "fe80::1%eth0", "[::1]", "10.0.0.0/8", "example.com", "1"} {
		if got, err := CanonicalIP(in); !fault.Is(err, fault.Malformed) {
			t.Errorf("%q: %q, %v, want malformed", in, got, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		typ      IdentifierType
		in, want string // want "" is an error
	}{
		{Email, "Ann@Example.COM", "Ann@example.com"},
		{Email, "a+b@example", "a+b@example"},
		{Email, "@example.com", ""},
		{Email, "a@b@c", ""},
		{Email, `"a b"@example.com`, ""},
		{Email, ".a@example.com", ""},
		{Email, "a..b@example.com", ""},
		{Email, "a@[10.0.0.1]", ""},
		{Email, "a@*.example.com", ""},
		{Email, strings.Repeat("a", 65) + "@example.com", ""},
		{Email, "a\n@example.com", ""},
		{URI, "SPIFFE://Example.org/A", "spiffe://example.org/A"},
		{URI, "urn:dev:mac:0024befffe804ff1", "urn:dev:mac:0024befffe804ff1"},
		{URI, "HTTPS://A.example?B=C#D", "https://a.example?B=C#D"},
		{URI, "https://good.example@evil.example/", ""},
		{URI, "/relative", ""},
		{URI, "spiffe:", ""},
		{URI, "https://", ""},
		{URI, "https://a b/", ""},
		{URI, "https://a\u00e9/", ""},
		{URI, "https://a/%zz", ""},
		{URI, "https://a/" + strings.Repeat("x", 2048), ""},
		{UPN, "Ann@Corp.Example", "Ann@corp.example"},
		{UPN, "ann", ""},
		{UPN, "a@b@c", ""},
		{UPN, "ann\x00@corp", ""},
		{UPN, "\u202eann@corp", ""},
		{PermanentID, "4711", "4711"},
		{PermanentID, "1.3.6.1.4.1.99999/4711", "1.3.6.1.4.1.99999/4711"},
		{PermanentID, "a/b", "a/b"},
		{PermanentID, "", ""},
		{PermanentID, "1.2.3/", ""},
		{HardwareID, "1.3.6.1.4.1.99999/0A0b", "1.3.6.1.4.1.99999/0a0b"},
		{HardwareID, "1.3.6/", ""},
		{HardwareID, "x/00", ""},
		{HardwareID, "1.3.6/0", ""},
		{DirName, "cn=x, o=Example", "CN=x,O=Example"},
		{DirName, "", ""},
		{DirName, "x", ""},
		{"phone", "1", ""},
	} {
		got, err := (Identifier{tc.typ, tc.in}).Canonical()
		if (err == nil) != (tc.want != "") || err == nil && got != (Identifier{tc.typ, tc.want}) {
			t.Errorf("%s %q: %q, %v", tc.typ, tc.in, got.Value, err)
			continue
		}
		if err != nil {
			continue
		}
		der, err := MarshalSAN([]Identifier{got})
		if err != nil {
			t.Errorf("%s %q: %v", tc.typ, tc.in, err)
			continue
		}
		if back, err := ParseSAN(der); err != nil || !reflect.DeepEqual(back, []Identifier{got}) {
			t.Errorf("%s %q comes back as %v, %v", tc.typ, tc.in, back, err)
		}
	}
}

func TestX5_SANLimitsAndOrder(t *testing.T) {
	t.Parallel()
	names := []Identifier{{DNS, "B.example"}, {IP, "10.0.0.1"}, {DNS, "a.example"}, {DNS, "b.example"}}
	der, err := MarshalSAN(names)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("\x30\x1c\x82\x09b.example\x87\x04\x0a\x00\x00\x01\x82\x09a.example")
	if !bytes.Equal(der, want) {
		t.Errorf("SAN % x, want % x", der, want)
	}
	if _, err := MarshalSAN(nil); err == nil {
		t.Error("an empty SAN was written")
	}
	if _, err := MarshalSAN([]Identifier{{DNS, "a..b"}}); err == nil {
		t.Error("a bad name was written")
	}
	many := make([]Identifier, maxNames+1)
	if _, err := MarshalSAN(many); err == nil {
		t.Error("too many names were written")
	}
	one := "\x82\x01a"
	body := strings.Repeat(one, maxNames+1)
	over := append([]byte{0x30, 0x82, byte(len(body) >> 8), byte(len(body))}, body...)
	if _, err := ParseSAN(over); err == nil {
		t.Error("too many names were read")
	}
	if _, err := ParseSAN(append(der, 0)); err == nil {
		t.Error("trailing data was read")
	}
}

func TestX4_ParseName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                              "",
		"CN=x,O=y":                      "CN=x,O=y",
		" cn = x , o = y ":              "CN=x,O=y",
		"CN=x;O=y":                      "CN=x,O=y",
		`CN=a\,b\+c\"d\\e\=f`:           `CN=a\,b\+c\"d\\e\=f`,
		`CN=\#x`:                        `CN=\#x`,
		`CN=Z\c3\bcrich`:                "CN=Zürich",
		"CN=x+serialNumber=1,O=y":       "CN=x+serialNumber=1,O=y",
		"2.5.4.3=x":                     "CN=x",
		"1.2.3.4=x":                     "1.2.3.4=#0c0178",
		"1.2.3.4=#0c0178":               "1.2.3.4=#0c0178",
		"CN=#130178":                    "CN=x",
		"DC=example,DC=com":             "DC=example,DC=com",
		"E=a@example.com":               "emailAddress=a@example.com",
		"CN=x\\20y":                     "CN=x y",
		"CN=" + strings.Repeat("ü", 64): "CN=" + strings.Repeat("ü", 64),
	} {
		n, err := ParseName(in)
		if err != nil || n.String() != want {
			t.Errorf("%q: %q, %v, want %q", in, n.String(), err, want)
		}
	}
	for _, in := range []string{
		"x", "CN", "CN=", "CN=x,", ",CN=x", "CN=x,,O=y", "CN=x+", "XX=y", "CN=\"x\"", "CN=a<b", `CN=a\`, `CN=a\zb`, "CN=#zz",
		"CN=#0c01", "CN=#020101", "C=Switzerland", "C=ch", "C=1A", "serialNumber=a_b", "DC=ü", "emailAddress=ü@x", `CN=\20x`, `CN=x\20`,
		"CN=a\x00b", `CN=a\00b`, `CN=\ff`, "CN=" + strings.Repeat("a", 65), "CN=a+CN=b", "CN=e\u0301", "CN=a\u202eb",
		"1.2.3=" + strings.Repeat("a", 257), strings.Repeat("CN=x,", 2000) + "CN=x", "3.1=x", "1.40=x", "01.2=x",
	} {
		if n, err := ParseName(in); err == nil {
			t.Errorf("%q is %q", in, n.String())
		}
	}
}

func TestG1_29_StringTypes(t *testing.T) {
	t.Parallel()
	n, err := ParseName("CN=x,serialNumber=1,dnQualifier=2,emailAddress=a@b,DC=c,O=y,C=CH")
	if err != nil {
		t.Fatal(err)
	}
	der, err := n.DER()
	if err != nil {
		t.Fatal(err)
	}
	var rdns []([]struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	})
	type set []struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var seq []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &seq); err != nil {
		t.Fatal(err)
	}
	for _, raw := range seq {
		var s set
		if _, err := asn1.UnmarshalWithParams(raw.FullBytes, &s, "set"); err != nil {
			t.Fatal(err)
		}
		rdns = append(rdns, s)
	}
	want := []int{asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagIA5String, asn1.TagIA5String, asn1.TagPrintableString, asn1.TagPrintableString, asn1.TagUTF8String}
	for i, rdn := range rdns {
		if rdn[0].Value.Tag != want[i] {
			t.Errorf("%s has tag %d, want %d", AttributeName(rdn[0].Type), rdn[0].Value.Tag, want[i])
		}
	}
}

func TestParseNameDER(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ der, want string }{
		"BMP":         {"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x1e\x04\x00a\x00b", "CN=ab"},
		"T61":         {"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x14\x01a", "CN=a"},
		"not a set":   {"\x30\x0c\x30\x0a\x30\x08\x06\x03\x55\x04\x03\x14\x01a", ""},
		"empty set":   {"\x30\x02\x31\x00", ""},
		"integer":     {"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x02\x01a", ""},
		"no value":    {"\x30\x09\x31\x07\x30\x05\x06\x03\x55\x04\x03", ""},
		"odd BMP":     {"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x1e\x01a", ""},
		"surrogate":   {"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x1e\x02\xd8\x00", ""},
		"bad UTF-8":   {"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01\xff", ""},
		"T61 beyond":  {"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x14\x01\xe4", ""},
		"printable!":  {"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x13\x01!", ""},
		"trailing":    {"\x30\x00\x00", ""},
		"not a name":  {"\x31\x00", ""},
		"empty bytes": {"", ""},
	} {
		n, err := ParseNameDER([]byte(tc.der))
		if (err == nil) != (tc.want != "") || n.String() != tc.want {
			t.Errorf("%s: %q, %v", name, n.String(), err)
		}
	}
}

func TestEqualRFC5280(t *testing.T) {
	t.Parallel()
	parse := func(s string) Name {
		n, err := ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, tc := range []struct {
		a, b          string
		equal, within bool
	}{
		{"CN=Ann  Example,O=X", "CN=ann example,O=x", true, true},
		{"CN=STRASSE", "CN=straße", true, true},
		{"CN=x+serialNumber=1", "serialNumber=1+CN=X", true, true},
		{"CN=x,O=y", "O=y", false, true},
		{"O=y", "CN=x,O=y", false, false},
		{"CN=x,O=y", "O=y,CN=x", false, false},
		{"CN=x+serialNumber=1", "CN=x", false, false},
		{"CN=x", "", false, true},
		{"", "", true, true},
		{"CN=x", "O=x", false, false},
	} {
		if got := parse(tc.a).EqualRFC5280(parse(tc.b)); got != tc.equal {
			t.Errorf("%q equals %q: %v", tc.a, tc.b, got)
		}
		if got := parse(tc.a).Folded() == parse(tc.b).Folded(); got != tc.equal {
			t.Errorf("%q folds to the same as %q: %v", tc.a, tc.b, got)
		}
		a, b := Identifier{DirName, tc.a}, Identifier{DirName, tc.b}
		if got := a.Folded() == b.Folded(); got != tc.equal {
			t.Errorf("directory name %q folds to the same as %q: %v", tc.a, tc.b, got)
		}
		if got := parse(tc.a).Within(parse(tc.b)); got != tc.within {
			t.Errorf("%q within %q: %v", tc.a, tc.b, got)
		}
	}
}

// genValue draws texts that a name may hold, escapes included.
func genValue() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		r := rapid.OneOf(rapid.RuneFrom([]rune(`ab Z,+"\<>;=# #üß漢`)), rapid.RuneFrom(nil, unicode.Letter, unicode.Nd, unicode.P))
		s := rapid.StringOfN(r, 1, 40, -1).Filter(func(s string) bool { return badText(s) == "" && norm.NFC.IsNormalString(s) })
		return s.Draw(t, "value")
	})
}

func genNameValue() *rapid.Generator[Name] {
	oids := []asn1.ObjectIdentifier{OIDCommonName, OIDOrganization, {2, 5, 4, 11}, {2, 5, 4, 7}, {1, 2, 3, 4, 5}}
	return rapid.Custom(func(t *rapid.T) Name {
		var n Name
		for range rapid.IntRange(0, 5).Draw(t, "rdns") {
			var rdn RDN
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(oids)-1), 1, 3, rapid.ID).Draw(t, "types") {
				rdn = append(rdn, Attribute{OID: oids[i], Value: genValue().Draw(t, "value")})
			}
			n = append(n, rdn)
		}
		return n
	})
}

func TestX4_NameRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := genNameValue().Draw(t, "name")
		text, err := ParseName(n.String())
		if err != nil || text.String() != n.String() {
			t.Fatalf("%q comes back as %q, %v", n.String(), text.String(), err)
		}
		der, err := n.DER()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseNameDER(der)
		if err != nil || !back.EqualRFC5280(n) || len(back) != len(n) {
			t.Fatalf("%q is %q after DER, %v", n.String(), back.String(), err)
		}
		again, err := back.DER()
		if err != nil || !bytes.Equal(der, again) {
			t.Fatalf("%q: DER changes, %v", n.String(), err)
		}
	})
}
