package inventory

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// encoder writes one row of an export.
type encoder func(*store.Certificate) error

var csvHeader = []string{
	"id", "issuer", "serial", "status", "profile", "protocol", "requester", "subject", "names",
	"not_before", "not_after", "issued_at", "revoked_at", "revocation_reason", "fingerprint",
}

// Export writes every match to w and returns how many there were. It calls
// flushed, unless nil, before each page that goes out, so that a server can
// extend its deadline while a client keeps reading.
func (i *Inventory) Export(
	ctx context.Context, w io.Writer, format api.ExportFormat, q store.Search, flushed func(),
) (int, error) {
	if flushed == nil {
		flushed = func() {}
	}
	buffered := bufio.NewWriterSize(w, 64<<10)
	encode, flush, err := newEncoder(buffered, format)
	if err != nil {
		return 0, err
	}
	n := 0
	for c, err := range i.All(ctx, q) {
		if err != nil {
			return n, fmt.Errorf("export certificates: %w", err)
		}
		if n++; n%exportPage == 1 {
			flushed()
		}
		if err := encode(&c); err != nil {
			return n, fmt.Errorf("export certificates: %w", err)
		}
	}
	flushed()
	if err := flush(); err != nil {
		return n, fmt.Errorf("export certificates: %w", err)
	}
	return n, nil
}

// newEncoder returns the encoder of a format and what ends its output.
func newEncoder(w *bufio.Writer, format api.ExportFormat) (encoder, func() error, error) {
	switch format {
	case api.FormatJSONL:
		j := json.NewEncoder(w)
		return func(c *store.Certificate) error { return j.Encode(Record(c)) }, w.Flush, nil
	case api.FormatPEM:
		return func(c *store.Certificate) error { return encodePEM(w, c) }, w.Flush, nil
	case api.FormatCSV:
		rows := csv.NewWriter(w)
		if err := rows.Write(csvHeader); err != nil {
			return nil, nil, fmt.Errorf("export certificates: %w", err)
		}
		flush := func() error {
			rows.Flush()
			return rows.Error()
		}
		return func(c *store.Certificate) error { return rows.Write(csvRow(c)) }, func() error {
			if err := flush(); err != nil {
				return err
			}
			return w.Flush()
		}, nil
	}
	return nil, nil, fault.New(fault.Malformed, "format %q is not one of csv, jsonl, pem", string(format)).
		Because("format")
}

// encodePEM writes a certificate with a line above it that says which it is;
// readers of PEM skip such lines. Rows that were never signed are left out.
func encodePEM(w io.Writer, c *store.Certificate) error {
	if len(c.DER) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "# %s %s %s\n", c.IssuerID, c.Serial, Status(c)); err != nil {
		return err
	}
	return pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: c.DER})
}

// csvRow returns the fields of csvHeader. Every field that a requester can
// influence begins with a type or an attribute name, so that no spreadsheet
// takes it for a formula.
func csvRow(c *store.Certificate) []string {
	r := Record(c)
	names := make([]string, 0, len(r.Names))
	for _, n := range r.Names {
		names = append(names, n.Type+":"+n.Value)
	}
	return []string{
		r.ID, r.Issuer, r.Serial, string(r.Status), r.Profile, r.Protocol, r.Requester, r.Subject,
		strings.Join(names, " "),
		stamp(r.NotBefore), stamp(r.NotAfter), stamp(r.IssuedAt), stamp(r.Revocation.RevokedAt), r.Revocation.Reason,
		r.Fingerprint,
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
