package verify

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/store"
)

// The bounds of what is fetched: certificates of other CAs say where.
const (
	maxFetches   = 200
	fetchTime    = 10 * time.Second // for one
	fetchAllTime = 2 * time.Minute
	maxFetched   = 32 << 20 // octets of a list
	maxSmall     = 64 << 10 // octets of a certificate or an OCSP answer
	maxHeader    = 16 << 10
)

const kindList = "revocation list"

// pointer is a URL in a certificate and what should be there.
type pointer struct {
	subject string // as in findings
	kind    string // of what is there
	url     string
	body    []byte // to POST; nil for GET
	limit   int64
	judge   func(content []byte) error
}

// pointers is a part of invariant 3, seen from outside: what the CA certificates and
// the newest certificate of each CA point to is there, is new enough and is the right
// CA's. Only plain http is asked, directly; redirects are not followed, as many clients
// do not.
func (c *check) pointers(ctx context.Context) error {
	rows, err := c.store.Issuers(ctx)
	if err != nil {
		return err
	}
	var all []pointer
	for _, row := range rows {
		chain := c.chains[row.ID]
		if len(chain) == 0 {
			continue
		}
		if len(chain) > 1 {
			all = append(all, c.pointersOf("issuer "+row.ID, chain[0], chain[1])...)
		}
		leaf, err := c.newest(ctx, row.ID)
		if err != nil {
			return err
		}
		if leaf != nil {
			all = append(all, c.pointersOf("certificate "+leaf.row.ID, leaf.cert, chain[0])...)
		}
	}
	c.fetchAll(ctx, all)
	return nil
}

// stored is a certificate with its row.
type stored struct {
	row  store.Certificate
	cert *x509.Certificate
}

// newest returns the newest certificate of an issuer that still lives and points
// anywhere; nil if there is none among the last ones.
func (c *check) newest(ctx context.Context, issuerID string) (*stored, error) {
	const looked = 20
	rows, _, err := c.store.SearchCertificates(ctx, store.Search{Issuer: issuerID, ExpiresAfter: c.Now, Limit: looked})
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		cert, err := x509.ParseCertificate(row.DER)
		if err != nil || cert.IsCA {
			continue
		}
		if len(cert.CRLDistributionPoints)+len(cert.OCSPServer)+len(cert.IssuingCertificateURL) == 0 {
			continue
		}
		return &stored{row, cert}, nil
	}
	return nil, nil
}

func (c *check) pointersOf(subject string, cert, by *x509.Certificate) []pointer {
	if c.Now.After(cert.NotAfter) {
		return nil
	}
	var all []pointer
	list := func(content []byte) error { return judgeList(content, by, c.Now) }
	for _, at := range cert.CRLDistributionPoints {
		all = append(all, pointer{subject: subject, kind: kindList, url: at, limit: maxFetched, judge: list})
	}
	issuer := func(content []byte) error { return judgeIssuer(content, by) }
	for _, at := range cert.IssuingCertificateURL {
		all = append(all, pointer{subject: subject, kind: "issuer certificate", url: at, limit: maxSmall,
			judge: issuer})
	}
	ask, err := xocsp.CreateRequest(cert, by, nil)
	if err != nil {
		return all // a key that cannot be written down is said elsewhere
	}
	answer := func(content []byte) error { return judgeAnswer(content, cert, by, c.Now) }
	for _, at := range cert.OCSPServer {
		all = append(all, pointer{
			subject: subject, kind: "OCSP responder", url: at, body: ask, limit: maxSmall, judge: answer,
		})
	}
	return all
}

// fetchAll asks for each URL once, and for as many as there is time for.
func (c *check) fetchAll(ctx context.Context, all []pointer) {
	ctx, cancel := context.WithTimeout(ctx, fetchAllTime)
	defer cancel()
	client := &http.Client{
		Timeout: fetchTime,
		Transport: &http.Transport{
			MaxResponseHeaderBytes: maxHeader, DisableCompression: true, DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	seen := map[string]bool{}
	for _, p := range all {
		u, err := url.Parse(p.url)
		if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil {
			continue // ldap and https are for those who can
		}
		key := p.kind + " " + p.url + " " + string(p.body)
		if seen[key] {
			continue
		}
		seen[key] = true
		if c.report.Fetched >= maxFetches || ctx.Err() != nil {
			c.report.NotFetched++
			continue
		}
		c.report.Fetched++
		content, err := fetch(ctx, client, p)
		if err == nil {
			err = p.judge(content)
		}
		if err != nil {
			c.find(3, p.subject, "it points to the %s %q: %v", p.kind, p.url, err)
		}
	}
}

func fetch(ctx context.Context, client *http.Client, p pointer) ([]byte, error) {
	method := http.MethodGet
	if p.body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, p.url, bytes.NewReader(p.body))
	if err != nil {
		return nil, errors.New("it is no URL that can be asked")
	}
	if p.body != nil {
		r.Header.Set("Content-Type", "application/ocsp-request")
	}
	res, err := client.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL, which is said already
		}
		return nil, fmt.Errorf("nothing answers: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %d %s%s",
			res.StatusCode, http.StatusText(res.StatusCode), hint(res.StatusCode, p.kind))
	}
	content, err := io.ReadAll(io.LimitReader(res.Body, p.limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer breaks off: %w", err)
	case int64(len(content)) > p.limit:
		return nil, fmt.Errorf("the answer is longer than %d octets", p.limit)
	}
	return content, nil
}

// hint says what can be done about a status.
func hint(status int, kind string) string {
	switch {
	case status == http.StatusNotFound && kind == kindList:
		return ": publish the list there (privyseal crl import), or install the CA that signs it under the id in the " +
			"URL"
	case status == http.StatusNotFound:
		return ": install the CA under the id in this URL, or let what serves the host pass it on"
	case status >= 300 && status < 400:
		return ": clients follow no redirects"
	}
	return ""
}

// judgeIssuer reads the certificate of a CA. A bag of certificates is left to clients
// that read one.
func judgeIssuer(content []byte, by *x509.Certificate) error {
	got, err := x509.ParseCertificate(content)
	if err != nil {
		if bytes.Contains(content[:min(len(content), 32)], oidSignedData) {
			return nil
		}
		return errors.New("it is no certificate in DER")
	}
	if !ca.SameCA(got, by) {
		return fmt.Errorf("it is the certificate of another CA, %q", strings.ToValidUTF8(got.Subject.String(), "?"))
	}
	return nil
}

// oidSignedData is 1.2.840.113549.1.7.2 in DER (RFC 5652, section 5.1).
var oidSignedData = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
