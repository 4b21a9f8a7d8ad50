package challenge

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
)

// Limits of http-01 (A52, A53).
const (
	maxBody      = 512 // a key authorization has 87 characters
	maxHeader    = 16 << 10
	maxRedirects = 10
	maxURI       = 2000
	userAgent    = "Privyseal-Validation/1"
)

var tooLong = fmt.Sprintf("longer than %d octets", maxURI)

// target is what is to be fetched.
type target struct {
	*url.URL
	// via is empty, or the last URL that may be told: this one stood in the answer of a
	// host that is at no address of the identifier, and is content of it like a page.
	via string
}

// String names the target to the client.
func (g target) String() string {
	if g.via != "" {
		return "what " + g.via + " redirects to"
	}
	return quote(g.URL.String())
}

// http01 fetches the key authorization from a well-known URL (RFC 8555,
// section 8.3) and follows redirects under the rules of A53. Each hop is
// resolved and vetted anew. What a host says is quoted only if it is at an address
// of the identifier: a redirect may lead into networks that the client cannot see.
func (v *Validator) http01(ctx context.Context, t Task, rec *Record) error {
	at, _ := t.Expected()
	first, err := url.Parse(at)
	if err != nil {
		return fault.Wrap(fault.Malformed, err, "the identifier and token make no URL")
	}
	to := target{URL: first}
	seen := map[string]bool{first.String(): true}
	for hops := 0; ; hops++ {
		next, err := v.fetch(ctx, to, hops == 0, t, rec)
		if err != nil || next.URL == nil {
			return to.hide(err)
		}
		if hops == maxRedirects {
			return fault.New(fault.Connection, "more than %d redirects", maxRedirects).Because("redirects")
		}
		if seen[next.URL.String()] {
			return fault.New(fault.Connection, "the redirects go in a circle at %s", next).Because("redirects")
		}
		seen[next.URL.String()] = true
		to = next
	}
}

// hide leaves of an error about a target that may not be told what kind it is. The
// whole of it is for the log.
func (g target) hide(err error) error {
	if err == nil || g.via == "" {
		return err
	}
	f := *fault.Of(err)
	f.Detail, f.Err = fmt.Sprintf("%s does not answer with the key authorization; why not is told to nobody but the "+
		"operator, because that redirect is not from an address of the identifier", g), err
	return &f
}

// fetch makes one request. It returns where to go next, or nothing when the right
// answer was read.
func (v *Validator) fetch(
	ctx context.Context, to target, first bool, t Task, rec *Record,
) (next target, err error) {
	port, err := v.port(to.URL)
	if err != nil {
		return next, err
	}
	rec.Hops = append(rec.Hops, Hop{URL: to.URL.String()})
	hop := &rec.Hops[len(rec.Hops)-1]
	conn, err := v.dialer.connect(ctx, to.Hostname(), port, first, hop, t.Admit)
	if err != nil {
		return next, err
	}
	defer func() { _ = conn.Close() }()
	p := page{
		from: to, where: to.String() + " at " + hop.Used.String(),
		own: slices.Contains(rec.Hops[0].Resolved, hop.Used),
	}
	resp, err := request(ctx, conn, to.URL)
	if err != nil {
		return next, p.requestFault(err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return next, p.compareBody(resp.Body, t.KeyAuthorization)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return v.redirect(p, resp.Header.Get("Location"))
	default:
		return next, fault.New(fault.IncorrectResponse, "%s answered with status %d, want 200",
			p.where, resp.StatusCode).Because("http_status")
	}
}

// page is an answer that is being read.
type page struct {
	from  target
	where string // its target and address, for the client
	own   bool   // it is from an address of the identifier, and may be quoted
}

// quote quotes what the page says, if the client may know it.
func (p page) quote(s string) string {
	if p.own {
		return quote(s)
	}
	return "something that is not quoted, because that is no address of the identifier"
}

// port returns the port to connect to for a URL. The standard ports and those
// configured are the same thing, so that redirects work in development too.
func (v *Validator) port(u *url.URL) (uint16, error) {
	standard, configured := "80", v.cfg.HTTPPort
	if u.Scheme == "https" {
		standard, configured = "443", v.cfg.TLSPort
	}
	if p := u.Port(); p != "" && p != standard && p != strconv.Itoa(configured) {
		return 0, fault.New(fault.Connection, "the URL has the port %s; only ports 80 and 443 are followed",
			p).Because("redirects")
	}
	return uint16(configured), nil
}

// request sends one GET over conn and reads the header of the answer.
func request(ctx context.Context, conn net.Conn, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"User-Agent": {userAgent}, "Accept": {"*/*"}}
	req.Close = true
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableCompression:     true, // a body that swells is no use here
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
		// The certificate is what the client is about to get, so none is
		// required yet (RFC 8555, section 8.3).
		//nolint:gosec // see above
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
	}
	return transport.RoundTrip(req)
}

