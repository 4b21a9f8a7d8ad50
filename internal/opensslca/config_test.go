package opensslca

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	c, err := parseConfig([]byte(`
# before every section
HOME = /root
common = from default
.include /etc/ssl/other.cnf
[ ca ]
default_ca = my_ca # the one
[my_ca]
dir = $HOME/ca
private_key = ${dir}/private/$name.key
certificate = "$(dir)/certs/a # b.crt"
name = root\
-ca
database = $ca::place
single = '$dir'
escaped = a\#b\$c
loop = $loop
env = $ENV::HOME
missing = $nothing
long = $twice$twice
twice = ` + strings.Repeat("x", maxLine/2+1) + `
ca::place = index.txt
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"private_key": "/root/ca/private/root-ca.key", "certificate": "/root/ca/certs/a # b.crt", "database": "index.txt",
		"single": "$dir", "escaped": "a#b$c", "common": "from default", "none": "",
	} {
		if got, err := c.value("my_ca", name); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"loop": "nested", "env": "environment", "missing": "$nothing is not set", "long": "longer than"} {
		if got, err := c.value("my_ca", name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"[ca":                            "line 1: a section",
		"[]":                             "line 1: a section",
		"a = b\nnonsense":                "line 2: want name = value",
		strings.Repeat("#", maxConfig+1): "longer than",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestConfigLocate(t *testing.T) {
	t.Parallel()
	const rest = "private_key = $dir/private/ca.key\ncertificate = certs/ca.crt\ndatabase = /var/db/index.txt\n"
	here := func(parts ...string) string { return filepath.Join(append([]string{"stick"}, parts...)...) }
	for _, c := range []struct {
		name, text, section string
		want                map[string]string
	}{
		{"absolute, moved", "[ca]\ndefault_ca=a\n[a]\ndir = /root/ca\n" + rest, "", map[string]string{
			"private_key": here("private/ca.key"), "certificate": here("certs/ca.crt"), "database": "/var/db/index.txt",
		}},
		{"relative", "[b]\ndir = ./demoCA\n" + rest, "b", map[string]string{
			"private_key": here("private/ca.key"), "certificate": here("certs/ca.crt"), "database": "/var/db/index.txt",
		}},
		{"here", "[b]\ndir = .\n" + rest, "b", map[string]string{
			"private_key": here("private/ca.key"), "certificate": here("certs/ca.crt"), "database": "/var/db/index.txt",
		}},
	} {
		config, err := parseConfig([]byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := config.locate("stick", c.section)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	for text, want := range map[string]string{
		"": "no section [  ]", "[ca]\ndefault_ca=x\n": "no section [ x ]", "[ca]\ndefault_ca=$x\n": "$x is not set",
		"[ca]\ndefault_ca=a\n[a]\ndir=$x\n": "$x is not set", "[ca]\ndefault_ca=a\n[a]\nserial=$x\n": "$x is not set",
	} {
		config, err := parseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.locate("stick", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("[ca]\ndefault_ca = a\n[a]\ndir = .\nprivate_key = $dir/'x'\\\n y\ncertificate = $(dir)${dir}$a::dir # c\n")
	f.Add("[ca]\ndefault_ca = $ENV::x\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig([]byte(text))
		if err != nil {
			return
		}
		paths, err := c.locate("d", "")
		for name, p := range paths {
			if err == nil && p == "" {
				t.Errorf("%s has no path", name)
			}
		}
	})
}
