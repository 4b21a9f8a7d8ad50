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

// http01 fetches the key authorization from a well-known URL (RFC 8555,
// section 8.3) and follows redirects under the rules of A53. Each hop is
// resolved and vetted anew.
func (v *Validator) http01(ctx context.Context, t Task, rec *Record) error {
	target, err := url.Parse("http://" + urlHost(t.Identifier.Value) + "/.well-known/acme-challenge/" + t.Token)
	if err != nil {
		return fault.Wrap(fault.Malformed, err, "the identifier and token make no URL")
	}
	seen := map[string]bool{target.String(): true}
	for hops := 0; ; hops++ {
		next, err := v.fetch(ctx, target, hops == 0, t, rec)
		if err != nil || next == nil {
			return err
		}
		if hops == maxRedirects {
			return fault.New(fault.Connection, "more than %d redirects", maxRedirects).Because("redirects")
		}
		if seen[next.String()] {
			return fault.New(fault.Connection, "the redirects go in a circle at %s", quote(next.String())).Because("redirects")
		}
		seen[next.String()] = true
		target = next
	}
}

// fetch makes one request. It returns where to go next, or nil when the right
// answer was read.
func (v *Validator) fetch(ctx context.Context, u *url.URL, first bool, t Task, rec *Record) (*url.URL, error) {
	port, err := v.port(u)
	if err != nil {
		return nil, err
	}
	rec.Hops = append(rec.Hops, Hop{URL: u.String()})
	hop := &rec.Hops[len(rec.Hops)-1]
	conn, err := v.dialer.connect(ctx, u.Hostname(), port, first, hop, t.Admit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	resp, err := request(ctx, conn, u)
	if err != nil {
		return nil, requestFault(u, hop, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil, compareBody(u, resp.Body, t.KeyAuthorization)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return v.redirect(u, resp.Header.Get("Location"))
	default:
		return nil, fault.New(fault.IncorrectResponse, "%s answered with status %d, want 200",
			quote(u.String()), resp.StatusCode).Because("http_status")
	}
}

// port returns the port to connect to for a URL. The standard ports and those
// configured are the same thing, so that redirects work in development too.
func (v *Validator) port(u *url.URL) (uint16, error) {
	standard, configured := "80", v.cfg.HTTPPort
	if u.Scheme == "https" {
		standard, configured = "443", v.cfg.TLSPort
	}
	if p := u.Port(); p != "" && p != standard && p != strconv.Itoa(configured) {
		return 0, fault.New(fault.Connection, "the redirect goes to port %s; only ports 80 and 443 are followed", p).Because("redirects")
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
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // see above
	}
	return transport.RoundTrip(req)
}

// requestFault tells TLS trouble from a connection that broke.
func requestFault(u *url.URL, hop *Hop, err error) error {
	where := quote(u.String()) + " at " + hop.Used.String()
	if what, ok := tlsReason(err); ok && u.Scheme == "https" {
		return fault.Wrap(fault.TLS, err, "TLS handshake with "+where+": "+what)
	}
	what := netReason(err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		what = "closed without an answer"
	}
	if strings.Contains(err.Error(), "malformed HTTP") || strings.Contains(err.Error(), "headers exceeded") {
		what = "the answer is not HTTP, or its header is too long"
	}
	return fault.Wrap(fault.Connection, err, "fetch "+where+": "+what)
}

// compareBody reads at most maxBody octets and compares them with the key
// authorization. White space at the end does not count (RFC 8555, section 8.3).
func compareBody(u *url.URL, r io.Reader, want string) error {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return fault.Wrap(fault.Connection, err, "read the answer of "+quote(u.String())+": "+netReason(err))
	}
	if len(body) > maxBody {
		return fault.New(fault.IncorrectResponse, "the answer of %s is longer than %d octets and begins with %s",
			quote(u.String()), maxBody, quote(string(body))).Because("body_too_long")
	}
	got := bytes.TrimRight(body, " \t\r\n\v\f")
	if subtle.ConstantTimeCompare(got, []byte(want)) != 1 {
		return fault.New(fault.IncorrectResponse, "the answer of %s is not the key authorization, but %s",
			quote(u.String()), quote(string(got))).Because("wrong_key_authorization")
	}
	return nil
}

// redirect resolves a Location and checks it (A53).
func (v *Validator) redirect(from *url.URL, location string) (*url.URL, error) {
	refuse := func(format string, args ...any) (*url.URL, error) {
		return nil, fault.New(fault.Connection, "%s redirects to %s: %s",
			quote(from.String()), quote(location), fmt.Sprintf(format, args...)).Because("redirects")
	}
	if location == "" {
		return nil, fault.New(fault.Connection, "%s redirects without saying where", quote(from.String())).Because("redirects")
	}
	if len(location) > maxURI {
		return refuse("longer than %d octets", maxURI)
	}
	to, err := from.Parse(location)
	if err != nil {
		return refuse("not a URL")
	}
	to.Fragment, to.RawFragment = "", ""
	to.Host = strings.ToLower(to.Host)
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return refuse("only http and https are followed")
	case to.User != nil:
		return refuse("user names are not followed")
	case len(to.RequestURI()) > maxURI:
		return refuse("longer than %d octets", maxURI)
	case !isHost(to.Hostname()):
		return refuse("the host is neither a domain name nor an address")
	}
	if _, err := v.port(to); err != nil {
		return nil, err
	}
	return to, nil
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
