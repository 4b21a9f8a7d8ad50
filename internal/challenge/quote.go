package challenge

import "strings"

// maxQuote is the most that an error text shows of a stranger's bytes.
const maxQuote = 80

// quote puts at most maxQuote characters of s between quotation marks.
// Everything but printable ASCII becomes a question mark, so that the text is
// harmless in logs, terminals and JSON.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	n := 0
	for _, r := range s {
		if n == maxQuote {
			b.WriteString("…")
			break
		}
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			r = '?'
		}
		b.WriteRune(r)
		n++
	}
	b.WriteByte('"')
	return b.String()
}
