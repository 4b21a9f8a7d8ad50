package challenge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const acmeALPN = "acme-tls/1"

var (
	oidACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31} // RFC 8737, section 3
	oidSAN            = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// tlsALPN01 makes a TLS handshake and looks at the certificate that it is
// shown (RFC 8737, section 3). No application data is sent.
func (v *Validator) tlsALPN01(ctx context.Context, t Task, rec *Record) error {
	sni, err := serverName(t.Identifier)
	if err != nil {
		return fault.Wrap(fault.Malformed, err, "the identifier has no form for TLS")
	}
	host := t.Identifier.Value
	where := net.JoinHostPort(host, fmt.Sprint(v.cfg.TLSPort))
	rec.Hops = append(rec.Hops, Hop{URL: "tls://" + where})
	hop := &rec.Hops[0]
	raw, err := v.dialer.connect(ctx, host, uint16(v.cfg.TLSPort), true, hop, t.Admit)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	conn := tls.Client(raw, &tls.Config{
		ServerName:         sni,
		NextProtos:         []string{acmeALPN},
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the certificate is checked below, by RFC 8737's rules
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		what, ok := tlsReason(err)
		kind := fault.TLS
		if !ok {
			kind = fault.Connection
		}
		return fault.Wrap(kind, err, fmt.Sprintf("TLS handshake with %s at %s: %s", where, hop.Used, what))
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != acmeALPN {
		return fault.New(fault.TLS, "%s at %s did not negotiate the protocol %s", where, hop.Used, acmeALPN).
			Because("alpn")
	}
	if len(state.PeerCertificates) == 0 {
		return fault.New(fault.TLS, "%s at %s showed no certificate", where, hop.Used)
	}
	switch err := checkALPNCertificate(ctx, state.PeerCertificates[0], t.Identifier, t.KeyAuthorization); {
	case fault.Is(err, fault.Unavailable):
		return err
	case err != nil:
		return fault.New(fault.IncorrectResponse, "the certificate of %s at %s %s", where, hop.Used, err.Error()).
			Because("alpn_certificate")
	}
	return nil
}

// serverName returns the SNI: the name itself, or the reverse-mapping name of
// an address (RFC 8738, section 6).
func serverName(id pki.Identifier) (string, error) {
	if id.Type != pki.IP {
		return id.Value, nil
	}
	ip, err := netip.ParseAddr(id.Value)
	if err != nil {
		return "", err
	}
	if ip.Is4() {
		b := ip.As4()
		return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", b[3], b[2], b[1], b[0]), nil
	}
	const hex = "0123456789abcdef"
	var s strings.Builder
	b := ip.As16()
	for i := len(b) - 1; i >= 0; i-- {
		s.Write([]byte{hex[b[i]&15], '.', hex[b[i]>>4], '.'})
	}
	return s.String() + "ip6.arpa", nil
}

// checkALPNCertificate applies the rules of RFC 8737, section 3. The error ends
// a sentence that begins with the certificate.
func checkALPNCertificate(
	ctx context.Context, cert *x509.Certificate, id pki.Identifier, keyAuthorization string,
) error {
	if !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		return errors.New("is not self-signed: subject and issuer differ")
	}
	err := pki.CheckSignature(ctx, cert.PublicKey, cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	switch {
	case fault.Is(err, fault.Unavailable):
		return err
	case err != nil:
		return errors.New("is not self-signed: its key does not verify its signature")
	}
	want, err := sanOf(id)
	if err != nil {
		return err
	}
	san, _, err := extension(cert, oidSAN)
	if err != nil {
		return fmt.Errorf("%w (subjectAltName)", err)
	}
	if !bytes.Equal(san, want) {
		return fmt.Errorf("does not have exactly the one name %s in its subjectAltName%s", quote(id.Value),
			namesIn(cert))
	}
	value, critical, err := extension(cert, oidACMEIdentifier)
	if err != nil {
		return fmt.Errorf("%w (acmeIdentifier, 1.3.6.1.5.5.7.1.31)", err)
	}
	if !critical {
		return errors.New("has an acmeIdentifier extension that is not critical")
	}
	digest := sha256.Sum256([]byte(keyAuthorization))
	octets := append([]byte{0x04, sha256.Size}, digest[:]...)
	if subtle.ConstantTimeCompare(value, octets) != 1 {
		return fmt.Errorf("has an acmeIdentifier extension that is not the digest of the key authorization: "+
			"want the DER %x, not %s", octets, quote(hex.EncodeToString(value)))
	}
	return nil
}

// namesIn says which names a certificate has instead.
func namesIn(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return ""
	}
	return ", but " + quote(strings.Join(names, ", "))
}

// extension returns the one extension with the given OID.
func extension(cert *x509.Certificate, oid asn1.ObjectIdentifier) (value []byte, critical bool, err error) {
	found := 0
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			value, critical = e.Value, e.Critical
			found++
		}
	}
	switch found {
	case 0:
		return nil, false, errors.New("lacks an extension")
	case 1:
		return value, critical, nil
	default:
		return nil, false, errors.New("has an extension twice")
	}
}

// sanOf returns the only subjectAltName value that is accepted for id.
func sanOf(id pki.Identifier) ([]byte, error) {
	tag, content := cbasn1.Tag(2).ContextSpecific(), []byte(id.Value)
	if id.Type == pki.IP {
		ip, err := netip.ParseAddr(id.Value)
		if err != nil {
			return nil, errors.New("cannot be compared with an address that is none")
		}
		tag, content = cbasn1.Tag(7).ContextSpecific(), ip.AsSlice()
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	})
	return b.Bytes()
}

// tlsReason puts a handshake error into words. ok is false where the error is
// not about TLS; the text then tells of the connection.
func tlsReason(err error) (what string, ok bool) {
	var alert *net.OpError // crypto/tls wraps an alert in this and keeps its type to itself
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error":
		return "the peer sent an alert: " + strings.TrimPrefix(alert.Err.Error(), "tls: "), true
	case errors.As(err, &record):
		return "the peer does not speak TLS", true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the peer closed the connection", true
	case strings.Contains(err.Error(), "tls: "), strings.Contains(err.Error(), "x509: "):
		return "no agreement with the peer (TLS 1.2 or newer, a well-formed certificate)", true
	default:
		return netReason(err), false
	}
}
