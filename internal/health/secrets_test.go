package health

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/seal"
)

// The check says which lines are needed, by the keys in use and by those of the next
// start.
func TestFT17_Lines(t *testing.T) {
	t.Parallel()
	a, b := seal.GenerateKEK(), seal.GenerateKEK()
	of := func(lines ...string) *seal.Sealer {
		s, err := seal.Parse([]byte("# keys\n" + strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	uses := func(lines ...string) (all []credential.KeyUse) {
		for _, line := range lines {
			all = append(all, credential.KeyUse{KEK: seal.KEK{ID: of(line).Keys()[0].ID}, Secrets: 1, What: "EAB key k"})
		}
		return all
	}
	for name, tt := range map[string]struct {
		uses          []credential.KeyUse
		running, kept *seal.Sealer
		state         State
		detail        string
	}{
		"one line":           {uses(a), of(a), of(a), OK, ""},
		"nothing sealed":     {nil, of(a), of(a), OK, ""},
		"still needed":       {uses(a, b), of(b, a), of(b, a), Warning, "line 3 (key "},
		"needed by nothing":  {uses(b), of(b, a), of(b, a), OK, "nothing needs line 3 (key "},
		"missing":            {uses(a, b), of(b), of(b), Failed, "is missing: EAB key k"},
		"taken out too soon": {uses(a), of(b, a), of(b), Warning, "a restart makes unreadable: EAB key k"},
		"replaced":           {uses(a), of(a), of(b), Warning, "line 2 (key "},
		"put back, running":  {uses(a), of(b), of(b, a), Failed, "is missing: EAB key k"},
		"new line first":     {uses(a), of(a), of(b, a), Warning, "another key is first since the start"},
		"new line below":     {uses(a), of(a), of(a, b), OK, ""},
		"taken out in time":  {uses(b), of(b, a), of(b), OK, "nothing needs line 3"},
	} {
		c := Secrets(tt.uses, tt.running, tt.kept)
		if max(c.State.rank(), 0) != tt.state.rank() || !strings.Contains(c.Detail, tt.detail) || tt.detail == "" && c.Detail != "" ||
			(tt.state != OK) != (c.Remedy != "") || c.Needs != nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
