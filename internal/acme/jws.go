package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// The JSON package here is go-jose's: names are case-sensitive and a name that
// occurs twice is an error (rule A11); the standard one lets both pass.

// accepted are the signature algorithms of outer messages (rule A16).
var accepted = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.ES384, jose.ES512, jose.RS256}

// acceptedMACs are the algorithms of an external account binding (rule A26).
var acceptedMACs = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}

func algorithmNames() []string {
	names := make([]string, len(accepted))
	for i, a := range accepted {
		names[i] = string(a)
	}
	return names
}

// message is a parsed JWS whose signature has not been verified yet.
type message struct {
	header  header
	payload []byte // decoded; empty in a POST-as-GET
	compact string // what the signature covers, and the signature
}

// header is the protected header; nothing else is read.
type header struct {
	Alg   string          `json:"alg"`
	Nonce *string         `json:"nonce"`
	URL   *string         `json:"url"`
	KID   *string         `json:"kid"`
	JWK   json.RawMessage `json:"jwk"`
	Crit  json.RawMessage `json:"crit"`
	B64   json.RawMessage `json:"b64"`
}

// flattened is the only serialization that ACME uses (RFC 8555, section 6.2).
type flattened struct {
	Protected  *string         `json:"protected"`
	Payload    *string         `json:"payload"`
	Signature  *string         `json:"signature"`
	Header     json.RawMessage `json:"header"`
	Signatures json.RawMessage `json:"signatures"`
}

// parseJWS reads a flattened JWS. The form is judged here, before go-jose sees
// it, because that library merges unprotected headers and takes several
// signatures (rule A14).
func parseJWS(body []byte) (*message, error) {
	var f flattened
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "the body is not a JWS in flattened JSON serialization")
	}
	switch {
	case f.Header != nil:
		return nil, fault.New(fault.Malformed, "the JWS has an unprotected header")
	case f.Signatures != nil:
		return nil, fault.New(fault.Malformed, "the JWS has a signatures array; exactly one signature is allowed")
	case f.Protected == nil || *f.Protected == "":
		return nil, fault.New(fault.Malformed, "the JWS has no protected header")
	case f.Payload == nil:
		return nil, fault.New(fault.Malformed, "the JWS has no payload")
	case f.Signature == nil || *f.Signature == "":
		return nil, fault.New(fault.Malformed, "the JWS has no signature")
	}
	raw, err := decodeBase64(*f.Protected)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "the protected header is not base64url without padding")
	}
	m := &message{compact: *f.Protected + "." + *f.Payload + "." + *f.Signature}
	if m.payload, err = decodeBase64(*f.Payload); err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "the payload is not base64url without padding")
	}
	if _, err = decodeBase64(*f.Signature); err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "the signature is not base64url without padding")
	}
	if err := json.Unmarshal(raw, &m.header); err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "the protected header is not a JSON object of known form")
	}
	return m, m.header.check()
}

// check refuses what no message of ACME may carry.
func (h *header) check() error {
	switch {
	case h.Alg == "":
		return fault.New(fault.Malformed, `the protected header has no "alg"`)
	case h.Crit != nil:
		return fault.New(fault.Malformed, `the protected header has "crit"; no extension is supported`)
	case h.B64 != nil:
		return fault.New(fault.Malformed, `the protected header has "b64"; payloads are always encoded`)
	case h.KID != nil && h.JWK != nil:
		return fault.New(fault.Malformed, `the protected header has both "kid" and "jwk"`)
	case h.KID == nil && h.JWK == nil:
		return fault.New(fault.Malformed, `the protected header has neither "kid" nor "jwk"`)
	case h.URL == nil:
		return fault.New(fault.Malformed, `the protected header has no "url"`)
	}
	return nil
}

// checkAlgorithm refuses an algorithm that is not in the list (rule A16).
func (h *header) checkAlgorithm(list []jose.SignatureAlgorithm) error {
	for _, a := range list {
		if h.Alg == string(a) {
			return nil
		}
	}
	return fault.New(fault.BadAlgorithm, "signature algorithm %q is not accepted", h.Alg)
}

// verify checks the signature with a public key, whose algorithm must be the
// message's.
func (m *message) verify(ctx context.Context, key crypto.PublicKey) error {
	if want := algorithmFor(key); m.header.Alg != string(want) {
		return fault.New(fault.BadAlgorithm,
			"signature algorithm %q does not fit the key, which needs %q", m.header.Alg, want)
	}
	return pki.UseKey(ctx, key, func() error { return m.verifyWith(key) })
}

