package operator

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
)

const (
	batchPage    = 100 // requests in one call
	batchCalls   = 4   // at the same time
	batchRounds  = 6   // of a request that fails for now
	batchBytes   = 3 << 20
	reportEvery  = 2 * time.Second
	longestPause = 10 * time.Second
)

// batch is a run of `cert issue --batch`.
type batch struct {
	client *api.Client
	name   string
	page   api.BatchPage // profile and issuer of every page
	dir    string        // where results go as files; empty is standard output
	out    io.Writer
	asJSON bool
	errs   io.Writer
	now    func() time.Time
	began  time.Time

	mu                                 sync.Mutex
	issued, waiting, refused, recalled int
	reported                           time.Time
}

// batchFlags are those of `cert issue` that speak of batches.
type batchFlags struct{ from, name string }

func (c *CLI) issueBatch(cmd *cobra.Command, client *api.Client, f issueFlags) error {
	if f.profile == "" || f.csr != "" || f.subject != "" || len(f.names) > 0 || f.notBefore != "" ||
		f.notAfter != "" || f.out != "" || f.key.out != "" || f.dryRun {
		return usagef("%s: --batch needs --profile and takes --issuer, --batch-name and --json beside it",
			cmd.CommandPath())
	}
	b := &batch{
		client: client, name: f.batch.name, page: api.BatchPage{Profile: f.profile, Issuer: f.issuer},
		out: cmd.OutOrStdout(), asJSON: *f.asJSON, errs: cmd.ErrOrStderr(), now: c.now, began: c.now(),
	}
	source := fromStream(cmd.InOrStdin())
	if f.batch.from != "-" {
		dir, err := filepath.Abs(f.batch.from)
		if err != nil {
			return usagef("--batch: %s", err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.csr"))
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() || err != nil {
			return usagef("--batch %s: is no folder", f.batch.from)
		}
		if b.dir = dir; b.name == "" {
			b.name = batchNameOf(dir)
		}
		source = b.fromFiles(files)
	}
	if b.name == "" {
		return usagef("%s: a batch from standard input needs --batch-name; the same name again resumes it",
			cmd.CommandPath())
	}
	return b.run(cmd.Context(), source)
}

// batchNameOf makes a batch's name of its folder's.
func batchNameOf(dir string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' &&
			r <= 'Z') {
			return r
		}
		return '_'
	}, filepath.Base(dir))
}

// fromFiles reads the requests of a folder, without those whose certificate is
// there already.
func (b *batch) fromFiles(files []string) iter.Seq2[api.BatchRequest, error] {
	return func(yield func(api.BatchRequest, error) bool) {
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".csr")
			if info, err := os.Stat(b.file(name)); err == nil && info.Size() > 0 {
				b.mu.Lock()
				b.recalled++
				b.mu.Unlock()
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				err = fmt.Errorf("read certificate request: %w", err)
			}
			if !yield(api.BatchRequest{Name: name, CSR: asPEM(text)}, err) || err != nil {
				return
			}
		}
	}
}

func (b *batch) file(name string) string { return filepath.Join(b.dir, name+".pem") }

// asPEM takes what begins like DER for DER.
func asPEM(text []byte) string {
	if len(text) > 0 && text[0] == 0x30 {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: text}))
	}
	return string(text)
}

// fromStream reads JSON lines with name and csr, or PEM blocks, which are named
// by their number.
func fromStream(in io.Reader) iter.Seq2[api.BatchRequest, error] {
	return func(yield func(api.BatchRequest, error) bool) {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 2*maxCSR)
		var block strings.Builder
		n := 0
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			var r api.BatchRequest
			switch {
			case block.Len() == 0 && strings.HasPrefix(line, "{"):
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					yield(r, fmt.Errorf("line of JSON %d: %w", n+1, err))
					return
				}
			case block.Len() == 0 && line == "":
				continue
			default:
				block.WriteString(line + "\n")
				if block.Len() > maxCSR {
					yield(r, fmt.Errorf("request %d is longer than %d bytes", n+1, maxCSR))
					return
				}
				if !strings.HasPrefix(line, "-----END ") {
					continue
				}
				r.CSR = block.String()
				block.Reset()
			}
			n++
			if r.Name == "" {
				r.Name = strconv.Itoa(n)
			}
			if !yield(r, nil) {
				return
			}
		}
		err := lines.Err()
		if err == nil && block.Len() > 0 {
			err = errors.New("the last PEM block has no end")
		}
		if err != nil {
			yield(api.BatchRequest{}, fmt.Errorf("read requests: %w", err))
		}
	}
}

