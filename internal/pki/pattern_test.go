package pki

import (
	"slices"
	"strings"
	"testing"
)

// TestFS6_PatternsThatAreRefused: what would hold no name, or others than it looks
// like.
func TestFS6_PatternsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "*", "*.", "*.*.test", "A.test", ".a.test", "a.test.", "a..test", "a b", "10.0.0.1/8", "10.0.0.0/33",
		"dns:a.test",
		"::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0", "müller.test", "xn--a.test", "a.*.test",
		"a*.test", "10.1", "*.10",
		"a@", "@a.test", "a*@a.test", "a@*", "a@*.*.test", "*@@a.test", "upn:a", "upn:", "https://*.a.test/x",
		"https://*", "https://a.test/*/b",
		"https://a.test/?x/*", "urn:", "spiffe:a", "CN=", "=x", "CN", "CN=a,,O=b", "hardware-module:x", "dirname:",
		"cn:x", strings.Repeat("a", 2000),
	} {
		if p, err := ParseNamePattern(s); err == nil {
			t.Errorf("ParseNamePattern(%q) = %+v", s, p)
		}
	}
}

// TestFS6_Patterns: which names a pattern holds, by kind.
func TestFS6_Patterns(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]struct{ in, out []Identifier }{
		"a.test": {
			[]Identifier{{DNS, "a.test"}},
			[]Identifier{{DNS, "b.test"}, {DNS, "*.a.test"}, {DNS, "x.a.test"}, {DNS, "*.test"}, {Email, "a.test"},
				{URI, "a.test"}, {UPN, "a.test"}},
		},
		"*.a.test": {
			[]Identifier{{DNS, "x.a.test"}, {DNS, "y.x.a.test"}, {DNS, "*.a.test"}, {DNS, "*.x.a.test"}},
			[]Identifier{{DNS, "a.test"}, {DNS, "xa.test"}, {DNS, "*.test"}, {DNS, "x.a.test.evil.test"}, {Email,
				"x@x.a.test"}},
		},
		"10.0.0.0/8": {[]Identifier{{IP, "10.1.2.3"}}, []Identifier{{IP, "11.0.0.1"}, {IP, "::ffff:10.1.2.3"}, {IP,
			"::"}, {DNS, "10.1.2.3"}}},
		"0.0.0.0/0": {[]Identifier{{IP, "192.0.2.1"}}, []Identifier{{IP, "2001:db8::1"}}},
		"2001:db8::1": {
			[]Identifier{{IP, "2001:db8::1"}}, []Identifier{{IP, "2001:db8::2"}, {IP, "10.0.0.1"}},
		},
		"a@a.test": {[]Identifier{{Email, "a@a.test"}}, []Identifier{{Email, "A@a.test"}, {Email, "b@a.test"},
			{Email, "a@x.a.test"}, {UPN, "a@a.test"}}},
		"*@a.test":    {[]Identifier{{Email, "a@a.test"}}, []Identifier{{Email, "a@x.a.test"}, {DNS, "a.test"}}},
		"*@*.a.test":  {[]Identifier{{Email, "a@x.a.test"}}, []Identifier{{Email, "a@a.test"}}},
		"upn:*@a.b":   {[]Identifier{{UPN, "x@a.b"}}, []Identifier{{UPN, "x@b"}, {Email, "x@a.b"}}},
		"upn:x@a.b":   {[]Identifier{{UPN, "x@a.b"}}, []Identifier{{UPN, "y@a.b"}}},
		"urn:a:b":     {[]Identifier{{URI, "urn:a:b"}}, []Identifier{{URI, "urn:a:b:c"}, {URI, "urn:a:B"}}},
		"SPIFFE://X/": {[]Identifier{{URI, "spiffe://x/"}}, []Identifier{{URI, "spiffe://x/a"}}},
		"spiffe://x/d/*": {
			[]Identifier{{URI, "spiffe://x/d/7"}, {URI, "spiffe://x/d/7/a"}},
			[]Identifier{
				{URI, "spiffe://x/d"}, {URI, "spiffe://x/d/"}, {URI, "spiffe://x/dd/7"}, {URI,
					"spiffe://x/d/../e"}, {URI, "spiffe://x/d/%2e%2e/e"},
				{URI, "spiffe://x/d/7?a"}, {URI, "spiffe://x/d//7"}, {URI, "https://x/d/7"},
			},
		},
		"dirname:CN=a,O=b": {[]Identifier{{DirName, "CN=A,O=b"}}, []Identifier{{DirName, "CN=a"},
			{DirName, "O=b,CN=a"}}},
		"permanent-identifier:1.2.3/x": {[]Identifier{{PermanentID, "1.2.3/x"}}, []Identifier{{PermanentID,
			"1.2.3/y"}, {HardwareID, "1.2.3/x"}}},
		"CN=a.test": {nil, []Identifier{{DNS, "a.test"}, {DirName, "CN=a.test"}}},
	} {
		p, err := ParseNamePattern(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		for i, id := range slices.Concat(want.in, want.out) {
			if p.Match(id) != (i < len(want.in)) {
				t.Errorf("%s matches %s %s: %v", pattern, id.Type, id.Value, p.Match(id))
			}
		}
	}
}

