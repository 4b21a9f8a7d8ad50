package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/privyseal/privyseal/internal/fault"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func newECKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign returns a flattened JWS with exactly the header members given, beside
// alg. The key decides the algorithm unless header names another, which is then
// a lie.
func sign(t testing.TB, key any, header map[string]any, payload string) []byte {
	t.Helper()
	full := map[string]any{}
	var alg jose.SignatureAlgorithm
	switch k := key.(type) {
	case []byte:
		alg = jose.HS256
	case crypto.Signer:
		alg = algorithmFor(k.Public())
	}
	full["alg"] = string(alg)
	for name, v := range header {
		full[name] = v
	}
	protected, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	return signRaw(t, key, alg, string(protected), payload)
}

// signRaw signs any octets as a protected header.
func signRaw(t testing.TB, key any, alg jose.SignatureAlgorithm, protected, payload string) []byte {
	t.Helper()
	opaque, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: rawSigner{key, alg, []byte(b64(protected) + "." + b64(payload))}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := opaque.Sign([]byte("unused"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(map[string]string{
		"protected": b64(protected), "payload": b64(payload),
		"signature": base64.RawURLEncoding.EncodeToString(out.Signatures[0].Signature),
	})
	return body
}

// rawSigner is a jose.OpaqueSigner that signs the given octets instead of those
// that the library would.
type rawSigner struct {
	key  any
	alg  jose.SignatureAlgorithm
	text []byte
}

func (r rawSigner) Public() *jose.JSONWebKey        { return nil }
func (r rawSigner) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{r.alg} }
func (r rawSigner) SignPayload([]byte, jose.SignatureAlgorithm) ([]byte, error) {
	switch k := r.key.(type) {
	case *ecdsa.PrivateKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		h := hashOf(r.alg).New()
		h.Write(r.text)
		x, y, err := ecdsa.Sign(rand.Reader, k, h.Sum(nil))
		if err != nil {
			return nil, err
		}
		out := make([]byte, 2*size)
		x.FillBytes(out[:size])
		y.FillBytes(out[size:])
		return out, nil
	case *rsa.PrivateKey:
		h := crypto.SHA256.New()
		h.Write(r.text)
		return rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, h.Sum(nil))
	case ed25519.PrivateKey:
		return ed25519.Sign(k, r.text), nil
	case []byte:
		return macOf(k, r.text), nil
	}
	return nil, jose.ErrUnsupportedKeyType
}

func hashOf(alg jose.SignatureAlgorithm) crypto.Hash {
	switch alg {
	case jose.ES384:
		return crypto.SHA384
	case jose.ES512:
		return crypto.SHA512
	}
	return crypto.SHA256
}

func jwkOf(t testing.TB, pub crypto.PublicKey) json.RawMessage {
	t.Helper()
	k, err := newPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return k.jwk
}

func TestACME_A16_EachAlgorithmVerifies(t *testing.T) {
	t.Parallel()
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{
		"ES256": newECKey(t, elliptic.P256()), "ES384": newECKey(t, elliptic.P384()),
		"ES512": newECKey(t, elliptic.P521()), "EdDSA": edKey, "RS256": rsaKey,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := sign(t, key, map[string]any{"nonce": "n", "url": "u", "jwk": jwkOf(t, key.Public())}, "{}")
			m, err := parseJWS(body)
			if err != nil {
				t.Fatal(err)
			}
			if m.header.Alg != name {
				t.Fatalf("alg %q", m.header.Alg)
			}
			k, err := parseJWK(m.header.JWK)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.verify(t.Context(), k.key); err != nil {
				t.Fatal(err)
			}
			m.compact = strings.Replace(m.compact, b64("{}"), b64(`{"a":1}`), 1)
			if err := m.verify(t.Context(), k.key); !fault.Is(err, fault.Unverified) {
				t.Errorf("altered payload: %v, want unverified", err)
			}
		})
	}
}

