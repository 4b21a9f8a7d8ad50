package strictyaml

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Name  string        `yaml:"name"`
	Wait  time.Duration `yaml:"wait"`
	Inner struct {
		Port int `yaml:"port"`
	} `yaml:"inner"`
	List []struct {
		ID string `yaml:"id"`
	} `yaml:"list"`
	Map map[string]struct {
		Key string `yaml:"key"`
	} `yaml:"map"`
}

func TestDecodeReportsEveryMistakeWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"good":              {"name: a\nwait: 10s\ninner: {port: 1}\nlist: [{id: x}]\nmap: {y: {key: z}}\n", nil},
		"unknown, near":     {"name: a\ninner:\n  prot: 1\n", []string{`f.yaml:3:3: inner.prot: unknown key; did you mean "port"?`}},
		"unknown, far":      {"zzzzzz: 1\n", []string{"f.yaml:1:1: zzzzzz: unknown key"}},
		"upper case":        {"Name: a\n", []string{`f.yaml:1:1: Name: unknown key; did you mean "name"?`}},
		"in a list":         {"list:\n- id: a\n- ids: b\n", []string{`f.yaml:3:3: list[1].ids: unknown key; did you mean "id"?`}},
		"in a map":          {"map:\n  any:\n    kye: b\n", []string{`f.yaml:3:5: map.any.kye: unknown key; did you mean "key"?`}},
		"two at once":       {"nam: a\nwiat: 1s\n", []string{`f.yaml:1:1: nam: unknown key; did you mean "name"?`, `f.yaml:2:1: wiat: unknown key; did you mean "wait"?`}},
		"wrong type":        {"name: a\ninner:\n  port: many\n", []string{"f.yaml:3:9: inner.port: want a whole number"}},
		"wrong duration":    {"wait: soon\n", []string{`f.yaml:1:7: wait: want a duration`}},
		"repeated":          {"name: a\nname: b\n", []string{`f.yaml:2:1: name: defined twice, first at 1:1`}},
		"syntax":            {"name: [a\n", []string{"f.yaml:1:"}},
		"empty":             {"# nothing\n", []string{"f.yaml: the file is empty"}},
		"two documents":     {"name: a\n---\nname: b\n", []string{"f.yaml:3:1: a second document"}},
		"a list at the top": {"- a\n", []string{"f.yaml:1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s sample
			doc := Decode("f.yaml", []byte(tc.text), &s)
			_ = doc.Err() // sorts
			if len(doc.problems) != len(tc.want) {
				t.Fatalf("got %d problems, want %d:\n%v", len(doc.problems), len(tc.want), doc.problems)
			}
			for i, p := range doc.problems {
				if !strings.HasPrefix(p.String(), tc.want[i]) {
					t.Errorf("got  %s\nwant %s", p, tc.want[i])
				}
			}
		})
	}
}

func TestSayFindsTheNearestPlace(t *testing.T) {
	t.Parallel()
	var s sample
	doc := Decode("f.yaml", []byte("name: a\nlist:\n- id: x\n"), &s)
	doc.Report("list[0].other", "required")
	doc.Report("inner.port", "required")
	want := []string{"f.yaml:3:3: list[0].other: required", "f.yaml: inner.port: required"}
	for i, p := range doc.problems {
		if p.String() != want[i] {
			t.Errorf("got %s, want %s", p, want[i])
		}
	}
}

