package transcript

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/internal/pki"
)

// Markdown renders the transcript for the binder: every value of every record,
// ceremony by ceremony. It is for reading; only the file itself can be verified.
func (t *Transcript) Markdown() string {
	var b strings.Builder
	b.WriteString("# Transcript\n\n")
	fmt.Fprintf(&b, "%d records. Head: `%s`\n", len(t.records), t.Head())
	for _, r := range t.records {
		at := r.Time.UTC().Format("2006-01-02 15:04:05 UTC")
		switch {
		case r.Ceremony != nil:
			r.Ceremony.markdown(&b, at)
		case r.Act != nil:
			r.Act.markdown(&b, r.Seq, at)
		default:
			fmt.Fprintf(&b, "\n### Signed %s\n\n", at)
			for _, s := range r.Signatures {
				fmt.Fprintf(&b, "- %s: %s with key SHA-256 `%s`\n", escape(s.Signer), escape(s.Algorithm),
					pki.Fingerprint(s.Key))
			}
		}
		fmt.Fprintf(&b, "\nRecord %d: `%s`\n", r.Seq, r.Hash)
	}
	return b.String()
}

func (c *Ceremony) markdown(b *strings.Builder, at string) {
	fmt.Fprintf(b, "\n## %s\n\n", escape(c.Name))
	reason := c.Reason
	if reason == "" {
		reason = "NONE GIVEN"
	}
	rows(b, [][2]string{
		{"begun", at}, {"CA", escape(c.CA)}, {"reason", escape(reason)}, {"tool", escape(c.Tool)},
		{"tool, SHA-256", code(c.ToolHash)},
		{"configuration", escape(c.Configuration)}, {"configuration, SHA-256", code(c.ConfigHash)},
	})
	if len(c.Custodians) > 0 {
		b.WriteString("\nPresent:\n\n")
	}
	for _, p := range c.Custodians {
		key := ""
		if p.Key != nil {
			key = ", signs with key SHA-256 `" + pki.Fingerprint(p.Key) + "`"
		}
		fmt.Fprintf(b, "- %s%s\n", escape(p.Name), key)
	}
	if len(c.Warnings) > 0 {
		b.WriteString("\nWarnings that were accepted:\n\n")
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(b, "- %s\n", escape(w))
	}
}

func (a *Act) markdown(b *strings.Builder, seq int, at string) {
	title := a.Name
	if a.Failed != "" {
		title += ": NOT DONE"
	}
	fmt.Fprintf(b, "\n### %d. %s\n\n", seq, escape(title))
	shares := make([]string, len(a.Shares))
	for i, n := range a.Shares {
		shares[i] = strconv.Itoa(n)
	}
	rows(b, [][2]string{
		{"at", at}, {"failed", escape(a.Failed)}, {"reason", escape(a.Reason)}, {"subject", escape(a.Subject)},
		{"issuer", escape(a.Issuer)},
		{"serial", code(a.Serial)}, {"key, SHA-256", code(a.Key)}, {"request, SHA-256", code(a.Request)},
		{"certificate, SHA-256", code(a.Certificate)}, {"list, SHA-256", code(a.CRL)},
		{"list number", escape(a.CRLNumber)},
		{"set of shares", escape(a.Quorum)}, {"shares", strings.Join(shares, ", ")},
		{"confirmed by", escape(strings.Join(a.Custodians, ", "))}, {"note", escape(a.Note)},
	})
}

// rows writes a table of those values that are there.
func rows(b *strings.Builder, table [][2]string) {
	b.WriteString("| | |\n|---|---|\n")
	for _, row := range table {
		if row[1] != "" {
			fmt.Fprintf(b, "| %s | %s |\n", row[0], row[1])
		}
	}
}

// escape keeps a value from being read as Markdown or HTML.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_{}[]<>()#|!~&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// code shows a hexadecimal value.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(s, "`", "'") + "`"
}