func TestACME_A14_A21_FormOfTheJWS(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"protected": b64(`{"alg":"ES256","url":"u","kid":"k","nonce":"n"}`), "payload": b64("{}"), "signature": b64("sig"),
	}
	with := func(name, value string) string {
		m := map[string]string{}
		for k, v := range good {
			m[k] = v
		}
		m[name] = value
		text, _ := json.Marshal(m)
		return string(text)
	}
	header := func(h string) string { return with("protected", b64(h)) }
	raw := with("payload", good["payload"])
	if _, err := parseJWS([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"A14 compact form":             "a.b.c",
		"A14 array":                    "[" + raw + "]",
		"A14 null":                     "null",
		"A14 empty":                    "",
		"A14 trailing data":            raw + "{}",
		"A14 unprotected header":       strings.Replace(raw, "{", `{"header":{"kid":"k"},`, 1),
		"A14 null unprotected header":  strings.Replace(raw, "{", `{"header":null,`, 1),
		"A14 signatures":               strings.Replace(raw, "{", `{"signatures":[],`, 1),
		"A14 empty signature":          with("signature", ""),
		"A14 no protected header":      with("protected", ""),
		"A14 payload not a string":     strings.Replace(raw, `"payload":"`+good["payload"]+`"`, `"payload":{}`, 1),
		"A14 no payload":               strings.Replace(raw, `"payload":"`+good["payload"]+`",`, "", 1),
		"A14 crit":                     header(`{"alg":"ES256","url":"u","kid":"k","crit":["x"]}`),
		"A14 b64":                      header(`{"alg":"ES256","url":"u","kid":"k","b64":false}`),
		"A14 b64 null":                 header(`{"alg":"ES256","url":"u","kid":"k","b64":null}`),
		"A11 name twice":               strings.Replace(raw, "{", `{"payload":"",`, 1),
		"A11 name twice in the header": header(`{"alg":"ES256","alg":"RS256","url":"u","kid":"k"}`),
		"A15 both kid and jwk":         header(`{"alg":"ES256","url":"u","kid":"k","jwk":{}}`),
		"A15 neither kid nor jwk":      header(`{"alg":"ES256","url":"u"}`),
		"A15 no url":                   header(`{"alg":"ES256","kid":"k"}`),
		"A15 no alg":                   header(`{"url":"u","kid":"k"}`),
		"A15 kid of another type":      header(`{"alg":"ES256","url":"u","kid":7}`),
		"A15 other case":               header(`{"Alg":"ES256","url":"u","kid":"k"}`),
		"A15 header not an object":     header(`"ES256"`),
		"A21 padding":                  with("payload", b64("{}")+"="),
		"A21 plus":                     with("payload", "ab+d"),
		"A21 slash":                    with("signature", "ab/d"),
		"A21 line end":                 with("payload", b64("{}")+"\n"),
		"A21 stray bits":               with("signature", "QR"),
		"A21 padded header":            with("protected", good["protected"]+"="),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseJWS([]byte(body)); !fault.Is(err, fault.Malformed) {
				t.Errorf("got %v, want malformed", err)
			}
		})
	}
}

func TestACME_A11_UnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	key := newECKey(t, elliptic.P256())
	body := sign(t, key, map[string]any{"url": "u", "kid": "k", "new": map[string]int{"a": 1}}, "{}")
	if _, err := parseJWS([]byte(strings.Replace(string(body), "{", `{"extra":[1],`, 1))); err != nil {
		t.Error(err)
	}
}