// TestPlainScalars are those of the core schema of YAML 1.2.
func TestPlainScalars(t *testing.T) {
	t.Parallel()
	type fields struct {
		N int           `yaml:"n"`
		S string        `yaml:"s"`
		B bool          `yaml:"b"`
		D time.Duration `yaml:"d"`
		P *int          `yaml:"p"`
	}
	const number, truth = "want a whole number", "want true or false"
	ten, text := 10, func(s string) fields { return fields{S: s} }
	for in, c := range map[string]struct {
		want fields
		err  string
	}{
		"n: 10": {want: fields{N: 10}}, "n: 010": {want: fields{N: 10}}, "n: 08": {want: fields{N: 8}}, "n: +7": {want: fields{N: 7}}, "n: -7": {want: fields{N: -7}},
		"n: 0o10": {want: fields{N: 8}}, "n: 0x1F": {want: fields{N: 31}}, "n: null": {}, "n: ~": {}, "n:": {},
		"n: 0b1": {err: number}, "n: 1_000": {err: number}, "n: 1e3": {err: number}, "n: 1.0": {err: number}, "n: 0o8": {err: number}, "n: '10'": {err: number},
		"n: 0O10": {err: number}, "n: .inf": {err: number}, "n: true": {err: number}, "n: 9223372036854775808": {err: number}, "n: [1]": {err: number},
		"p: 10": {want: fields{P: &ten}}, "p: null": {},
		"s: 010": {want: text("010")}, "s: 1_000": {want: text("1_000")}, "s: 1e3": {want: text("1e3")}, "s: yes": {want: text("yes")}, "s: TRUE": {want: text("TRUE")},
		"s: 'null'": {want: text("null")}, "s: null": {}, "s: |\n  a\n  b\n": {want: text("a\nb\n")}, `s: "\u00e9"`: {want: text("é")}, "s: [a]": {err: "want one value"},
		"b: true": {want: fields{B: true}}, "b: True": {want: fields{B: true}}, "b: FALSE": {}, "b: yes": {err: truth}, "b: on": {err: truth}, "b: 1": {err: truth},
		"b: 'true'": {err: truth}, "b: tRUE": {err: truth}, "d: 0": {}, "d: 5": {err: "want a duration"}, "d: 5m": {want: fields{D: 5 * time.Minute}},
	} {
		var got fields
		err := Decode("f", []byte(in), &got).Err()
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v, want %q", in, err, c.err)
		} else if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func TestFormsThatAreNotRead(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"name: &x a\n":                    "f:1:7: anchors",
		"name: *x\n":                      "f:1:7: anchors",
		"name: !!str a\n":                 "f:1:7: anchors",
		"<<: {name: a}\n":                 "f:1:1: anchors",
		"%YAML 1.1\n---\nname: a\n":       "f:1:1: directives",
		"? [a]\n: b\n":                    "f:2:1: found an invalid key",
		"\"a\\u0007\": b\n":               "a key here is no plain word",
		"name: a\x00\n":                   "f:1:8: not UTF-8 text",
		"name: a\n\xff\n":                 "f:2:1: not UTF-8 text",
		"n\x00a\x00":                      "not UTF-8 text",
		strings.Repeat("#", MaxSize+1):    "longer than",
		strings.Repeat("[", 1000):         "more than 32 lists",
		strings.Repeat("- ", 1000):        "more than 32 lists",
		strings.Repeat("a: ", 1000):       "more than 32 lists",
		strings.Repeat("name: a\n", 9999): "more than 20000 words",
		"":                                "f: the file is empty",
	} {
		var s sample
		if err := Decode("f", []byte(in), &s).Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", in, err, want)
		}
	}
	var s sample
	if err := Decode("f", []byte("\xef\xbb\xbfname: a\r\nwait: 5s\r\ninner:\r\n  port: 1\r\n"), &s).Err(); err != nil || s.Name != "a" || s.Inner.Port != 1 {
		t.Errorf("byte order mark and CRLF: %+v, %v", s, err)
	}
	if err := Decode("", []byte("nam: a\r\nwait: 5\r\n"), &s).Err(); err == nil || err.Error() != "1:1: nam: unknown key; did you mean \"name\"?\n2:7: wait: want a duration such as 90s, 15m or 24h" {
		t.Errorf("without a file's name: %v", err)
	}
}

// secretText is a field that repeats what it was given.
type secretText string

func (s *secretText) UnmarshalText(text []byte) error {
	return fmt.Errorf("%q is not known", text)
}