// requestFault tells TLS trouble from a connection that broke.
func (p page) requestFault(err error) error {
	if what, ok := tlsReason(err); ok && p.from.Scheme == "https" {
		return fault.Wrap(fault.TLS, err, "TLS handshake with "+p.where+": "+what)
	}
	what := netReason(err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		what = "closed without an answer"
	}
	if strings.Contains(err.Error(), "malformed HTTP") || strings.Contains(err.Error(), "headers exceeded") {
		what = "the answer is not HTTP, or its header is too long"
	}
	return fault.Wrap(fault.Connection, err, "fetch "+p.where+": "+what)
}

// compareBody reads at most maxBody octets and compares them with the key
// authorization. White space at the end does not count (RFC 8555, section 8.3).
func (p page) compareBody(r io.Reader, want string) error {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return fault.Wrap(fault.Connection, err, "read the answer of "+p.where+": "+netReason(err))
	}
	if len(body) > maxBody {
		return fault.New(fault.IncorrectResponse, "the answer of %s is longer than %d octets and begins with %s",
			p.where, maxBody, p.quote(string(body))).Because("body_too_long")
	}
	got := bytes.TrimRight(body, " \t\r\n\v\f")
	if subtle.ConstantTimeCompare(got, []byte(want)) != 1 {
		return fault.New(fault.IncorrectResponse, "the answer of %s is not the key authorization %s, but %s",
			p.where, want, p.other(string(got), want)).Because("wrong_key_authorization")
	}
	return nil
}

// other says what a page holds instead of the key authorization, from where on they
// differ if it is that of another key.
func (p page) other(got, want string) string {
	token, _, _ := strings.Cut(want, ".")
	if thumbprint, ok := strings.CutPrefix(got, token+"."); ok && p.own {
		return "has the thumbprint " + quote(thumbprint) + ", which is that of another account's key or of a former one"
	}
	return p.quote(got)
}

// redirect resolves a Location and checks it (A53).
func (v *Validator) redirect(p page, location string) (next target, err error) {
	refuse := func(why string) (target, error) {
		return next, fault.New(fault.Connection, "%s redirects to %s: %s",
			p.where, p.quote(location), why).Because("redirects")
	}
	if location == "" {
		return next, fault.New(fault.Connection, "%s redirects without saying where", p.where).Because("redirects")
	}
	if len(location) > maxURI {
		return refuse(tooLong)
	}
	to, err := p.from.Parse(location)
	if err != nil {
		return refuse("not a URL")
	}
	to.Fragment, to.RawFragment = "", ""
	to.Host = strings.ToLower(to.Host)
	_, badPort := v.port(to)
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return refuse("only http and https are followed")
	case to.User != nil:
		return refuse("user names are not followed")
	case len(to.RequestURI()) > maxURI:
		return refuse(tooLong)
	case !isHost(to.Hostname()):
		return refuse("the host is neither a domain name nor an address")
	case badPort != nil:
		return refuse("only ports 80 and 443 are followed")
	}
	next = target{URL: to, via: p.from.via}
	if next.via == "" && !p.own {
		next.via = quote(p.from.URL.String())
	}
	return next, nil
}

// isHost reports whether a redirect's host can be looked up: an address without
// a zone, or labels of letters, digits, hyphens and underscores.
func isHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == ""
	}
	return len(host) <= 253 && !slices.ContainsFunc(strings.Split(host, "."), func(label string) bool {
		return label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != ""
	})
}

// urlHost brackets an IPv6 address (A52).
func urlHost(value string) string {
	if ip, err := netip.ParseAddr(value); err == nil && ip.Is6() {
		return "[" + value + "]"
	}
	return value
}
