package inventory

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

func TestParseWhere(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("0aF1", 16)
	hash, err := hex.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]store.Match{
		"name~*.old.example, issuer=web-a":                  {NamePattern: "*.old.example", Issuer: "web-a"},
		" name = a.example ,profile=tls-server":             {Name: "a.example", Profile: "tls-server"},
		"name=a.example,name~*.example":                     {Name: "a.example", NamePattern: "*.example"},
		"name~*":                                            {NamePattern: "*"},
		"requester=account:1,protocol=acme,endpoint=eab":    {Requester: "account:1", Protocol: "acme", Endpoint: "eab"},
		"key=" + key:                                        {Key: hash},
		"key=" + key[:2] + ":" + key[2:]:                    {Key: hash},
		"not_after<2027-01-31":                              {NotAfterBefore: day},
		"not_after>2027-01-31T00:00:00Z, not_after<90d":     {NotAfterFrom: day, NotAfterBefore: noon.AddDate(0, 0, 90)},
		"issued>-36h,issued<0h":                             {IssuedFrom: noon.Add(-36 * time.Hour), IssuedBefore: noon},
		`requester="est:CN=a, \"b\" \\ c" , issuer="w<e=b"`: {Requester: `est:CN=a, "b" \ c`, Issuer: "w<e=b"},
		"name~*.bücher.example":                             {NamePattern: "*.bücher.example"},
	} {
		got, err := ParseWhere(text, noon)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseWhereRefuses(t *testing.T) {
	t.Parallel()
	for text, wants := range map[string]string{
		"":                                "not a term",
		" ":                               "not a term",
		",":                               "not a term",
		"name=a,":                         "not a term",
		"a.example":                       "not a term",
		"=a":                              "not a term",
		"nmae=a":                          `no field "nmae"`,
		"Name=a":                          "no field",
		"name<a":                          "name takes = or ~, not <",
		"issuer~web":                      "issuer takes =, not ~",
		"not_after=2027-01-31":            "not_after takes < or >, not =",
		"name=":                           "empty",
		`name=""`:                         "empty",
		"name==a":                         "needs quotes",
		"not_after<=2027-01-31":           "needs quotes",
		`name=a"b`:                        "not closed",
		`name=a"b"`:                       "needs quotes",
		`name="a`:                         "not closed",
		`name="a" b`:                      "not one value",
		`name="a"b"c"`:                    "not one value",
		`name="a\"`:                       "not closed",
		"name=a\tb":                       "control character",
		"name=a\x7f":                      "control character",
		"name=a\xff":                      "UTF-8",
		"issuer=a,issuer=b":               "issuer: it is said twice",
		"name~a,name~b":                   "said twice",
		"not_after<1d,not_after<2d":       "said twice",
		"key=abc":                         "not a SHA-256",
		"key=" + strings.Repeat("00", 31): "not a SHA-256",
		"key=" + strings.Repeat("00", 32) + ",key=" + strings.Repeat("00", 32): "said twice",
		"issued<yesterday":                      "not a time",
		"issued<9999999d":                       "not a time",
		"name=" + strings.Repeat("a", maxWhere): "longer than",
	} {
		m, err := ParseWhere(text, noon)
		if !fault.Is(err, fault.Malformed) || fault.Of(err).Reason != "where" || !strings.Contains(err.Error(), wants) {
			t.Errorf("%q: %v, want %q", text, err, wants)
		}
		if !reflect.ValueOf(m).IsZero() {
			t.Errorf("%q: refused with %+v", text, m)
		}
	}
}

func FuzzParseWhere(f *testing.F) {
	for _, s := range []string{
		"name~*.old.example, issuer=web-a", `requester="a, \"b\"",profile=x`, "not_after<30d,not_after>2027-01-31", "key=" + strings.Repeat("0a", 32), `name="`, "name=a,,", `"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseWhere(text, noon)
		if err != nil {
			if !fault.Is(err, fault.Malformed) || fault.Of(err).Reason != "where" {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if reflect.ValueOf(m).IsZero() {
			t.Errorf("%q selects everything", text)
		}
		// What was understood can be written down and is understood again.
		var terms []string
		quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
		for _, v := range []struct{ term, value string }{
			{"name=", m.Name}, {"name~", m.NamePattern}, {"issuer=", m.Issuer}, {"profile=", m.Profile},
			{"protocol=", m.Protocol}, {"endpoint=", m.Endpoint}, {"requester=", m.Requester},
		} {
			if v.value != "" {
				terms = append(terms, v.term+quote(v.value))
			}
		}
		if m.Key != nil {
			terms = append(terms, fmt.Sprintf("key=%x", m.Key))
		}
		if len(terms) == 0 {
			return
		}
		written := strings.Join(terms, ",")
		again, err := ParseWhere(written, noon)
		if len(written) > maxWhere {
			return
		}
		m.NotAfterFrom, m.NotAfterBefore, m.IssuedFrom, m.IssuedBefore = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		if diff := cmp.Diff(m, again); err != nil || diff != "" {
			t.Errorf("%q, written as %q: %v (-want +got):\n%s", text, written, err, diff)
		}
	})
}
