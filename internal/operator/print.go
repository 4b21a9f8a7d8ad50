package operator

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/privyseal/privyseal/api"
)

// table prints aligned columns under upper-case headings.
type table struct {
	out   io.Writer
	text  bytes.Buffer
	w     *tabwriter.Writer // into text
	notes [][]string        // by row, the headings first
}

func newTable(w io.Writer, heads ...string) *table {
	t := &table{out: w}
	t.w = tabwriter.NewWriter(&t.text, 0, 0, 2, ' ', 0)
	t.row(heads...)
	return t
}

func (t *table) row(cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
	}
	_, _ = fmt.Fprintln(t.w, strings.Join(cells, "\t")) // Flush reports what failed
	t.notes = append(t.notes, nil)
}

// note puts a line below the last row that has no part in the columns.
func (t *table) note(text string) {
	last := len(t.notes) - 1
	t.notes[last] = append(t.notes[last], "  "+clean(text)+"\n")
}

func (t *table) end() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("print table: %w", err)
	}
	for i, line := range slices.Collect(strings.Lines(t.text.String())) {
		if _, err := io.WriteString(t.out, line+strings.Join(t.notes[i], "")); err != nil {
			return fmt.Errorf("print table: %w", err)
		}
	}
	return nil
}

// sheet prints one thing: a name and a value on each line; empty values are
// left out.
type sheet struct{ w *tabwriter.Writer }

func newSheet(w io.Writer) *sheet { return &sheet{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (s *sheet) line(name string, values ...string) {
	for i, v := range values {
		if v == "" {
			continue
		}
		if i > 0 {
			name = ""
		}
		_, _ = fmt.Fprintf(s.w, "%s\t%s\n", name, clean(v))
	}
}

func (s *sheet) end() error {
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// clean keeps what others wrote from moving the terminal's cursor.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func names(ids []api.Identifier) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, id.Type+":"+id.Value)
	}
	return out
}

// brief shows names in one cell.
func brief(ids []api.Identifier, subject string) string {
	switch len(ids) {
	case 0:
		return subject
	case 1, 2, 3:
		values := make([]string, 0, len(ids))
		for _, id := range ids {
			values = append(values, id.Value)
		}
		return strings.Join(values, ",")
	}
	return fmt.Sprintf("%s,%s and %d more", ids[0].Value, ids[1].Value, len(ids)-2)
}

// parseTime reads a point in time: RFC 3339, a date (its first instant in UTC),
// or a span from now such as 36h or 30d.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil {
			return now.AddDate(0, 0, n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	return time.Time{}, usagef("--%s %q: want a time such as 2027-01-31T12:00:00Z, a date such as 2027-01-31, or a "+
		"span from now such as 36h or 30d", flag, text)
}