func TestACME_A16_AlgorithmsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"none", "HS256", "HS512", "RS1", "RS384", "PS256", "ES256K", "es256"} {
		h := header{Alg: alg}
		if err := h.checkAlgorithm(accepted); !fault.Is(err, fault.BadAlgorithm) {
			t.Errorf("%s: %v, want bad_algorithm", alg, err)
		}
	}
	p256, p384 := newECKey(t, elliptic.P256()), newECKey(t, elliptic.P384())
	m, err := parseJWS(sign(t, p256, map[string]any{"url": "u", "kid": "k"}, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.verify(t.Context(), p384.Public()); !fault.Is(err, fault.BadAlgorithm) {
		t.Errorf("ES256 with a P-384 key: %v, want bad_algorithm", err)
	}
	if err := m.verifyMAC([]byte("secret")); !fault.Is(err, fault.Malformed) {
		t.Errorf("ES256 with a MAC key: %v, want malformed", err)
	}
	other := newECKey(t, elliptic.P256())
	if err := m.verify(t.Context(), other.Public()); !fault.Is(err, fault.Unverified) {
		t.Errorf("another key: %v, want unverified", err)
	}
}

func TestACME_A16_KeysThatAreRefused(t *testing.T) {
	t.Parallel()
	p256 := newECKey(t, elliptic.P256())
	good := string(jwkOf(t, p256.Public()))
	private, _ := jose.JSONWebKey{Key: p256}.MarshalJSON()
	off := new(big.Int).Add(p256.X, big.NewInt(1)) //nolint:staticcheck // a point off the curve is wanted
	for name, tc := range map[string]struct {
		jwk  string
		want fault.Kind
	}{
		"a point off the curve": {strings.Replace(good, base64.RawURLEncoding.EncodeToString(p256.X.FillBytes(make([]byte, 32))), //nolint:staticcheck // as above
			base64.RawURLEncoding.EncodeToString(off.FillBytes(make([]byte, 32))), 1), fault.BadPublicKey},
		"a private key":         {string(private), fault.BadPublicKey},
		"a symmetric key":       {`{"kty":"oct","k":"c2VjcmV0"}`, fault.BadPublicKey},
		"an unknown type":       {`{"kty":"XX"}`, fault.BadPublicKey},
		"an unknown curve":      {`{"kty":"EC","crv":"P-224","x":"AA","y":"AA"}`, fault.BadPublicKey},
		"no key":                {`{}`, fault.BadPublicKey},
		"a member twice":        {strings.Replace(good, "{", `{"kty":"EC",`, 1), fault.BadPublicKey},
		"a string":              {`"key"`, fault.Malformed},
		"null":                  {`null`, fault.Malformed},
		"another alg":           {strings.Replace(good, "{", `{"alg":"ES384",`, 1), fault.BadAlgorithm},
		"RSA, far too long":     {`{"kty":"RSA","e":"AQAB","n":"` + base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 1100)...)) + `"}`, fault.BadPublicKey},
		"Ed25519, wrong length": {`{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`, fault.BadPublicKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseJWK([]byte(tc.jwk)); !fault.Is(err, tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	if _, err := parseJWK([]byte(strings.Replace(good, "{", `{"alg":"ES256","use":"sig",`, 1))); err != nil {
		t.Error(err)
	}
}

func FuzzJWS(f *testing.F) {
	key := newECKey(f, elliptic.P256())
	f.Add(sign(f, key, map[string]any{"nonce": "n", "url": "u", "jwk": jwkOf(f, key.Public())}, "{}"))
	f.Add(sign(f, key, map[string]any{"nonce": "n", "url": "u", "kid": "k"}, ""))
	f.Add(sign(f, []byte("0123456789abcdef0123456789abcdef"), map[string]any{"url": "u", "kid": "k"}, "{}"))
	f.Add([]byte(`{"protected":"e30","payload":"","signature":"AA","header":{}}`))
	f.Add([]byte(`{"protected":"` + b64(`{"alg":"RS256","url":"u","jwk":{"kty":"RSA","n":"AQ","e":"AQ"}}`) + `","payload":"","signature":"AA"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseJWS(body)
		if err != nil {
			if k := fault.Of(err).Kind; k != fault.Malformed {
				t.Fatalf("parse: %s", k)
			}
			return
		}
		if m.header.checkAlgorithm(accepted) != nil || m.header.JWK == nil {
			return
		}
		k, err := parseJWK(m.header.JWK)
		if err != nil {
			if fault.Of(err).Kind == fault.Internal {
				t.Fatal(err)
			}
			return
		}
		if err := m.verify(t.Context(), k.key); err != nil && fault.Of(err).Kind == fault.Internal {
			t.Fatal(err)
		}
	})
}

func macOf(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// TestACME_A14_MissingMembers: each member of the serialization is asked for by name.
func TestACME_A14_MissingMembers(t *testing.T) {
	t.Parallel()
	for body, part := range map[string]string{
		`{}`: "no protected header", `{"payload":"","signature":"AA"}`: "no protected header",
		`{"protected":null,"payload":"","signature":"AA"}`:  "no protected header",
		`{"protected":"","payload":"","signature":"AA"}`:    "no protected header",
		`{"protected":"e30","signature":"AA"}`:              "no payload",
		`{"protected":"e30","payload":""}`:                  "no signature",
		`{"protected":"e30","payload":"","signature":""}`:   "no signature",
		`{"protected":"e30","payload":"","signature":"AA"}`: `no "alg"`,
	} {
		if _, err := parseJWS([]byte(body)); !fault.Is(err, fault.Malformed) || !strings.Contains(fault.Of(err).Detail, part) {
			t.Errorf("%s: %v, want %q", body, err, part)
		}
	}
}
