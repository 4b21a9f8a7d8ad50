package challenge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/dnstest"
)

// alpnSpec describes a certificate for tls-alpn-01 and what is wrong with it.
type alpnSpec struct {
	keyAuth  string
	names    []string
	ips      []net.IP
	optional bool // acmeIdentifier is not critical
	without  bool // no acmeIdentifier
	value    []byte
	issuer   string // another issuer name
	badSig   bool
	mail     string
}

func (s alpnSpec) certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(s.keyAuth))
	value, err := asn1.Marshal(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if s.value != nil {
		value = s.value
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "challenge"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0), // validity does not count
		DNSNames: s.names, IPAddresses: s.ips,
	}
	if s.mail != "" {
		tmpl.EmailAddresses = []string{s.mail}
	}
	if !s.without {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oidACMEIdentifier, Critical: !s.optional, Value: value}}
	}
	parent, signer := tmpl, key
	if s.issuer != "" {
		parent = &x509.Certificate{Subject: pkix.Name{CommonName: s.issuer}}
	}
	if s.badSig {
		if signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// alpnServer serves one certificate and reports what the client sent.
func alpnServer(t *testing.T, config *tls.Config) (port int, hello func() *tls.ClientHelloInfo, rest func() int) {
	t.Helper()
	var info *tls.ClientHelloInfo
	n := 0
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { info = h; return nil, nil }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(raw, config)
			n, _ = conn.Read(make([]byte, 64))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	wait := func() { _ = l.Close(); <-done }
	return portOf(t, l.Addr().String()), func() *tls.ClientHelloInfo { wait(); return info }, func() int { wait(); return n }
}

func TestACME_A57_Handshake(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	cert := alpnSpec{keyAuth: testKeyAuth, names: []string{"a.lab.test"}}.certificate(t)
	port, hello, rest := alpnServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1", acmeALPN}})
	v := newValidator(t, d, func(c *Config) { c.TLSPort = port })
	rec, err := v.Validate(context.Background(), task(TLSALPN01, "a.lab.test"))
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Hops) != 1 || rec.Hops[0].Used != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("record %+v", rec)
	}
	h := hello()
	if h.ServerName != "a.lab.test" || len(h.SupportedProtos) != 1 || h.SupportedProtos[0] != acmeALPN {
		t.Errorf("SNI %q, ALPN %q", h.ServerName, h.SupportedProtos)
	}
	for _, version := range h.SupportedVersions {
		if version < tls.VersionTLS12 && version > 0x0300 {
			t.Errorf("version %x is offered", version)
		}
	}
	if n := rest(); n != 0 {
		t.Errorf("%d octets of application data were sent", n)
	}
}

func TestACME_A57_BadCertificates(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	sum := sha256.Sum256([]byte(testKeyAuth))
	good := []string{"a.lab.test"}
	for _, c := range []struct {
		name string
		spec alpnSpec
		part string
	}{
		{"other key authorization", alpnSpec{keyAuth: "x", names: good}, "not the digest"},
		{"two names", alpnSpec{keyAuth: testKeyAuth, names: []string{"a.lab.test", "b.lab.test"}}, "exactly the one name"},
		{"other name", alpnSpec{keyAuth: testKeyAuth, names: []string{"b.lab.test"}}, "exactly the one name"},
		{"name and address", alpnSpec{keyAuth: testKeyAuth, names: good, ips: []net.IP{{127, 0, 0, 1}}}, "exactly the one name"},
		{"name and mail", alpnSpec{keyAuth: testKeyAuth, names: good, mail: "a@lab.test"}, "exactly the one name"},
		{"no name", alpnSpec{keyAuth: testKeyAuth}, "lacks an extension (subjectAltName)"},
		{"not critical", alpnSpec{keyAuth: testKeyAuth, names: good, optional: true}, "not critical"},
		{"no acmeIdentifier", alpnSpec{keyAuth: testKeyAuth, names: good, without: true}, "lacks an extension (acmeIdentifier"},
		{"bare digest", alpnSpec{names: good, value: sum[:]}, "not the digest"},
		{"trailing octet", alpnSpec{names: good, value: append(append([]byte{4, 32}, sum[:]...), 0)}, "not the digest"},
		{"other issuer", alpnSpec{keyAuth: testKeyAuth, names: good, issuer: "someone"}, "subject and issuer differ"},
		{"another's signature", alpnSpec{keyAuth: testKeyAuth, names: good, issuer: "challenge", badSig: true}, "does not verify its signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port, _, _ := alpnServer(t, &tls.Config{Certificates: []tls.Certificate{c.spec.certificate(t)}, NextProtos: []string{acmeALPN}})
			v := newValidator(t, d, func(cfg *Config) { cfg.TLSPort = port })
			_, err := v.Validate(context.Background(), task(TLSALPN01, "a.lab.test"))
			wantFault(t, err, fault.IncorrectResponse, "alpn_certificate", c.part)
		})
	}
}

