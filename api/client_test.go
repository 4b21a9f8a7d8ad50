package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve runs handler on a unix socket and returns a client of it.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "psapi") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	c := Dial(path)
	t.Cleanup(c.Close)
	return c
}

func TestClientSendsOnlyWhatIsSet(t *testing.T) {
	var query string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		_, _ = io.WriteString(w, `{"certificates":[]}`)
	})
	if _, err := ListCertificates.Call(t.Context(), c, ListCertificatesParams{}, None{}); err != nil || query != "" {
		t.Errorf("no parameters: query %q, %v", query, err)
	}
	p := ListCertificatesParams{
		CertificateFilter{Name: "a b&c=1", ExpiresBefore: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)},
		PageParams{Limit: 7},
	}
	if _, err := ListCertificates.Call(t.Context(), c,
		p, None{}); err != nil || query != "expires_before=2030-01-02T03%3A04%3A05Z&limit=7&name=a+b%26c%3D1" {
		t.Errorf("query %q, %v", query, err)
	}
}

func TestClientReturnsProblems(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/pem") {
			http.Error(w, "I am something else", http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"type":"about:blank","title":"Forbidden","status":403,"detail":"no","reason":"path_length"}`)
	})
	_, err := c.Issue(t.Context(), IssueRequest{})
	var p *Problem
	if !errors.As(err, &p) || p.Reason != "path_length" || !p.Refused() || err.Error() != "no (path_length)" {
		t.Errorf("a refusal came back as %v", err)
	}
	if _, err = c.PEM(t.Context(), "x", ""); !errors.As(err, &p) || p.Status != http.StatusTeapot {
		t.Errorf("an answer that is no problem document came back as %v", err)
	}
}

func TestClientTellsThatNobodyAnswers(t *testing.T) {
	c := Dial(filepath.Join(t.TempDir(), "none"))
	if _, err := GetVersion.Call(context.Background(), c, None{}, None{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no socket: %v, want ErrUnreachable", err)
	}
}

func TestClientSeesABrokenExport(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "id\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	export, err := ExportCertificates.Call(t.Context(), c, ExportCertificatesParams{Format: FormatCSV}, None{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = export.Body.Close() }()
	if _, err := io.ReadAll(export.Body); err == nil {
		t.Error("an export that broke off was read as complete")
	}
}
