package est

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// keyMakers is how many keys are made at a time: RSA takes a processor a while.
const keyMakers = 2

// serverkeygen is RFC 7030, section 4.4: the key is made here, certified, sent and
// forgotten. It is in no record and no log, so an answer that is lost cannot be
// had again. The key in the request only says which kind is wanted, and the
// signature nothing at all.
func (s *Server) serverkeygen(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	if !ep.Keygen {
		return fault.New(fault.NotFound, "this service makes no keys: make one and use simpleenroll").
			Because("no_serverkeygen")
	}
	c, err := s.authenticate(r, ep, false)
	if err != nil {
		return err
	}
	der, err := readBody(r, typePKCS10)
	if err != nil {
		return err
	}
	csr, err := pki.ParseCSRTemplate(der)
	if err != nil {
		return err
	}
	if err := c.bind(ep, csr, r.TLS); err != nil {
		return err
	}
	name := c.profile(ep, false)
	if p := s.Pipeline.Rules().Profiles[name]; p != nil && p.Approval() {
		return fault.New(fault.Denied, "a key cannot wait for a person's approval: use simpleenroll").
			Because("approval_unsupported")
	}
	wrap, err := s.keyWrapper(r.Context(), c, csr, r.TLS)
	if err != nil {
		return err
	}
	ask, err := s.mayAsk(ep, c, csr, false)
	if err != nil {
		return err
	}
	ask.CSR = nil // the key in it is not the one that is certified
	if ask.Names == nil {
		ask.Subject, ask.Names = &csr.Subject, append([]pki.Identifier{}, csr.Names...)
	}
	return s.makeAndSend(w, r, ep, c, csr, wrap, ask)
}

func (s *Server) makeAndSend(
	w http.ResponseWriter, r *http.Request, ep *endpoint, c *client, csr *pki.CSR, wrap wrapper, ask issuance.Request,
) error {
	ctx := r.Context()
	key, err := s.makeKey(ctx, csr.PublicKey)
	if err != nil {
		return err
	}
	ask.PublicKey = key.Public()
	// A transaction of its own: the same request again is another key.
	cert, err := s.issue(ctx, ep, c, approval.Key{CSR: csr.Raw, TransactionID: "serverkeygen:" + store.NewID()}, ask)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	defer clear(pkcs8)
	typ, body, err := wrap(ctx, pkcs8)
	if err != nil {
		return err
	}
	message, err := certsOnly(cert.DER)
	if err != nil {
		return err
	}
	boundary, text := mixed(part{typ, ep.encode(r, body)}, part{typeCertsOnly, ep.encode(r, message)})
	w.Header().Set("Cache-Control", "no-store")
	send(w, "multipart/mixed; boundary="+boundary, text, false)
	return nil
}

// makeKey makes a key of the same kind as a public key.
func (s *Server) makeKey(ctx context.Context, like crypto.PublicKey) (crypto.Signer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	select {
	case s.makers <- struct{}{}:
		defer func() { <-s.makers }()
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "too many keys are being made").Because("keygen_busy").
			After(10 * time.Second)
	}
	switch k := like.(type) {
	case *ecdsa.PublicKey:
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			if k.Curve == curve {
				return ecdsa.GenerateKey(curve, rand.Reader)
			}
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits == 2048 || bits == 3072 || bits == 4096 {
			return rsa.GenerateKey(rand.Reader, bits)
		}
	case ed25519.PublicKey:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fault.New(fault.BadPublicKey, "keys like the one in the request (%s) are not made here",
		pki.KeyAlgorithm(like)).Because("keygen_type")
}

// strongEnough reports whether the cipher of a connection protects the key at
// least as well as the key protects what it is for (RFC 7030, section 4.4).
func strongEnough(key crypto.PublicKey, conn *tls.ConnectionState) bool {
	weak := false // the cipher has 128 bits
	switch conn.CipherSuite {
	case tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256:
		weak = true
	}
	k, ok := key.(*ecdsa.PublicKey)
	return !weak || !ok || k.Curve.Params().BitSize <= 256
}

// part is one part of an answer.
type part struct {
	contentType string
	base64      []byte // lines
}

// mixed frames parts as RFC 2046 has it, with CRLF (rule E18).
func mixed(parts ...part) (boundary string, text []byte) {
	var b bytes.Buffer
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	boundary = "privyseal-" + hex.EncodeToString(random[:])
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64\r\n\r\n", boundary,
			p.contentType)
		b.Write(bytes.ReplaceAll(bytes.TrimSuffix(p.base64, []byte("\n")), []byte("\n"), []byte("\r\n")))
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return boundary, b.Bytes()
}