func TestACME_A57_BadHandshakes(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	cert := []tls.Certificate{alpnSpec{keyAuth: testKeyAuth, names: []string{"a.lab.test"}}.certificate(t)}
	noALPN, _, _ := alpnServer(t, &tls.Config{Certificates: cert})
	otherALPN, _, _ := alpnServer(t, &tls.Config{Certificates: cert, NextProtos: []string{"h2"}})
	oldTLS, _, _ := alpnServer(t, &tls.Config{Certificates: cert, NextProtos: []string{acmeALPN}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	plain := webServer(t, "127.0.0.1", text(200, testKeyAuth))
	closing := webServer(t, "127.0.0.1", hangUp(""))
	for _, c := range []struct {
		name   string
		port   int
		kind   fault.Kind
		reason string
		part   string
	}{
		{"no ALPN", noALPN, fault.TLS, "alpn", "did not negotiate the protocol acme-tls/1"},
		{"another ALPN", otherALPN, fault.TLS, "", "alert: no application protocol"},
		{"TLS 1.1", oldTLS, fault.TLS, "", "TLS handshake"},
		{"no TLS", plain, fault.TLS, "", "does not speak TLS"},
		{"closed", closing, fault.TLS, "", ""},
		{"nobody", 1, fault.Connection, "", "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newValidator(t, d, func(cfg *Config) { cfg.TLSPort = c.port })
			_, err := v.Validate(context.Background(), task(TLSALPN01, "a.lab.test"))
			wantFault(t, err, c.kind, c.reason, c.part)
		})
	}
}

func TestACME_A57_SilentPeer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	v := newValidator(t, dnstest.Start(t), func(c *Config) {
		c.TLSPort, c.Timeout = portOf(t, l.Addr().String()), 200*time.Millisecond
	})
	_, err = v.Validate(context.Background(), task(TLSALPN01, "a.lab.test"))
	wantFault(t, err, fault.Connection, "", "timeout")
}

func TestACME_A58_Addresses(t *testing.T) {
	t.Parallel()
	for addr, sni := range map[string]string{
		"127.0.0.1":   "1.0.0.127.in-addr.arpa",
		"2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	} {
		got, err := serverName(pki.Identifier{Type: pki.IP, Value: addr})
		if err != nil || got != sni {
			t.Errorf("%s: SNI %q, %v, want %q", addr, got, err, sni)
		}
	}
	if _, err := serverName(pki.Identifier{Type: pki.IP, Value: "no"}); err == nil {
		t.Error("an address that is none has an SNI")
	}
	t.Run("http-01 IPv4", func(t *testing.T) {
		port := webServer(t, "127.0.0.1", text(200, testKeyAuth))
		rec, err := newValidator(t, nil, func(c *Config) { c.HTTPPort = port }).Validate(context.Background(), task(HTTP01, "127.0.0.1"))
		if err != nil || rec.Hops[0].URL != "http://127.0.0.1"+wellKnown {
			t.Errorf("%v, %+v", err, rec)
		}
	})
	t.Run("http-01 IPv6", func(t *testing.T) {
		port := webServer(t, "::1", text(200, testKeyAuth))
		rec, err := newValidator(t, nil, func(c *Config) { c.HTTPPort = port }).Validate(context.Background(), task(HTTP01, "::1"))
		if err != nil || rec.Hops[0].URL != "http://[::1]"+wellKnown {
			t.Errorf("%v, %+v", err, rec)
		}
	})
	t.Run("tls-alpn-01", func(t *testing.T) {
		cert := alpnSpec{keyAuth: testKeyAuth, ips: []net.IP{{127, 0, 0, 1}}}.certificate(t)
		port, hello, _ := alpnServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{acmeALPN}})
		_, err := newValidator(t, nil, func(c *Config) { c.TLSPort = port }).Validate(context.Background(), task(TLSALPN01, "127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		if h := hello(); h.ServerName != "1.0.0.127.in-addr.arpa" {
			t.Errorf("SNI %q", h.ServerName)
		}
	})
	t.Run("a refused address", func(t *testing.T) {
		_, err := newValidator(t, nil, nil).Validate(context.Background(), task(HTTP01, "10.0.0.1"))
		wantFault(t, err, fault.Connection, "address_refused", "allow_cidrs")
	})
	t.Run("CAA does not apply", func(t *testing.T) {
		v := newValidator(t, nil, func(c *Config) { c.CAA = CAAAlways })
		if err := v.CheckCAA(context.Background(), task(HTTP01, "10.0.0.1").Identifier, false, nil, HTTP01); err != nil {
			t.Error(err)
		}
	})
}

func TestACME_A57_DuplicateExtension(t *testing.T) {
	der := alpnSpec{keyAuth: testKeyAuth, names: []string{"a.lab.test"}}.certificate(t).Certificate[0]
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	id := pki.Identifier{Type: pki.DNS, Value: "a.lab.test"}
	if err := checkALPNCertificate(t.Context(), cert, id, testKeyAuth); err != nil {
		t.Fatal(err)
	}
	for _, e := range cert.Extensions {
		twice := *cert
		twice.Extensions = append(append([]pkix.Extension{}, cert.Extensions...), e)
		err := checkALPNCertificate(t.Context(), &twice, id, testKeyAuth)
		if e.Id.Equal(oidSAN) || e.Id.Equal(oidACMEIdentifier) {
			if err == nil {
				t.Errorf("extension %s twice is accepted", e.Id)
			}
		}
	}
}

// FuzzALPNCertificate: no certificate makes the check panic, and only one with
// the digest and the name passes.
func FuzzALPNCertificate(f *testing.F) {
	f.Add(alpnSpec{keyAuth: testKeyAuth, names: []string{"a.lab.test"}}.certificate(f).Certificate[0])
	f.Add(alpnSpec{keyAuth: testKeyAuth, ips: []net.IP{{10, 0, 0, 1}}}.certificate(f).Certificate[0])
	f.Add(alpnSpec{without: true, optional: true}.certificate(f).Certificate[0])
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		err = checkALPNCertificate(t.Context(), cert, pki.Identifier{Type: pki.DNS, Value: "a.lab.test"}, testKeyAuth)
		if err == nil && (len(cert.DNSNames) != 1 || cert.DNSNames[0] != "a.lab.test") {
			t.Errorf("names %q pass", cert.DNSNames)
		}
	})
}
