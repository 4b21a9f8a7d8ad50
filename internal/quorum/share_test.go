package quorum

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The list is complete and no slip of one letter, nor exchanged syllables or
// letters, makes one word of another.
func TestWords(t *testing.T) {
	t.Parallel()
	all := map[string]bool{}
	for b := range 256 {
		w := word(byte(b))
		if got, ok := number(w); !ok || got != byte(b) {
			t.Fatalf("%q is %d, want %d", w, got, b)
		}
		all[w] = true
	}
	if len(all) != 256 {
		t.Fatalf("%d words", len(all))
	}
	for w := range all {
		if all[w[2:]+w[:2]] {
			t.Errorf("%q with its syllables exchanged is a word", w)
		}
		for v := range all {
			if v != w && distance(w, v) < 2 {
				t.Errorf("%q and %q are one slip apart", w, v)
			}
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]int{
		"kobu": 0, "koba": 1, "kou": 1, "obu": 1, "kob": 1, "kobuu": 1, "xkobu": 1, "kboу": 2, "okbu": 1, "koub": 1, "": 2, "ko": 2, "bkou": 2,
	} {
		if got := distance("kobu", typed); got != want {
			t.Errorf("%q: %d, want %d", typed, got, want)
		}
	}
}

// fixed is a share whose page never changes.
func fixed() Share {
	s := Share{id: ID{0x7f, 0x3a, 0x91, 0xc2}, need: 3, of: 5, number: 2}
	for i := range s.value {
		s.value[i] = byte(i * 7)
	}
	return s
}

func TestSheet(t *testing.T) {
	t.Parallel()
	page := Sheet{
		Ceremony: "Example Root 2026", Custodian: "Ada | Example\nLimited", Opens: "Example Root, private/ca.key",
		Date: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC),
	}
	got := fixed().Sheet(page)
	golden := filepath.Join("testdata", "sheet.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the page changed (-update writes it anew, but printed sheets stay as they are):\n%s", got)
	}
	for line := range strings.Lines(got) {
		if len(line) > 77 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if again, err := ParseShare(got); err != nil || again != fixed() {
		t.Errorf("the whole page: %v", err)
	}
}

// What people do to what they type.
func TestG1_26_ParseShareAsTyped(t *testing.T) {
	t.Parallel()
	lines := fixed().Lines()
	for name, text := range map[string]string{
		"plain":      strings.Join(lines, "\n"),
		"upper case": strings.ToUpper(strings.Join(lines, "\n")),
		"windows":    strings.Join(lines, "\r\n") + "\r\n",
		"spaces":     "\n\n  " + strings.ReplaceAll(strings.Join(lines, "\n\n"), " ", "\t  "),
		"numbers":    "1 " + lines[0] + "\n2. " + lines[1] + "\n3) " + lines[2] + "\n4: " + lines[3] + "\n5|" + lines[4], // one mark of a sheet
		"first mark": "1 | " + strings.Join(lines, "\n"),
	} {
		if got, err := ParseShare(text); err != nil || got != fixed() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A slip names its line, and its word where that is known.
func TestG1_26_ParseShareNamesTheLine(t *testing.T) {
	t.Parallel()
	lines := fixed().Lines()
	words := strings.Fields(lines[2])
	with := func(line int, text string) string {
		changed := append([]string{}, lines...)
		changed[line-1] = text
		return strings.Join(changed, "\n")
	}
	exchanged := append([]string{words[1], words[0]}, words[2:]...)
	foreignWord := append([]string{word(99)}, words[1:]...)
	letter := append([]string{"x" + words[0][1:]}, words[1:]...)
	for _, c := range []struct{ name, text, want string }{
		{"one letter", with(3, strings.Join(letter, " ")), "line 3, word 1: \"x" + words[0][1:] + "\" is not a word of these sheets; is it "},
		{"nonsense", with(3, "supercalifragilistic "+lines[2]), `line 3, word 1: "supercalifra…" is not a word`},
		{"another word", with(3, strings.Join(foreignWord, " ")), "line 3: the checksum"},
		{"exchanged", with(3, strings.Join(exchanged, " ")), "line 3: the checksum"},
		{"lines exchanged", strings.Join([]string{lines[0], lines[2], lines[1], lines[3], lines[4]}, "\n"), "line 2: the checksum"},
		{"numbered otherwise", with(2, "3 "+lines[2]), "line 2: this is line 3 of a sheet"},
		{"short", with(4, strings.Join(words[:9], " ")), "line 4: 9 words"},
		{"long", with(4, lines[3]+" "+words[0]), "line 4: 11 words"},
		{"a line less", strings.Join(lines[:4], "\n"), "4 lines: want 5"},
		{"a line more", strings.Join(lines, "\n") + "\n" + lines[0], "more than 5 lines"},
		{"nothing", "", "0 lines"},
		{"huge", strings.Repeat(" ", maxText+1), "longer than"},
	} {
		if _, err := ParseShare(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if err := CheckLine(3, lines[2]); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		line int
		text string
	}{{0, lines[0]}, {6, lines[0]}, {2, lines[2]}, {1, strings.Repeat("b", maxText+1)}} {
		if err := CheckLine(c.line, c.text); err == nil {
			t.Errorf("line %d was taken", c.line)
		}
	}
}

func TestParseShareChecksNumbers(t *testing.T) {
	t.Parallel()
	for _, s := range []Share{
		{need: 1, of: 3, number: 1}, {need: 4, of: 3, number: 1}, {need: 2, of: 3, number: 4}, {need: 2, of: 3},
	} {
		if _, err := ParseShare(strings.Join(s.Lines(), "\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := shareOf(append([]byte{9, 0, 0, 0, 0, 2, 3, 1}, make([]byte, SecretSize)...)); err == nil {
		t.Error("form 9 was read")
	}
}

// A share in a log says which it is and nothing more.
func TestShareKeepsItsValue(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"%v", "%+v", "%s", "%#v"} {
		if got := fmt.Sprintf(verb, fixed()); got != "share 2 of 5 of set 7F3A-91C2" {
			t.Errorf("%s: %s", verb, got)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	s := fixed()
	f.Add(strings.Join(s.Lines(), "\n"))
	f.Add(s.Sheet(Sheet{Ceremony: "x"}))
	f.Add("1 | bibi")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(text)
		if err != nil {
			return
		}
		if again, err := ParseShare(strings.Join(s.Lines(), "\n")); err != nil || again != s {
			t.Fatalf("read once but not twice: %v", err)
		}
	})
}