// TestProblemsRepeatNoValue puts a secret where each kind of problem arises.
func TestProblemsRepeatNoValue(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"n: hunter2", "b: hunter2", "d: hunter2", "t: hunter2", "net: hunter2", "m: hunter2", "l: hunter2", "s: [hunter2]", "n: [hunter2", "s: \"hunter2", "s: 'hunter2\n",
		"s: hunter2: x", "s: @hunter2", "s: `hunter2", "s: \"\\hunter2\"", "s: &hunter2 a", "s: *hunter2", "s: !hunter2 a", "%hunter2 x\n---\na: b", "%YAML hunter2\n---\n",
		"s: |hunter2\n  a", "s: hunter2\n hunter2: x\n", "hunter2", "- hunter2", "s: {hunter2", "s: a\n  - hunter2\n", "\thunter2: x", "s: >9hunter2\n x", "s: a\n--- hunter2\n",
	} {
		var v struct {
			N   int                           `yaml:"n"`
			B   bool                          `yaml:"b"`
			D   time.Duration                 `yaml:"d"`
			T   secretText                    `yaml:"t"`
			Net netip.Prefix                  `yaml:"net"`
			M   map[string]struct{ A string } `yaml:"m"`
			L   []string                      `yaml:"l"`
			S   string                        `yaml:"s"`
		}
		err := Decode("f", []byte(in), &v).Err()
		if err == nil && v.S == "" {
			t.Errorf("%q was taken", in)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestDecodeKeepsWhatIsLeftOut: what stands in the struct is the default.
func TestDecodeKeepsWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	s := sample{Name: "kept", Wait: time.Hour}
	s.Inner.Port = 5
	if err := Decode("f", []byte("wait:\ninner: {}\nlist: []\n"), &s).Err(); err != nil || s.Name != "kept" || s.Wait != time.Hour || s.Inner.Port != 5 || s.List == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzDecode(f *testing.F) {
	seeds, err := filepath.Glob("../../deploy/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(seeds, "../config/testdata/dev.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("name: a\nlist: [{id: x}, &a {id: y}, *a]\n"))
	f.Add([]byte("<<: {name: b}\n? [a]\n: b\n"))
	f.Add([]byte("map: {a: !!str b, c: null}\nlist: 7\n--- x"))
	f.Add([]byte("\xef\xbb\xbfwait: 010\r\ninner: {port: 0o7}\r\nname: |-\r\n  a\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s sample
		if err := Decode("f.yaml", text, &s).Err(); err != nil {
			return
		}
		again, err := Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back sample
		if err := Decode("f.yaml", again, &back).Err(); err != nil || back.Name != s.Name || back.Inner != s.Inner || back.Wait != s.Wait {
			t.Errorf("%+v came back as %+v, %v:\n%s", s, back, err, again)
		}
	})
}

// TestCheckFindsThePlaceOfEachError of a section that checks itself.
func TestCheckFindsThePlaceOfEachError(t *testing.T) {
	t.Parallel()
	var s sample
	d := Decode("f", []byte("name: a\ninner:\n  port: 1\n"), &s)
	d.Check("inner", nil)
	d.Check("inner", errors.Join(
		Wrong("port", "too low"), WrongIf(false, "port", "never"), fmt.Errorf("section: %w", OneOf("kind", "od", "odd", "even", "")), errors.New("one\ntwo"), OneOf("", "x"),
	))
	want := []string{
		"f:2:1: inner: one", "f:2:1: inner: two", `f:2:1: inner: "x": there is none`,
		`f:2:1: inner.kind: "od": want one of odd, even; did you mean "odd"?`, "f:3:3: inner.port: too low",
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), fmt.Sprint(d.Err())); diff != "" {
		t.Error(diff)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	type inner struct {
		File string `path:"file"`
	}
	type section struct {
		File, Other string `path:"file"`
		Plain       string
		Key         string   `path:"key"`
		Keys        []string `path:"key"`
		List        []inner
		Left        *inner
		Right       *inner
	}
	got := section{"a", "/b", "c", "file:d", []string{"file:/e", "file:", "pkcs11:f", ""}, []inner{{"g"}, {}}, nil, &inner{"h"}}
	Resolve("/dir", &got)
	want := section{"/dir/a", "/b", "c", "file:/dir/d", []string{"file:/e", "file:", "pkcs11:f", ""}, []inner{{"/dir/g"}, {}}, nil, &inner{"/dir/h"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
