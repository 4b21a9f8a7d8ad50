package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// A server that cannot go on at the moment is asked again, so often and after so
// long unless it says how long.
const (
	retries   = 5
	retryWait = 2 * time.Second
)

// bulkResult is what --json prints after a revocation in bulk.
type bulkResult struct {
	Matched int64 `json:"matched"` // when it began
	Revoked int   `json:"revoked"`
	Skipped int   `json:"skipped"` // revoked by somebody else meanwhile
}

// revokeMany previews a selection, and revokes it if that is wanted.
func (c *CLI) revokeMany(cmd *cobra.Command, client *api.Client, r revocation) error {
	preview, err := api.PreviewRevocations.Call(cmd.Context(), client,
		api.None{}, api.BulkSelection{Where: r.where, Reason: r.reason})
	if err != nil {
		return err
	}
	switch {
	case r.dryRun && r.json:
		return printJSON(cmd.OutOrStdout(), preview)
	case r.dryRun:
		return showPreview(cmd.OutOrStdout(), preview, r.reason)
	case !r.yes:
		if err := showPreview(cmd.ErrOrStderr(), preview, r.reason); err != nil {
			return err
		}
		return usagef("nothing is revoked yet: say --yes to do it")
	}
	sum, err := c.revokePages(cmd, client, r, preview.Count)
	if err != nil {
		return fmt.Errorf("%s of %d revoked; the same command goes on: %w", certificates(int64(sum.Revoked)),
			preview.Count, err)
	}
	if r.json {
		return printJSON(cmd.OutOrStdout(), sum)
	}
	text := fmt.Sprintf("revoked %s for %s", certificates(int64(sum.Revoked)), r.reason)
	if sum.Skipped > 0 {
		text += fmt.Sprintf("; %d were revoked by others meanwhile", sum.Skipped)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

func showPreview(w io.Writer, p *api.RevocationPreview, reason string) error {
	if len(p.Certificates) > 0 {
		t := newTable(w, "SERIAL", "STATUS", "PROFILE", "ISSUER", "NOT AFTER", "NAMES")
		for _, cert := range p.Certificates {
			t.row(cert.Serial, string(cert.Status), cert.Profile, cert.Issuer, stamp(cert.NotAfter),
				brief(cert.Names, cert.Subject))
		}
		if err := t.end(); err != nil {
			return err
		}
	}
	if more := p.Count - int64(len(p.Certificates)); more > 0 {
		if _, err := fmt.Fprintf(w, "… and %d more\n", more); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s would be revoked for %s\n", certificates(p.Count), reason)
	return err
}

// revokePages revokes page after page. How far it is goes to standard error.
func (c *CLI) revokePages(
	cmd *cobra.Command, client *api.Client, r revocation, total int64,
) (sum bulkResult, err error) {
	sum.Matched = total
	bar := newBar(cmd.ErrOrStderr(), c.now, total)
	defer func() { bar.end() }()
	request := api.BulkRevocation{Where: r.where, Reason: r.reason, InvalidityAt: r.at}
	for {
		page, err := retry(cmd.Context(), func() (*api.RevocationPage, error) {
			return api.RevokeCertificates.Call(cmd.Context(), client, api.None{}, request)
		})
		if err != nil {
			return sum, err
		}
		sum.Revoked, sum.Skipped = sum.Revoked+page.Revoked, sum.Skipped+page.Skipped
		bar.at(int64(sum.Revoked + sum.Skipped))
		if page.Next == "" {
			return sum, nil
		}
		request.Cursor = page.Next
	}
}

// retry repeats a call that failed because something is away for a moment.
func retry[T any](ctx context.Context, call func() (*T, error)) (*T, error) {
	for try := 0; ; try++ {
		v, err := call()
		var p *api.Problem
		if err == nil || try == retries || !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable {
			return v, err
		}
		wait := retryWait
		if p.RetryAfter > 0 {
			wait = time.Duration(p.RetryAfter) * time.Second
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// bar shows how far a long act is: a line that is drawn over itself on a
// terminal, a line now and then elsewhere.
type bar struct {
	w        io.Writer
	now      func() time.Time
	terminal bool
	began    time.Time
	last     time.Time
	total    int64
	drawn    bool
}

const barWidth = 30

func newBar(w io.Writer, now func() time.Time, total int64) *bar {
	b := &bar{w: w, now: now, total: total, began: now(), last: now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		b.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return b
}

// at says that n are done.
func (b *bar) at(n int64) {
	now := b.now()
	b.total = max(b.total, n) // more may come in than there were at first
	if !b.terminal {
		if now.Sub(b.last) >= progressEvery {
			b.last = now
			_, _ = fmt.Fprintf(b.w, "%d of %d%s\n", n, b.total, b.left(n)) // nobody to tell
		}
		return
	}
	filled := barWidth
	if b.total > 0 {
		filled = int(n * barWidth / b.total)
	}
	_, _ = fmt.Fprintf(b.w, "\r[%s%s] %d of %d%s\x1b[K", strings.Repeat("=", filled),
		strings.Repeat(" ", barWidth-filled), n, b.total, b.left(n))
	b.drawn = true
}

// left estimates the time that the rest takes.
func (b *bar) left(n int64) string {
	passed := b.now().Sub(b.began)
	if n == 0 || n >= b.total || passed < time.Second {
		return ""
	}
	left := time.Duration(float64(passed) / float64(n) * float64(b.total-n))
	return fmt.Sprintf(", about %s left", left.Round(time.Second))
}

func (b *bar) end() {
	if b.drawn {
		_, _ = fmt.Fprintln(b.w)
	}
}