// TestFS6_Bindings: which names and subjects a credential may have, by what it is
// bound to.
func TestFS6_Bindings(t *testing.T) {
	t.Parallel()
	host := Binding{Names: []string{"device-7", "*.seven.test", "10.7.0.0/16", "seven@a.test"}}
	exact := Binding{Subject: "CN=device-7,O=Example"}
	family := Binding{Names: []string{"CN=*,O=Example", "device-7", "device-8"}}
	for _, c := range []struct {
		name    string
		b       Binding
		subject string
		names   string // "dns:x ip:y"
		want    bool
	}{
		{"the name", host, "CN=device-7", "dns:device-7", true},
		{"any case of a host", host, "CN=Device-7", "", true},
		{"below", host, "CN=x.seven.test", "dns:*.seven.test ip:10.7.0.1", true},
		{"no subject", host, "", "dns:device-7", true},
		{"a mailbox in the subject", host, "CN=device-7+emailAddress=seven@a.test", "", true},
		{"an address as common name", host, "CN=10.7.1.1", "", true},
		{"another common name", host, "CN=device-8", "", false},
		{"two common names", host, "CN=device-7,CN=device-8", "", false},
		{"a common name with a dot", host, "CN=device-7.", "", false},
		{"a common name that looks alike", host, "CN=ｄevice-7", "", false},
		{"a common name that is text", host, "CN=device 7", "", false},
		{"a mapped address as common name", host, "CN=::ffff:10.7.1.1", "", false},
		{"another mailbox in the subject", host, "CN=device-7,emailAddress=root@a.test", "", false},
		{"an organization", host, "CN=device-7,O=Example", "", false},
		{"a serial number", host, "CN=device-7,serialNumber=8", "", false},
		{"a user id", host, "UID=device-8", "", false},
		{"a name beside", host, "CN=device-7", "dns:device-7 dns:dc1", false},
		{"a kind beside", host, "CN=device-7", "upn:device-7@a.test", false},
		{"a URI", host, "", "uri:https://device-7/", false},
		{"the wildcard above", host, "", "dns:*.test", false},
		{"exact", exact, "CN=DEVICE-7,O=Example", "", true},
		{"exact, and the name that it spells", exact, "CN=device-7,O=Example", "dns:device-7", true},
		{"exact and more", exact, "CN=device-7,O=Example,C=CH", "", false},
		{"less than exact", exact, "CN=device-7", "", false},
		{"nothing", exact, "", "", false},
		{"exact, another name", exact, "CN=device-7,O=Example", "dns:dc1", false},
		{"exact, the organization as a name", exact, "CN=device-7,O=Example", "dns:example", false},
		{"one of a family", family, "CN=device-8,O=Example", "dns:device-8", true},
		{"a common name outside the names", family, "CN=dc1,O=Example", "", false},
		{"a common name that is no host", family, "CN=domain controller,O=Example", "", false},
		{"another organization", family, "CN=device-8,O=Evil", "", false},
		{"a subject alone", Binding{Subject: "CN=*,O=Example"}, "CN=domain controller,O=Example", "", true},
		{"a subject alone binds names", Binding{Subject: "CN=*,O=Example"}, "CN=dc1,O=Example", "dns:dc1", false},
		{"a subject among the names", Binding{Names: []string{"CN=*"}}, "CN=dc1", "", true},
		{"any name", Binding{AnyName: true}, "CN=x,UID=y", "dns:x upn:a@b", true},
		{"any name of a subject", Binding{AnyName: true, Subject: "CN=a"}, "CN=a", "dns:x", true},
		{"any name, another subject", Binding{AnyName: true, Subject: "CN=a"}, "CN=b", "dns:x", false},
		{"nothing is bound", Binding{}, "CN=x", "", false},
		{"what an earlier release took", Binding{Names: []string{"::ffff:10.0.0.1", "b.test"}}, "", "dns:b.test", true},
	} {
		subject, err := ParseName(c.subject)
		if err != nil {
			t.Fatal(err)
		}
		var names []Identifier
		for _, f := range strings.Fields(c.names) {
			kind, value, _ := strings.Cut(f, ":")
			names = append(names, Identifier{IdentifierType(kind), value})
		}
		if got := c.b.HasSubject(subject) && len(c.b.Outside(names)) == 0; got != c.want {
			t.Errorf("%s: %v (subject %v, outside %v)", c.name, got, c.b.HasSubject(subject), c.b.Outside(names))
		}
	}
}

// A pattern that is written as a DNS name holds only what ends in it, and no pattern
// holds a name of a kind that it does not name.
func FuzzNamePattern(f *testing.F) {
	for _, s := range []string{
		"*.a.test", "a.test", "10.0.0.0/8", "::1", "*.*", "a@a.test", "*@*.a.test", "spiffe://x/*", "urn:a:b",
		"CN=*,O=x", "upn:a@b", "dirname:CN=x",
	} {
		f.Add(s, "x.a.test")
	}
	kinds := []IdentifierType{DNS, IP, Email, URI, UPN, PermanentID, HardwareID, DirName}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := ParseNamePattern(text)
		if err != nil {
			return
		}
		held := 0
		for _, kind := range kinds {
			id, err := (Identifier{kind, name}).Canonical()
			if err != nil || !p.Match(id) {
				continue
			}
			held++
			if kind == DNS && !strings.HasSuffix(id.Value, strings.TrimPrefix(text, "*")) {
				t.Errorf("pattern %q holds %q", text, name)
			}
		}
		if held > 1 {
			t.Errorf("pattern %q holds %q as %d kinds", text, name, held)
		}
		if n, err := ParseName(name); err == nil {
			if _, ok := p.MatchSubject(n); ok && held > 0 {
				t.Errorf("pattern %q holds %q as a subject and as a name", text, name)
			}
		}
		b := Binding{Names: []string{text}}
		if _, err := b.Check(); err != nil {
			t.Errorf("pattern %q parses, and a binding refuses it: %v", text, err)
		}
	})
}
