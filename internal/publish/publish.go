// Package publish serves CA certificates and revocation lists over plain HTTP: what
// a client fetches while it checks a certificate cannot need TLS.
package publish

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

// Publisher answers for the CAs that it was given last.
type Publisher struct {
	lists *crl.Publisher
	cas   ca.Current
}

// New returns a Publisher of lists, and of no CA yet.
func New(lists *crl.Publisher) *Publisher { return &Publisher{lists: lists} }

// Swap puts the CAs whose certificates are published in the place of others.
func (p *Publisher) Swap(cas *ca.Set) { p.cas.Store(cas) }

// find returns the chain of an installed CA by an id of its own.
func (p *Publisher) find(id string) ([]*x509.Certificate, error) {
	if chain := p.cas.Load().ChainOf(id); len(chain) > 0 {
		return chain, nil
	}
	return nil, fault.New(fault.NotFound, "there is no issuer of this name")
}

// Routes serves /issuers, /roots and /crl.
func (p *Publisher) Routes() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.GetHead)
	text := func(h web.HandlerFunc) http.HandlerFunc { return web.Handler(h, web.RenderText) }
	r.Get("/issuers/{issuer}.cer", text(p.certificate))
	r.Get("/issuers/{issuer}/chain.pem", text(p.chain))
	r.Get("/roots/{issuer}.cer", text(p.rootCertificate))
	r.Get("/roots.pem", text(p.rootsPEM))
	r.Get("/roots", text(p.rootsPage))
	r.Get("/crl/{issuer}.crl", text(p.list))
	r.Get("/crl/{issuer}/{shard}.crl", text(p.list))
	return r
}

// caFor is how long a cache may keep a CA certificate.
const caFor = 24 * time.Hour

func (p *Publisher) certificate(w http.ResponseWriter, r *http.Request) error {
	chain, err := p.find(chi.URLParam(r, "issuer"))
	if err != nil {
		return err
	}
	serve(w, r, "application/pkix-cert", chain[0].Raw, chain[0].NotBefore, caFor)
	return nil
}

func (p *Publisher) rootCertificate(w http.ResponseWriter, r *http.Request) error {
	chain, err := p.find(chi.URLParam(r, "issuer"))
	if err != nil {
		return err
	}
	if len(chain) > 1 {
		return fault.New(fault.NotFound, "this issuer is not a root")
	}
	serve(w, r, "application/pkix-cert", chain[0].Raw, chain[0].NotBefore, caFor)
	return nil
}

func (p *Publisher) chain(w http.ResponseWriter, r *http.Request) error {
	chain, err := p.find(chi.URLParam(r, "issuer"))
	if err != nil {
		return err
	}
	serve(w, r, "application/pem-certificate-chain", encode(chain), chain[0].NotBefore, caFor)
	return nil
}

func (p *Publisher) rootsPEM(w http.ResponseWriter, r *http.Request) error {
	var roots []*x509.Certificate
	for _, c := range p.cas.Load().All() {
		if c.Root() {
			roots = append(roots, c.InForce()...)
		}
	}
	if len(roots) == 0 {
		return fault.New(fault.NotFound, "no root is installed yet")
	}
	serve(w, r, "application/x-pem-file", encode(roots), time.Time{}, time.Hour)
	return nil
}

// list serves the newest revocation list of an issuer or of one of its shards.
func (p *Publisher) list(w http.ResponseWriter, r *http.Request) error {
	name := chi.URLParam(r, "issuer")
	if shard := chi.URLParam(r, "shard"); shard != "" {
		name += "/" + shard
	}
	return p.lists.Serve(w, r, name)
}

// serve answers conditional and range requests too.
func serve(
	w http.ResponseWriter, r *http.Request, contentType string, content []byte, modified time.Time, keep time.Duration,
) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("ETag", `"`+pki.Fingerprint(content)[:32]+`"`)
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(keep.Seconds())))
	http.ServeContent(w, r, "", modified, bytes.NewReader(content))
}

func encode(certs []*x509.Certificate) []byte {
	ders := make([][]byte, len(certs))
	for i, c := range certs {
		ders[i] = c.Raw
	}
	return pki.EncodeChain(ders...)
}

var rootsTemplate = template.Must(template.New("roots").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Root certificates</title>
<h1>Root certificates</h1>
<p>Install a root only if its SHA-256 fingerprint is the one that you were given by another way.
All of them in one file: <a href="/roots.pem">roots.pem</a>.</p>
<table>
<tr><th>Name<th>Valid until<th>SHA-256<th>Download
{{range .}}<tr><td>{{.Name}}<td>{{.Until}}<td><code>{{.SHA256}}</code><td><a href="/roots/{{.ID}}.cer">{{.ID}}.cer</a>
{{else}}<tr><td colspan="4">No root is installed yet.
{{end}}</table>
`))

func (p *Publisher) rootsPage(w http.ResponseWriter, r *http.Request) error {
	type row struct{ ID, Name, Until, SHA256 string }
	var rows []row
	for _, id := range p.cas.Load().Installed() {
		chain := p.cas.Load().ChainOf(id)
		if len(chain) > 1 {
			continue
		}
		c := chain[0]
		until := c.NotAfter.UTC().Format(time.DateOnly)
		rows = append(rows, row{id, c.Subject.String(), until, colons(pki.Fingerprint(c.Raw))})
	}
	var page bytes.Buffer
	if err := rootsTemplate.Execute(&page, rows); err != nil {
		return fmt.Errorf("render roots: %w", err)
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	serve(w, r, "text/html; charset=utf-8", page.Bytes(), time.Time{}, time.Hour)
	return nil
}

// colons writes a hex fingerprint as openssl does: AB:CD:….
func colons(fingerprint string) string {
	raw, err := hex.DecodeString(fingerprint)
	if err != nil {
		return fingerprint
	}
	return strings.ReplaceAll(fmt.Sprintf("% X", raw), " ", ":")
}
