package transcript

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// lines returns the sample's lines without newlines.
func lines(t testing.TB) []string {
	t.Helper()
	return strings.Split(strings.TrimSuffix(string(sample(t).Bytes()), "\n"), "\n")
}

// rehash gives an altered line the hash that it should have.
func rehash(t testing.TB, line string) string {
	t.Helper()
	r, err := parseLine([]byte(line))
	must(t, err)
	r.Hash, err = r.sum()
	must(t, err)
	out, err := r.line()
	must(t, err)
	return string(bytes.TrimSpace(out))
}

// rechain makes all lines from the given one on follow each other again, as
// somebody who does not hold the keys can.
func rechain(t testing.TB, all []string, from int) []string {
	t.Helper()
	prev := zeros
	for i := range all {
		r, err := parseLine([]byte(all[i]))
		must(t, err)
		if i >= from {
			r.Prev, r.Seq = prev, i+1
			r.Hash, err = r.sum()
			must(t, err)
			out, err := r.line()
			must(t, err)
			all[i] = string(bytes.TrimSpace(out))
		}
		prev = r.Hash
	}
	return all
}

// Whatever is done to a transcript, the first record that is wrong is named.
func TestG1_55_TamperedTranscript(t *testing.T) {
	t.Parallel()
	swap := func(l []string, i, j int) []string { l[i], l[j] = l[j], l[i]; return l }
	for _, c := range []struct {
		name string
		do   func(l []string) []string
		line int
		want string
	}{
		{"altered", func(l []string) []string { l[2] = strings.Replace(l[2], "Issuing 1", "Issuing 2", 1); return l }, 3, "altered"},
		{"altered time", func(l []string) []string { l[1] = strings.Replace(l[1], "09:01:00Z", "09:01:01Z", 1); return l }, 2, "altered"},
		{"altered and hashed again", func(l []string) []string {
			l[2] = rehash(t, strings.Replace(l[2], "Issuing 1", "Issuing 2", 1))
			return l
		}, 3, "replaced"},
		{"altered and chained again", func(l []string) []string {
			l[2] = strings.Replace(l[2], "Issuing 1", "Issuing 2", 1)
			return rechain(t, l, 2)
		}, 4, `the signature of "ca": it does not fit`},
		{"removed", func(l []string) []string { return append(l[:2:2], l[3:]...) }, 3, "it says that it is record 4"},
		{"removed and chained again", func(l []string) []string { return rechain(t, append(l[:2:2], l[3:]...), 2) }, 3, "does not fit"},
		{"first removed", func(l []string) []string { return l[1:] }, 1, "it says that it is record 2"},
		{"first ceremony removed", func(l []string) []string { return rechain(t, l[4:], 0) }, 3, "does not fit"},
		{"beginning cut off", func(l []string) []string {
			l[4] = rehash(t, strings.Replace(l[4], `"seq":5`, `"seq":1`, 1))
			return l[4:]
		}, 1, "the beginning is missing"},
		{"swapped", func(l []string) []string { return swap(l, 1, 2) }, 2, "it says that it is record 3"},
		{"swapped and chained again", func(l []string) []string { return rechain(t, swap(l, 1, 2), 1) }, 3, "its time is before that of record 2"},
		{"doubled", func(l []string) []string { return append(l[:3:3], l[2:]...) }, 4, "it says that it is record 3"},
		{"signature removed", func(l []string) []string { return l[:6] }, 6, "no signature follows"},
		{"custodian's signature removed", func(l []string) []string {
			i, j := strings.Index(l[3], `,{"signer":"Ada"`), strings.Index(l[3], `],"hash"`)
			l[3] = l[3][:i] + l[3][j:]
			return rechain(t, l, 3)
		}, 4, "did not sign"},
		{"other algorithm", func(l []string) []string {
			l[6] = strings.Replace(l[6], `"ed25519"`, `"rsa-sha384"`, 1)
			return rechain(t, l, 6)
		}, 7, "algorithm rsa-sha384 for a key of ed25519"},
		{"act between ceremonies", func(l []string) []string {
			return rechain(t, append(l[:4:4], l[5:]...), 4)
		}, 5, "no ceremony was begun"},
		{"foreign signature", func([]string) []string {
			tr := &Transcript{}
			must(t, tr.Begin(Ceremony{Name: "forged", Tool: "t"}, epoch))
			must(t, tr.Sign(epoch, Signer{CASigner, seeded(7)}))
			return strings.Split(strings.TrimSpace(string(tr.Bytes())), "\n")
		}, 2, "by a foreign key"},
		{"no key", func(l []string) []string {
			r, err := parseLine([]byte(l[6]))
			must(t, err)
			r.Signatures[0].Key = []byte("x")
			out, err := r.line()
			must(t, err)
			l[6] = string(bytes.TrimSpace(out))
			return rechain(t, l, 6)
		}, 7, "key cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tr, err := Parse([]byte(strings.Join(c.do(lines(t)), "\n") + "\n"))
			must(t, err)
			_, err = tr.Verify(seeded(1).Public())
			var bad *Bad
			if !errors.As(err, &bad) || bad.Line != c.line || !strings.Contains(bad.Why, c.want) {
				t.Errorf("%v, want record %d: %s", err, c.line, c.want)
			}
		})
	}
}

