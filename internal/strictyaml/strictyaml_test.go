package strictyaml

import (
	"strings"
	"testing"
	"time"
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
		"wrong type":        {"name: a\ninner:\n  port: many\n", []string{"f.yaml:3:9: inner.port: cannot unmarshal"}},
		"wrong duration":    {"wait: soon\n", []string{`f.yaml:1:7: wait: "soon": want a duration`}},
		"repeated":          {"name: a\nname: b\n", []string{`f.yaml:2:1: mapping key "name" already defined`}},
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

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\nlist: [{id: x}, &a {id: y}, *a]\n"))
	f.Add([]byte("<<: {name: b}\n? [a]\n: b\n"))
	f.Add([]byte("map: {a: !!str b, c: null}\nlist: 7\n--- x"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var s sample
		_ = Decode("f.yaml", text, &s).Err()
	})
}
