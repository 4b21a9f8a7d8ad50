package quorum

import (
	"fmt"
	"strings"
	"time"
)

// Sheet is what a share's printed page says beside the share.
type Sheet struct {
	Ceremony  string    // its name
	Custodian string    // who holds the share; may be empty
	Opens     string    // what the secret opens: "Example Root, file private/ca.key"
	Date      time.Time // of the ceremony
}

// Sheet returns the page for the custodian's envelope: plain text of at most 76
// columns. It holds the share.
func (s Share) Sheet(page Sheet) string {
	var b strings.Builder
	rule := strings.Repeat("-", 72) + "\n"
	row := func(name, value string) {
		if value = clean(value); value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, value)
		}
	}
	fmt.Fprintf(&b, "PRIVYSEAL SHARE %d OF %d\n%s", s.number, s.of, rule)
	row("ceremony", page.Ceremony)
	row("date", page.Date.UTC().Format("2006-01-02"))
	row("custodian", page.Custodian)
	row("opens", page.Opens)
	row("set", s.id.String())
	row("needed", fmt.Sprintf("%d of %d shares of this set", s.need, s.of))
	b.WriteString(rule + "\n")
	for i, line := range s.Lines() {
		fmt.Fprintf(&b, "  %d | %s\n", i+1, line)
	}
	b.WriteString("\n" + rule)
	fmt.Fprintf(&b, `The last two words of each line are its checksum.

What to do with this page
- Put it into an envelope, seal it, sign over the flap, and keep it where
  only you reach it. Never in the same place as another share.
- Do not photograph, scan, copy or type it, except at a ceremony of this CA
  when you are asked for share %d. The program says at once which line was
  mistyped.
- %d shares together open the key. If this page is lost or was seen by
  somebody, say so: the others make a new set, and this page is void then.
- When this set is replaced, burn this page before witnesses.
`, s.number, s.need)
	return b.String()
}

// clean keeps a value in its line and away from the marks that ParseShare reads.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '|' {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