// What is not a transcript is refused with its line.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	l := lines(t)
	for _, c := range []struct{ name, text, want string }{
		{"empty line", l[0] + "\n\n", "record 2: not a record"},
		{"no JSON", "x\n", "record 1: not a record"},
		{"unknown member", strings.Replace(l[0], `"seq"`, `"sek"`, 1) + "\n", "unknown field"},
		{"other case", strings.Replace(l[0], `"seq"`, `"SEQ"`, 1) + "\n", "one encoding"},
		{"space", strings.Replace(l[0], `"seq":1`, `"seq": 1`, 1) + "\n", "one encoding"},
		{"member twice", strings.Replace(l[0], `"seq":1`, `"seq":1,"seq":1`, 1) + "\n", "one encoding"},
		{"two in a line", l[0] + l[1] + "\n", "one encoding"},
		{"other zone", strings.Replace(l[0], "09:00:00Z", "10:00:00+01:00", 1) + "\n", "UTC"},
		{"no time", strings.Replace(l[0], "2026-11-21T09:00:00Z", "0001-01-01T00:00:00Z", 1) + "\n", "UTC"},
		{"fraction", strings.Replace(l[0], "09:00:00Z", "09:00:00.5Z", 1) + "\n", "UTC"},
		{"no kind", `{"seq":1,"prev":"","time":"2026-11-21T09:00:00Z"}` + "\n", "want one of"},
		{"cut off", l[0] + "\n" + l[1], "record 2: the line has no end"},
		{"long line", `{"seq":1,"prev":"` + strings.Repeat("x", maxLine) + "\"}\n", "longer than"},
		{"large", strings.Repeat("x", maxSize+1), "longer than"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if tr, err := Parse(nil); err != nil || len(tr.Records()) != 0 || !tr.Last().Equal(time.Time{}) {
		t.Errorf("nothing: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f).Bytes())
	f.Add([]byte(lines(f)[3] + "\n"))
	f.Add([]byte(`{"seq":1,"prev":"","time":"2026-11-21T09:00:00Z","act":{"name":"x"}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := Parse(text)
		if err != nil {
			return
		}
		again := &bytes.Buffer{}
		for _, r := range tr.Records() {
			line, err := r.line()
			must(t, err)
			again.Write(line)
		}
		if !bytes.Equal(again.Bytes(), text) {
			t.Fatal("a second encoding of the same records was read")
		}
		_ = tr.Markdown()
		_, _ = tr.Verify()
	})
}
