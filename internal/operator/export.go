package operator

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
)

// progressEvery is how often a long export says how far it is.
const progressEvery = 2 * time.Second

// public is the mode of a file that everybody may read: certificates, requests.
const public fs.FileMode = 0o644

func (c *CLI) certExport() *cobra.Command {
	var f filter
	var format, out string
	var asJSON *bool
	return c.command(verb{
		use: "export", short: "write every match as CSV, JSON lines or PEM",
		long: `Writes every certificate that matches, streamed, so that any number fits. How far
it is goes to standard error. An export that breaks off exits 1; with --out the
file appears only when it is complete.`,
		example: `  privyseal cert export --format csv --out inventory.csv
  privyseal cert export --status issued --expires-before 30d --json | jq -r .subject
  privyseal cert export --format pem --issuer web-a-1 > all.pem`,
		flags: func(cmd *cobra.Command) {
			f.flags(cmd)
			cmd.Flags().StringVar(&format, "format", "csv", "csv, jsonl or pem")
			cmd.Flags().StringVar(&out, "out", "", "write to this file instead of standard output")
			asJSON = cmd.Flags().Bool("json", false, "the same as --format jsonl")
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if *asJSON {
				if cmd.Flags().Changed("format") && format != string(api.FormatJSONL) {
					return usagef("%s: --json and --format %s contradict each other", cmd.CommandPath(), format)
				}
				format = string(api.FormatJSONL)
			}
			formats := []api.ExportFormat{api.FormatCSV, api.FormatJSONL, api.FormatPEM}
			if !slices.Contains(formats, api.ExportFormat(format)) {
				return usagef("--format %q: want csv, jsonl or pem", format)
			}
			selected, err := f.selects(c.now())
			if err != nil {
				return err
			}
			export, err := api.ExportCertificates.Call(cmd.Context(), client, api.ExportCertificatesParams{
				Format: api.ExportFormat(format), CertificateFilter: selected,
			}, api.None{})
			if err != nil {
				return err
			}
			defer func() { _ = export.Body.Close() }()
			return c.save(cmd, export.Body, api.ExportFormat(format), out)
		},
	})
}

// save copies an export to standard output, or to a file that appears when it is
// complete.
func (c *CLI) save(cmd *cobra.Command, body io.Reader, format api.ExportFormat, path string) error {
	count := &counter{mark: []byte("\n"), now: c.now, last: c.now(),
		report: func(n int) { cmd.PrintErrf("%d certificates so far\n", n) }}
	switch format {
	case api.FormatCSV:
		count.n = -1 // the header
	case api.FormatPEM:
		count.mark = []byte("-----END")
	}
	body = io.TeeReader(body, count)
	if path == "" {
		if _, err := io.Copy(cmd.OutOrStdout(), body); err != nil {
			return fmt.Errorf("the export broke off after %d certificates: %w", max(count.n, 0), err)
		}
	} else if err := saveFile(path, body); err != nil {
		return fmt.Errorf("the export broke off after %d certificates: %w", max(count.n, 0), err)
	}
	cmd.PrintErrf("%d certificates\n", max(count.n, 0))
	return nil
}

// saveFile writes all of body to a file, or nothing.
func saveFile(path string, body io.Reader) error {
	out, err := files.Create(path, public)
	if err != nil {
		return usagef("--out: %s", err)
	}
	defer out.Discard()
	return fill(out, body)
}

func fill(out *files.Out, body io.Reader) error {
	if _, err := io.Copy(out, body); err != nil {
		return err
	}
	return out.Commit()
}

// counter counts marks in what passes, and reports now and then.
type counter struct {
	mark   []byte
	tail   []byte // the end of the last write, in case a mark is cut in two
	n      int
	now    func() time.Time
	last   time.Time
	report func(int)
}

func (c *counter) Write(p []byte) (int, error) {
	seen := append(c.tail, p...)
	c.n += bytes.Count(seen, c.mark)
	keep := min(len(seen), len(c.mark)-1)
	c.tail = bytes.Clone(seen[len(seen)-keep:])
	if now := c.now(); now.Sub(c.last) >= progressEvery {
		c.last = now
		c.report(max(c.n, 0))
	}
	return len(p), nil
}
