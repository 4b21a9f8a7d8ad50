package profile

import (
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

func TestCompileReportsEveryMistake(t *testing.T) {
	t.Parallel()
	pathLen := 9
	long := Duration(25 * time.Hour)
	_, err := Compile("bad name!", Config{
		Subject: Subject{Others: "maybe", Fields: []Field{
			{Attribute: "XYZ"}, {Attribute: "C", Fixed: "Switzerland"}, {Attribute: "CN", Request: "sometimes"},
			{Attribute: "CN"}, {Attribute: "O", Fixed: "x", Request: "optional"}, {Attribute: "OU", Max: 99},
		}},
		SAN: SAN{
			DNS: &DNSNames{Allow: []string{"a.*.example"}, Min: 3, Max: 2}, IP: &Addresses{Deny: []string{"10.0.0.1/8"}},
			Email: &Mailboxes{Allow: []string{"example.com"}}, URI: &URIs{Allow: []string{"***"}}, Max: 2000,
		},
		Keys:        []string{"rsa-1024"},
		Validity:    Validity{Max: Duration(731 * Day), Backdate: &long, BeyondIssuer: "ignore"},
		KeyUsage:    []string{"keyCertSign"},
		ExtKeyUsage: []string{"serverAuth", "serverAuth", "everything"},
		Policies:    []string{"1.2.x"},
		Extensions:  Extensions{Copy: []string{"2.5.29.19"}, Others: "keep"},
		NoRevAvail:  true, OCSPNoCheck: true,
		PathLen: &pathLen, NameConstraints: &NameConstraints{},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"name: want", "subject.others", "fields[0]", "fields[1]", "fields[2]", "fields[3]", "fields[4]", "fields[5]",
		"san.dns.allow", "san.dns: min and max", "san.ip.deny", "san.email.allow", "san.uri.allow", "san: min and max",
		"keys", "validity.max", "beyond_issuer", "key_usage", "twice", "everything", "policies", "extensions.copy",
		"extensions.others", "no_rev_avail", "ocsp_nocheck", "path_len", "name_constraints",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %q in:\n%v", want, err)
		}
	}
}

func TestCompileSingleMistakes(t *testing.T) {
	t.Parallel()
	zero, five := 0, 5
	day := Duration(Day)
	base := func() Config { return Config{ExtKeyUsage: []string{"serverAuth"}, SAN: SAN{DNS: &DNSNames{}}} }
	ca := func() Config { return Config{CA: true} }
	for name, tc := range map[string]struct {
		from   func() Config
		change func(*Config)
		want   string
	}{
		"no EKU":              {base, func(c *Config) { c.ExtKeyUsage = nil }, "ext_key_usage"},
		"731 days by default": {base, func(c *Config) { c.Validity.Default = Duration(731 * Day) }, "validity.max"},
		"default over max":    {base, func(c *Config) { c.Validity = Validity{Default: Duration(2 * Day), Max: day} }, "validity.default"},
		"all backdated":       {base, func(c *Config) { c.Validity = Validity{Default: day, Backdate: &day} }, "used up"},
		"negative":            {base, func(c *Config) { c.Validity.Default = -1 }, "negative"},
		"fractions":           {base, func(c *Config) { c.Validity.Default = Duration(Day + 1) }, "whole seconds"},
		"nocheck alone":       {base, func(c *Config) { c.OCSPNoCheck = true }, "ocsp_nocheck"},
		"names of no type":    {base, func(c *Config) { c.SAN = SAN{Min: 1} }, "san"},
		"weak CA":             {ca, func(c *Config) { c.Keys = []string{"rsa-2048+"} }, "keys"},
		"CA without usage":    {ca, func(c *Config) { c.KeyUsage = []string{"digitalSignature"} }, "key_usage"},
		"short-lived CA":      {ca, func(c *Config) { c.NoRevAvail = true }, "no_rev_avail"},
		"feature by OID":      {base, func(c *Config) { c.Extensions.Copy = []string{"1.3.6.1.5.5.7.1.24"} }, "must_staple: true"},
		"nothing to staple":   {base, func(c *Config) { c.Validity.Max, c.NoRevAvail, c.MustStaple = day*7, true, true }, "must_staple"},
		"a CA that staples":   {ca, func(c *Config) { c.MustStaple = true }, "must_staple"},
		"26 years":            {ca, func(c *Config) { c.Validity.Max = Duration(26 * Year) }, "validity.max"},
		"deep":                {ca, func(c *Config) { c.PathLen = &five }, "path_len"},
		"empty constraints":   {ca, func(c *Config) { c.NameConstraints = &NameConstraints{} }, "name_constraints"},
		"bad constraint": {ca, func(c *Config) {
			c.NameConstraints = &NameConstraints{Excluded: Subtrees{IP: []string{"10.1.2.3/8"}}}
		}, "name_constraints"},
		"pathLen of a leaf": {base, func(c *Config) { c.PathLen = &zero }, "path_len"},
	} {
		c := tc.from()
		if _, err := Compile("x", c); err != nil {
			t.Fatalf("%s: the base: %v", name, err)
		}
		tc.change(&c)
		if _, err := Compile("x", c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want something about %q", name, err, tc.want)
		}
	}
}

func TestYAML(t *testing.T) {
	t.Parallel()
	c, err := decode([]byte(`
description: Printers
subject:
  fields:
    - {attribute: O, fixed: Example}
    - {attribute: CN, request: optional, match: ["*.print.example"]}
  others: drop
  common_name_in_san: true
san:
  dns: {allow: ["**.print.example"], deny: [boss.print.example]}
  ip: {allow: [10.0.0.0/8]}
  min: 1
keys: [ec-p256, rsa-3072+]
validity: {default: 30d, max: 1y, backdate: 0s, beyond_issuer: refuse}
ext_key_usage: [serverAuth, 1.3.6.1.4.1.99999.7]
policies: [1.3.6.1.4.1.99999.1]
extensions: {copy: [1.2.3.4]}
must_staple: true
approval: true
`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile("printers", c)
	if err != nil {
		t.Fatal(err)
	}
	tpl, err := p.Apply(Request{CSR: csr(t, ecKey(), "CN=a.print.example", "dns:a.print.example")}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Approval() || !tpl.Approval || tpl.ClampNotAfter || tpl.Subject != "CN=a.print.example,O=Example" ||
		!tpl.NotBefore.Equal(now.Truncate(time.Second)) || len(tpl.Policies) != 1 || len(tpl.ExtKeyUsage) != 2 {
		t.Errorf("%+v", tpl)
	}
	for text, want := range map[string]string{
		"validty: {}":                     "validty",
		"san: {dns: {alow: [x]}}":         "alow",
		"validity: {default: 90 days}":    "want a duration",
		"validity: {default: [1]}":        "duration",
		"keys: {a: b}":                    "keys",
		"validity: {max: 999999999999y}":  "100 years",
		"subject: {fields: !x}":           "",
		"validity: {default: 1d, max: 5}": "", // a bare number has no unit
	} {
		if _, err := decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something about %q", text, err, want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		d   time.Duration
		out string
	}{
		"90d": {90 * Day, "90d"}, "2y": {730 * Day, "2y"}, "24h": {Day, "1d"}, "1h30m": {90 * time.Minute, "1h30m"},
		"0s": {0, "0s"}, "1d12h": {36 * time.Hour, "1d12h"}, "1y1d": {366 * Day, "366d"}, "90s": {90 * time.Second, "1m30s"},
	} {
		d, err := ParseDuration(in)
		if err != nil || time.Duration(d) != want.d || d.String() != want.out {
			t.Errorf("%s: %v %v", in, d, err)
		}
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Errorf("%s: %s does not read back", in, d)
		}
	}
	for _, in := range []string{"", "d", "1", "-1d", "1.5h", "1w", "1m1h", "1d1d", "1d ", "101y", "99999999999999999999d", "9223372036854775807s"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("%q is %v", in, d)
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		compile func(string) (matcher, error)
		pattern string
		yes, no []string
	}{
		{compileDNS, "a.example", []string{"a.example"}, []string{"b.a.example", "xa.example"}},
		{compileDNS, "*.example", []string{"a.example", "*.example"}, []string{"example", "a.b.example", "xexample"}},
		{compileDNS, "**.example", []string{"a.example", "a.b.example", "*.b.example"}, []string{"example", "xexample"}},
		{compileDNS, "**", []string{"a", "*.a"}, nil},
		{denyDNS, "a.example", []string{"a.example", "*.example"}, []string{"b.example", "*.b.example"}},
		{compileMailbox, "*@example.com", []string{"a@example.com"}, []string{"a@b.example.com"}},
		{compileMailbox, "ann@**.example.com", []string{"Ann@b.example.com"}, []string{"ann@example.com", "bob@b.example.com"}},
		{compileMailbox, "**", []string{"a@b"}, nil},
		{compileNetwork, "10.0.0.0/8", []string{"10.1.2.3"}, []string{"11.0.0.1", "::1"}},
		{compileNetwork, "2001:db8::1", []string{"2001:db8::1"}, []string{"2001:db8::2"}},
		{compileGlob, "spiffe://a/*/x", []string{"spiffe://a/b/x", "spiffe://a//x"}, []string{"spiffe://a/b/c/x", "spiffe://a/b/xx"}},
		{compileGlob, "urn:**", []string{"urn:", "urn:a/b"}, []string{"xurn:a"}},
		{compileGlob, "a**b*c", []string{"abc", "a/b/bxc"}, []string{"a/b/c/", "ab/c"}},
	} {
		m, err := tc.compile(tc.pattern)
		if err != nil {
			t.Errorf("%s: %v", tc.pattern, err)
			continue
		}
		for _, v := range tc.yes {
			if !m(v) {
				t.Errorf("%s does not match %s", tc.pattern, v)
			}
		}
		for _, v := range tc.no {
			if m(v) {
				t.Errorf("%s matches %s", tc.pattern, v)
			}
		}
	}
	for pattern, compile := range map[string]func(string) (matcher, error){
		"a..b": compileDNS, "*": compileDNS, "a.*": compileDNS, "*x.a": compileDNS, "@x": compileMailbox, "a*@x": compileMailbox,
		"10.1.0.0/8": compileNetwork, "::ffff:10.0.0.0/104": compileNetwork, "x": compileNetwork, "": compileGlob,
	} {
		if _, err := compile(pattern); err == nil {
			t.Errorf("pattern %q compiles", pattern)
		}
	}
}

func TestJSONSchema(t *testing.T) {
	t.Parallel()
	r := &jsonschema.Reflector{FieldNameTag: "yaml"}
	text, err := r.Reflect(&Config{}).MarshalJSON()
	if err != nil || !strings.Contains(string(text), "common_name_in_san") {
		t.Errorf("%v: %s", err, text)
	}
}

func FuzzProfileYAML(f *testing.F) {
	for _, c := range BuiltIn() {
		text, err := strictyaml.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("san: {dns: {allow: [\"*.a\", \"**\"]}, ip: {deny: [\"::/0\"]}}\next_key_usage: [1.2.3]\nvalidity: {max: 1y}\n"))
	key := ecKey().Public()
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := decode(text)
		if err != nil {
			return
		}
		p, err := Compile("fuzz", c)
		if err != nil {
			return
		}
		if !p.CA() && p.MaxValidity() > maxLeaf {
			t.Fatalf("a leaf may live %s", p.MaxValidity())
		}
		tpl, err := p.Apply(Request{PublicKey: key, Names: ids("dns:a.example.com ip:10.0.0.1")}, now)
		if err == nil && (tpl.NotAfter.Sub(tpl.NotBefore) > p.MaxValidity() || tpl.CA != c.CA) {
			t.Fatalf("template %+v", tpl)
		}
	})
}
