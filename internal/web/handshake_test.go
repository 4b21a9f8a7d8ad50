package web

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

func rsaCertificate(t *testing.T, serial int64) *tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	leaf := pkitest.Certify(t, tmpl, tmpl, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// onlyRSA is a device that knows no signature but RSA's.
func onlyRSA() *tls.Config {
	return &tls.Config{ //nolint:gosec // reads the certificate only
		InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, ServerName: "whatever.test",
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
	}
}

// upTo is a client of that version of TLS at most.
func upTo(version uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version} //nolint:gosec // as above
}

// handshake is what a client gets: the serial of the certificate, or an error.
func handshake(t *testing.T, b bench, cfg *tls.Config) (int64, error) {
	t.Helper()
	c := dialFrom(t, b, "127.0.0.1")
	defer c.Close()
	secured := tls.Client(c, cfg)
	if err := secured.HandshakeContext(t.Context()); err != nil {
		return 0, err
	}
	return secured.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// TestFR8_BothKinds: each client gets the certificate that it can verify.
func TestFR8_BothKinds(t *testing.T) {
	t.Parallel()
	var pair Pair
	pair.Set(certificate(t, 1), rsaCertificate(t, 2))
	b := serve(t, http.NotFoundHandler(), func(c *Config) { c.TLS = pair.Config() })
	for what, c := range map[string]struct {
		cfg  *tls.Config
		want int64
	}{
		"any client":           {upTo(tls.VersionTLS13), 1},
		"TLS 1.2":              {upTo(tls.VersionTLS12), 1},
		"a device without ECC": {onlyRSA(), 2},
	} {
		if got, err := handshake(t, b, c.cfg); err != nil || got != c.want {
			t.Errorf("%s: certificate %d, %v; want %d", what, got, err, c.want)
		}
	}
}

// TestFR8_FailedHandshakes are counted by reason, and logged once in a while.
func TestFR8_FailedHandshakes(t *testing.T) {
	t.Parallel()
	var seen connections
	var pair Pair
	pair.Set(certificate(t, 1))
	b := serve(t, http.NotFoundHandler(), func(c *Config) {
		c.TLS, c.ObserveConnection = pair.Config(), seen.observe
	})
	raw := func(octets string) {
		c := dialFrom(t, b, "127.0.0.2")
		defer c.Close()
		if _, err := io.WriteString(c, octets); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		if speaks := strings.HasPrefix(octets, "GET"); strings.Contains(string(answer), "speaks HTTPS") != speaks {
			t.Errorf("%q is answered %q", octets, answer)
		}
	}
	for range 3 {
		if _, err := handshake(t, b, onlyRSA()); err == nil {
			t.Error("a device without ECC came through")
		}
	}
	strict := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "a.test", MinVersion: tls.VersionTLS12}
	if _, err := handshake(t, b, strict); err == nil {
		t.Error("a client that trusts nobody came through")
	}
	if _, err := handshake(t, b, upTo(tls.VersionTLS11)); err == nil {
		t.Error("TLS 1.1 came through")
	}
	raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	raw("nonsense nonsense")
	raw("")
	for reason, want := range map[string]int{
		"cipher": 3, "refused_by_client": 1, "version": 1, "not_tls": 2, "closed_by_client": 1,
	} {
		if got := seen.of(reason); got != want {
			t.Errorf("%s was counted %d times, want %d: %v", reason, got, want, seen.why)
		}
	}
	lines := map[string]int{}
	for _, l := range b.lines(t) {
		if l["msg"] == "TLS handshake failed" {
			lines[l["remote"].(string)]++
			if l["reason"] == "" || l["error"] == "" || l["listener"] != "https" || l["level"] != "INFO" {
				t.Errorf("a line lacks something: %v", l)
			}
		}
	}
	if len(lines) != 2 || lines["127.0.0.1"] != 1 || lines["127.0.0.2"] != 1 {
		t.Errorf("lines by address: %v", lines)
	}
}

func TestFR8_LinesAreLimited(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	l := teller{now: func() time.Time { return now }}
	for n := range 5 {
		if unsaid, ok := l.may("a"); ok != (n == 0) || unsaid != 0 {
			t.Errorf("line %d: %v, %d unsaid", n, ok, unsaid)
		}
	}
	now = now.Add(time.Minute)
	if unsaid, ok := l.may("a"); !ok || unsaid != 4 {
		t.Errorf("a minute later: %v, %d unsaid", ok, unsaid)
	}
	for n := range 3 * maxTold {
		l.may(string(rune(n)) + "x")
	}
	if len(l.said) > maxTold {
		t.Errorf("%d addresses are remembered", len(l.said))
	}
}
