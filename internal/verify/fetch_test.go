package verify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

var at = time.Now().Truncate(time.Second)

// party is a CA of a test.
type party struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newParty(t testing.TB, cn string, above *party, points ...string) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &party{key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(at.UnixNano()), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: at.Add(-time.Hour), NotAfter: at.AddDate(5, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if len(points) == 3 {
		template.CRLDistributionPoints, template.OCSPServer, template.IssuingCertificateURL = points[:1], points[1:2], points[2:]
	}
	by := p
	if above != nil {
		by = above
	} else {
		p.cert = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *party) list(t testing.TB, until time.Time) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader,
		&x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at.Add(-2 * time.Hour), NextUpdate: until}, p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (p *party) answer(t testing.TB, cert *x509.Certificate, status int, until time.Time) []byte {
	t.Helper()
	der, err := xocsp.CreateResponse(p.cert, p.cert, xocsp.Response{
		Status: status, SerialNumber: cert.SerialNumber, ThisUpdate: at.Add(-2 * time.Hour), NextUpdate: until,
		IssuerHash: crypto.SHA1,
	}, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A key that costs too much is not computed with.
func TestFT16_AnswersWithUnusableKeys(t *testing.T) {
	t.Parallel()
	root := newParty(t, "Root", nil)
	child := newParty(t, "Child", root)
	content := root.answer(t, child.cert, xocsp.Good, at.Add(time.Hour))
	if err := judgeAnswer(content, child.cert, root.cert, at); err != nil {
		t.Fatal(err)
	}
	by := *root.cert
	by.PublicKey = &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}
	err := judgeAnswer(content, child.cert, &by, at)
	if err == nil || !strings.Contains(err.Error(), "a key that is not used") {
		t.Error(err)
	}
}

// TestFT16_WhatCertificatesPointTo: what is missing, out of date or another CA's is
// found, each with its URL; nothing else is.
func TestFT16_WhatCertificatesPointTo(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	answers := map[string][]byte{}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		switch content, ok := answers[r.URL.Path]; {
		case strings.HasPrefix(r.URL.Path, "/moved"):
			http.Redirect(w, r, "/list", http.StatusFound)
		case !ok:
			http.NotFound(w, r)
		default:
			_, _ = w.Write(content)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	root, other := newParty(t, "Root", nil), newParty(t, "Other", nil)
	twin := newParty(t, "Root", nil) // its name, and another key
	next := at.AddDate(0, 1, 0)
	child := newParty(t, "Issuing", root)
	for path, content := range map[string][]byte{
		"/list": root.list(t, next), "/old": root.list(t, at.Add(-time.Hour)), "/others": other.list(t, next),
		"/twins": twin.list(t, next),
		"/junk":  []byte("<html>"), "/root.cer": root.cert.Raw, "/other.cer": other.cert.Raw,
		"/good": root.answer(t, child.cert, xocsp.Good, next), "/revoked": root.answer(t, child.cert, xocsp.Revoked, next),
		"/stale":   root.answer(t, child.cert, xocsp.Good, at.Add(-time.Hour)),
		"/unknown": root.answer(t, child.cert, xocsp.Unknown, next),
		"/refused": xocsp.UnauthorizedErrorResponse, "/stranger": other.answer(t, child.cert, xocsp.Good, next),
		"/long": bytes.Repeat([]byte("x"), maxSmall+1),
	} {
		answers[path] = content
	}
	list := func(c *x509.Certificate, path string) { c.CRLDistributionPoints = []string{path} }
	issuer := func(c *x509.Certificate, path string) { c.IssuingCertificateURL = []string{path} }
	ocsp := func(c *x509.Certificate, path string) { c.OCSPServer = []string{path} }
	for name, tt := range map[string]struct {
		put  func(*x509.Certificate, string)
		url  string
		want string // empty: no finding
	}{
		"a list":                    {list, server.URL + "/list", ""},
		"no list":                   {list, server.URL + "/crl/root-1.crl", "404 Not Found: publish the list there"},
		"an expired list":           {list, server.URL + "/old", "it has expired on"},
		"another CA's list":         {list, server.URL + "/others", "it is the list of another CA"},
		"another key's list":        {list, server.URL + "/twins", "not signed by this CA's key"},
		"no list at all":            {list, server.URL + "/junk", "no revocation list in DER"},
		"a redirect":                {list, server.URL + "/moved", "302 Found: clients follow no redirects"},
		"nobody there":              {list, "http://127.0.0.1:1/x.crl", "nothing answers"},
		"not http":                  {list, "ldap://127.0.0.1/cn=x", ""},
		"https":                     {list, "https://127.0.0.1:1/x.crl", ""},
		"with a password":           {list, "http://u:p@127.0.0.1:1/x.crl", ""},
		"an issuer":                 {issuer, server.URL + "/root.cer", ""},
		"another issuer":            {issuer, server.URL + "/other.cer", "the certificate of another CA"},
		"no issuer":                 {issuer, server.URL + "/issuers/root-1.cer", "404 Not Found: install the CA"},
		"no certificate":            {issuer, server.URL + "/junk", "no certificate in DER"},
		"an answer without end":     {issuer, server.URL + "/long", "longer than"},
		"OCSP good":                 {ocsp, server.URL + "/good", ""},
		"OCSP revoked":              {ocsp, server.URL + "/revoked", ""},
		"OCSP stale":                {ocsp, server.URL + "/stale", "its answer has expired"},
		"OCSP unknown":              {ocsp, server.URL + "/unknown", "does not know this certificate"},
		"OCSP of another CA":        {ocsp, server.URL + "/refused", "does not know this CA"},
		"OCSP signed by a stranger": {ocsp, server.URL + "/stranger", "not signed by this CA"},
		"no OCSP":                   {ocsp, server.URL + "/junk", "no OCSP response"},
	} {
		c := &check{Config: Config{Now: at}}
		cert := *child.cert
		tt.put(&cert, tt.url)
		c.fetchAll(t.Context(), c.pointersOf("issuer web-1", &cert, root.cert))
		switch {
		case tt.want == "" && len(c.report.Findings) > 0:
			t.Errorf("%s: %v", name, c.report.Findings)
		case tt.want != "" && (len(c.report.Findings) != 1 || !strings.Contains(c.report.Findings[0].What, tt.want) ||
			!strings.Contains(c.report.Findings[0].What, tt.url)):
			t.Errorf("%s: %v, want one with %q", name, c.report.Findings, tt.want)
		}
	}
}

// TestFT16_FetchIsBounded: a URL is asked once, not more than so many are, and what
// there is no time for is counted.
func TestFT16_FetchIsBounded(t *testing.T) {
	t.Parallel()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	t.Cleanup(server.Close)
	var all []pointer
	for i := range maxFetches + 5 {
		p := pointer{url: server.URL + "/" + strings.Repeat("x", i+1), limit: 1, judge: func([]byte) error { return nil }}
		all = append(all, p, p)
	}
	c := &check{}
	c.fetchAll(t.Context(), all)
	if asked != maxFetches || c.report.Fetched != maxFetches || c.report.NotFetched != 5 {
		t.Errorf("%d asked, %d counted, %d not", asked, c.report.Fetched, c.report.NotFetched)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c = &check{}
	c.fetchAll(ctx, all)
	if c.report.Fetched != 0 || c.report.NotFetched != maxFetches+5 {
		t.Errorf("without time: %+v", c.report)
	}
}

// TestFT16_VerifyFetches: from the store, the CA certificates and the newest leaf of
// each issuer are asked about, and only on request.
func TestFT16_VerifyFetches(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	s := storetest.SQLite(t)
	root := newParty(t, "Root", nil)
	issuing := newParty(t, "Issuing", root, server.URL+"/crl/root-1.crl", server.URL+"/ocsp/root-1",
		server.URL+"/issuers/root-1.cer")
	for _, r := range []store.IssuerRecord{
		{ID: "ca-1", State: "offline", Certificate: root.cert.Raw, NotAfter: root.cert.NotAfter, CreatedAt: at},
		{ID: "web-1", State: "active", ParentID: "ca-1", Certificate: issuing.cert.Raw, NotAfter: issuing.cert.NotAfter,
			CreatedAt: at},
	} {
		if err := s.PutIssuer(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	leaf := newLeaf(t, issuing, server.URL+"/crl/web-1.crl")
	_, err := s.ImportCertificates(t.Context(), []store.Certificate{{
		ID: "leaf", IssuerID: "web-1", Serial: "1000", DER: leaf.Raw, NotAfter: leaf.NotAfter, ReservedAt: at,
		KeyHash: []byte("k"),
	}}, store.Event{At: at})
	if err != nil {
		t.Fatal(err)
	}
	for _, fetch := range []bool{false, true} {
		report, err := CheckCA(t.Context(), s, Config{Now: at, Fetch: fetch})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range report.Findings {
			all = append(all, f.String())
		}
		text := strings.Join(all, "\n")
		for _, want := range []string{
			"issuer web-1: it points to the revocation list", "issuer web-1: it points to the OCSP responder",
			"issuer web-1: it points to the issuer certificate", "certificate leaf: it points to the revocation list",
		} {
			if strings.Contains(text, want) != fetch {
				t.Errorf("fetch %v: %q in the findings: %v\n%s", fetch, want, !fetch, text)
			}
		}
	}
}

func newLeaf(t testing.TB, by *party, list string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(0x1000), NotBefore: at.Add(-time.Hour),
		NotAfter: at.AddDate(0, 1, 0), CRLDistributionPoints: []string{list}}
	return pkitest.Certify(t, template, by.cert, by.key.Public(), by.key)
}

// FuzzFetched: whatever answers, it is judged and nothing panics.
func FuzzFetched(f *testing.F) {
	root := newParty(f, "Root", nil)
	child := newParty(f, "Issuing", root)
	f.Add(root.list(f, at.AddDate(0, 1, 0)))
	f.Add(root.cert.Raw)
	f.Add(root.answer(f, child.cert, xocsp.Good, at.AddDate(0, 1, 0)))
	f.Add(xocsp.TryLaterErrorResponse)
	f.Fuzz(func(_ *testing.T, content []byte) {
		_ = judgeList(content, root.cert, at)
		_ = judgeIssuer(content, root.cert)
		_ = judgeAnswer(content, child.cert, root.cert, at)
	})
}