// verifyMAC checks the signature of an external account binding with the octets
// of its key. A key shorter than the hash is refused (RFC 7518, section 3.2), but
// only once the MAC shows that the client has it; the library cannot do that.
func (m *message) verifyMAC(key []byte) error {
	var of func() hash.Hash
	switch jose.SignatureAlgorithm(m.header.Alg) {
	case jose.HS256:
		of = sha256.New
	case jose.HS384:
		of = sha512.New384
	case jose.HS512:
		of = sha512.New
	default:
		return fault.New(fault.Malformed, "algorithm %q is no MAC that is accepted", m.header.Alg)
	}
	mac, dot := hmac.New(of, key), strings.LastIndexByte(m.compact, '.')
	_, _ = mac.Write([]byte(m.compact[:dot]))
	sent, err := decodeBase64(m.compact[dot+1:])
	if err != nil || !hmac.Equal(sent, mac.Sum(nil)) {
		return fault.Wrap(fault.Unverified, err, "the JWS signature does not verify")
	}
	if len(key) < mac.Size() {
		return fault.New(fault.Malformed, "the EAB key is too short for %s: use HS256, or ask the operator for a new "+
			"key, which is good for %s too", m.header.Alg, m.header.Alg).Because("eab_algorithm")
	}
	return nil
}

func (m *message) verifyWith(key crypto.PublicKey) error {
	parsed, err := jose.ParseSignedCompact(m.compact, accepted)
	if err != nil {
		return fault.Wrap(fault.Malformed, err, "the JWS cannot be parsed")
	}
	if _, err := parsed.Verify(key); err != nil {
		return fault.Wrap(fault.Unverified, err, "the JWS signature does not verify")
	}
	return nil
}

// algorithmFor is the one algorithm that we take with a key (rule A16).
func algorithmFor(key crypto.PublicKey) jose.SignatureAlgorithm {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256
		case elliptic.P384():
			return jose.ES384
		case elliptic.P521():
			return jose.ES512
		}
	case *rsa.PublicKey:
		return jose.RS256
	case ed25519.PublicKey:
		return jose.EdDSA
	}
	return ""
}

// publicKey is a client's key with the name that RFC 7638 gives it.
type publicKey struct {
	key        crypto.PublicKey
	thumbprint string // base64url of SHA-256, as in key authorizations
	jwk        []byte // its canonical JSON, as the store keeps it
	hash       pki.KeyHash
}

// parseJWK reads a JWK. It refuses private and symmetric keys, keys that name
// another algorithm than ours, and those whose numbers do not make a key.
func parseJWK(text []byte) (*publicKey, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, fault.New(fault.Malformed, "the JWK is not a JSON object")
	}
	if err := checkMembers(text); err != nil {
		return nil, err
	}
	var k jose.JSONWebKey
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fault.Wrap(fault.BadPublicKey, err, "the JWK cannot be read as a public key")
	}
	want := algorithmFor(k.Key)
	if want == "" || !k.Valid() || !k.IsPublic() {
		return nil, fault.New(fault.BadPublicKey, "the JWK is not a public key of an accepted type")
	}
	if k.Algorithm != "" && k.Algorithm != string(want) {
		return nil, fault.New(fault.BadAlgorithm, "the JWK names algorithm %q; its key needs %q", k.Algorithm, want)
	}
	if err := pki.Usable(k.Key); err != nil {
		return nil, err
	}
	return newPublicKey(k.Key)
}

// maxModulus is the longest "n" of a key that is pki.Usable, in base64url; a few
// zero octets may stand before it.
const maxModulus = 1400

// checkMembers refuses keys that the library would compute with while it reads
// them: private ones, and those with a modulus of any length.
func checkMembers(text []byte) error {
	var k struct {
		N string          `json:"n"`
		D json.RawMessage `json:"d"`
		K json.RawMessage `json:"k"`
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return fault.Wrap(fault.BadPublicKey, err, "the JWK cannot be read as a public key")
	}
	switch {
	case k.D != nil || k.K != nil:
		return fault.New(fault.BadPublicKey, "the JWK holds a secret; send the public key only, and make a new one").
			Because("key_private")
	case len(k.N) > maxModulus:
		return fault.New(fault.BadPublicKey, "public key rsa: at most 8192 bits are accepted").Because("key_size")
	}
	return nil
}

// HashKey returns the SHA-256 of the SubjectPublicKeyInfo of an account's key, which is
// a JWK. It is fault.Malformed or fault.BadPublicKey for what no account can have.
func HashKey(jwk []byte) (pki.KeyHash, error) {
	key, err := parseJWK(jwk)
	if err != nil {
		return pki.KeyHash{}, err
	}
	return key.hash, nil
}

func newPublicKey(key crypto.PublicKey) (*publicKey, error) {
	k := jose.JSONWebKey{Key: key}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fault.Wrap(fault.BadPublicKey, err, "the key is of a type that has no thumbprint")
	}
	text, err := k.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode jwk: %w", err)
	}
	hash, err := pki.HashKey(key)
	if err != nil {
		return nil, fault.Wrap(fault.BadPublicKey, err, "the key cannot be encoded")
	}
	return &publicKey{key: key, thumbprint: base64.RawURLEncoding.EncodeToString(sum), jwk: text, hash: hash}, nil
}

// decodeBase64 decodes base64url without padding and nothing else: the standard
// decoder alone would skip line ends and accept stray trailing bits (rule A21).
func decodeBase64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, base64.CorruptInputError(strings.IndexAny(text, "\r\n"))
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}