// run issues page after page, several at a time. What stops it is an error; what
// was issued until then is kept, and the same command goes on from there.
func (b *batch) run(ctx context.Context, source iter.Seq2[api.BatchRequest, error]) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	pages := make(chan []api.BatchRequest)
	var calls sync.WaitGroup
	for range batchCalls {
		calls.Go(func() {
			for page := range pages {
				if err := b.issue(ctx, page); err != nil {
					stop(err)
				}
			}
		})
	}
	err := feed(ctx, source, pages)
	close(pages)
	calls.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	b.report(true)
	switch {
	case err != nil:
		return fmt.Errorf("the batch broke off, run the same command again to go on: %w", err)
	case b.refused > 0:
		return fmt.Errorf("%d of the requests were refused", b.refused)
	case b.waiting > 0:
		return &api.Problem{Status: http.StatusAccepted, Identifier: api.Identifier{Type: "request"},
			Reason: "approval_pending",
			Detail: fmt.Sprintf("%d requests wait for a person's approval; run the same command again when they are "+
				"decided", b.waiting)}
	}
	return nil
}

// feed cuts the source into pages.
func feed(ctx context.Context, source iter.Seq2[api.BatchRequest, error], pages chan<- []api.BatchRequest) error {
	var page []api.BatchRequest
	size := 0
	send := func() bool {
		select {
		case pages <- page:
			page, size = nil, 0
			return true
		case <-ctx.Done():
			return false
		}
	}
	for r, err := range source {
		if err != nil {
			return err
		}
		if size += len(r.CSR) + len(r.Name) + 100; len(page) > 0 && size > batchBytes && !send() {
			return nil
		}
		if page = append(page, r); len(page) == batchPage && !send() {
			return nil
		}
	}
	if len(page) > 0 {
		send()
	}
	return nil
}

// send sends a page and returns a result for each of its requests.
func (b *batch) send(ctx context.Context, page api.BatchPage) ([]api.BatchResult, error) {
	done, err := api.IssueBatch.Call(ctx, b.client, api.BatchRef{Batch: b.name}, page)
	if err != nil {
		return nil, err
	}
	if len(done.Results) != len(page.Requests) {
		return nil, fmt.Errorf("issue batch: %d results for %d requests", len(done.Results), len(page.Requests))
	}
	return done.Results, nil
}

// issue sends a page, and again what failed for now.
func (b *batch) issue(ctx context.Context, requests []api.BatchRequest) error {
	for round := 1; len(requests) > 0; round++ {
		page := b.page
		page.Requests = requests
		results, err := b.send(ctx, page)
		if err != nil {
			return err
		}
		var again []api.BatchRequest
		pause := time.Second
		for i := range results {
			if p := &results[i].Problem; p.Status != 0 && passing(p) && round < batchRounds {
				again = append(again, requests[i])
				pause = max(pause, min(time.Duration(p.RetryAfter)*time.Second, longestPause))
				continue
			}
			if err := b.keep(&results[i]); err != nil {
				return err
			}
		}
		b.report(false)
		if requests = again; len(again) > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// passing reports whether a problem may be gone in a moment.
func passing(p *api.Problem) bool {
	return !p.Waiting() && (p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests ||
		p.Status == http.StatusAccepted)
}

// keep writes a result to where it goes.
func (b *batch) keep(r *api.BatchResult) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.Problem.Status == 0:
		b.issued++
	case r.Problem.Waiting():
		b.waiting++
		_, _ = fmt.Fprintf(b.errs, "%s: %s\n", clean(r.Name), clean(r.Problem.Detail))
	default:
		b.refused++
		_, _ = fmt.Fprintf(b.errs, "%s: refused: %s\n", clean(r.Name), clean(r.Problem.Error()))
	}
	if b.dir != "" && r.Problem.Status == 0 {
		if err := files.Write(b.file(r.Name), []byte(r.Certificate.Chain), public); err != nil {
			return fmt.Errorf("keep certificate: %w", err)
		}
	}
	switch {
	case b.asJSON:
		return json.NewEncoder(b.out).Encode(r)
	case b.dir == "" && r.Problem.Status == 0:
		_, err := io.WriteString(b.out, r.Certificate.Chain)
		return err
	}
	return nil
}

// report says how far it is, on standard error.
func (b *batch) report(last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if !last && now.Sub(b.reported) < reportEvery {
		return
	}
	b.reported = now
	took := now.Sub(b.began)
	parts := []string{fmt.Sprintf("%d issued", b.issued)}
	for _, part := range []struct {
		n    int
		what string
	}{{b.recalled, "there already"}, {b.waiting, "waiting for approval"}, {b.refused, "refused"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	rate := float64(b.issued) / max(took.Seconds(), 0.001)
	_, _ = fmt.Fprintf(b.errs, "%s in %s: %.0f/s\n", strings.Join(parts, ", "), took.Round(100*time.Millisecond), rate)
}
