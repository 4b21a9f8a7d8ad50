package acme

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// maxBody is the most that one message may have (rule A11).
const maxBody = 64 << 10

// keyUse is which of kid and jwk a resource takes (RFC 8555, section 6.2).
type keyUse int

const (
	byKID keyUse = iota
	byJWK
	byEither
)

// call is one message that passed authenticate.
type call struct {
	ep      *endpoint
	payload []byte         // decoded; empty in a POST-as-GET
	url     string         // the url that was signed
	account *store.Account // who signed with a kid; nil with a jwk
	key     *publicKey     // what verified the signature
	id      string         // of the request, for log and audit
	from    netip.Addr     // the client's address
}

// authenticate is the door of every POST. The order of checks is that of
// growing cost: form first, then what HMAC can tell, then a signature, and only
// a message with a good signature consumes a nonce or writes anything (rule A5).
func (s *Server) authenticate(r *http.Request, ep *endpoint, by keyUse) (*call, error) {
	if !strings.EqualFold(r.Header.Get("Content-Type"), "application/jose+json") {
		return nil, fault.New(fault.UnsupportedMediaType, "the content type must be application/jose+json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return nil, fault.New(fault.TooLarge, "a message may have %d octets at most", maxBody)
		}
		return nil, fault.Wrap(fault.Malformed, err, "the body cannot be read")
	}
	m, err := parseJWS(body)
	if err != nil {
		return nil, err
	}
	if err := m.header.checkAlgorithm(accepted); err != nil {
		return nil, err
	}
	if err := by.check(&m.header); err != nil {
		return nil, err
	}
	if err := ep.checkURL(r, *m.header.URL); err != nil {
		return nil, err
	}
	if m.header.Nonce == nil {
		return nil, fault.New(fault.BadNonce, "the protected header has no nonce")
	}
	nonce, until, err := s.nonces.check(*m.header.Nonce)
	if err != nil {
		return nil, err
	}
	c := &call{ep: ep, payload: m.payload, url: *m.header.URL, id: web.RequestID(r.Context()), from: web.Client(r)}
	if m.header.JWK != nil {
		return c, s.verifyJWK(r.Context(), c, m, by, nonce, until)
	}
	return c, s.verifyKID(r.Context(), c, m, nonce, until)
}

func (u keyUse) check(h *header) error {
	switch {
	case u == byKID && h.KID == nil:
		return fault.New(fault.Malformed, `this resource takes messages signed by an account, with "kid"`)
	case u == byJWK && h.JWK == nil:
		return fault.New(fault.Malformed, `this resource takes messages with "jwk"`)
	}
	return nil
}

// checkURL compares the signed URL with the one that was asked for, octet by
// octet (RFC 8555, section 6.4). A former base URL of ours does no harm: what
// was signed for it was signed for this server.
func (e *endpoint) checkURL(r *http.Request, signed string) error {
	for _, base := range e.set.bases {
		if path, ok := strings.CutPrefix(signed, base); ok && path == r.URL.RequestURI() {
			return nil
		}
	}
	return fault.New(fault.Denied, "the signed url is not that of this request, %s%s", e.set.bases[0],
		r.URL.RequestURI()).Because("url_mismatch")
}

// verifyJWK accepts a message that brings its own key. A key that is to become
// an account's has to satisfy the policy; one that only revokes its own
// certificate may be as weak as it is (rule A48).
func (s *Server) verifyJWK(ctx context.Context, c *call, m *message, by keyUse, nonce []byte, until time.Time) error {
	key, err := parseJWK(m.header.JWK)
	if err != nil {
		return err
	}
	if by == byJWK {
		if err := pki.CheckKey(key.key, pki.AccountKeys()); err != nil {
			return err
		}
	}
	if err := m.verify(ctx, key.key); err != nil {
		return err
	}
	c.key = key
	err = s.Store.SpendNonce(ctx, nonce, until)
	if err != nil || by == byEither { // a key may always revoke its own certificate
		return err
	}
	return blockedSigner(s.Pipeline.CheckKey(ctx, key.key))
}

// blockedSigner says of a key that strangers may have what its holder can do: it signs
// nothing any more but the revocation of its own certificate.
func blockedSigner(err error) error {
	if !fault.Is(err, fault.BadPublicKey) {
		return err
	}
	f := *fault.Of(err)
	f.Detail = "the request is signed by a key that is good for nothing any more (" + f.Detail +
		"): register a new account with a new key; only certificates of this very key can still be revoked by it"
	return &f
}

// verifyKID accepts a message that an account signed. The nonce is spent only
// after the signature has been verified, so that nobody can make us write by
// sending junk. That would cost one more round trip than spending it together
// with the read of the account; therefore the key, which hardly ever changes, is
// remembered from the last time: with a known key the signature is verified
// first and one round trip then spends the nonce and reads the account as it is
// now. If the account has another key by now the message was signed with a
// former one and is refused.
func (s *Server) verifyKID(ctx context.Context, c *call, m *message, nonce []byte, until time.Time) error {
	id := c.ep.accountID(*m.header.KID)
	if id == "" {
		return noAccount(*m.header.KID)
	}
	known := s.keys.get(id)
	if known != nil && m.verify(ctx, known.key) == nil {
		account, blocked, err := s.Store.AccountAndNonce(ctx, id, nonce, until, known.hash)
		if err != nil {
			return lookupFailed(err, *m.header.KID)
		}
		c.account, c.key = account, known
		if account.Thumbprint != known.thumbprint {
			s.keys.drop(id)
			return fault.New(fault.Unverified, "the JWS is signed with a former key of the account")
		}
		if err := c.checkAccount(*m.header.KID); err != nil {
			return err
		}
		return blockedSigner(s.Pipeline.JudgeKey(known.key, known.hash, blocked))
	}
	account, err := s.Store.Account(ctx, id)
	if err != nil {
		return lookupFailed(err, *m.header.KID)
	}
	key, err := parseJWK(account.JWK)
	if err != nil {
		return err
	}
	if err := m.verify(ctx, key.key); err != nil {
		return err
	}
	s.keys.put(id, key)
	if err := s.Store.SpendNonce(ctx, nonce, until); err != nil {
		return err
	}
	c.account, c.key = account, key
	if err := c.checkAccount(*m.header.KID); err != nil {
		return err
	}
	return blockedSigner(s.Pipeline.CheckKey(ctx, key.key))
}

// checkAccount refuses accounts of other endpoints and those that have ended.
func (c *call) checkAccount(kid string) error {
	if c.account.Endpoint != c.ep.Name {
		return noAccount(kid)
	}
	if c.account.Status != statusValid {
		return fault.New(fault.Denied, "the account is %s", c.account.Status).Because("account_" + c.account.Status)
	}
	return nil
}

func noAccount(kid string) error {
	return fault.New(fault.AccountDoesNotExist, "there is no account %q here", kid)
}

func lookupFailed(err error, kid string) error {
	if isNotFound(err) {
		return noAccount(kid)
	}
	return err
}

func isNotFound(err error) bool {
	return errors.Is(err, store.ErrNotFound) || fault.Is(err, fault.NotFound)
}

// decode reads the payload, which must be a JSON object.
func (c *call) decode(v any) error {
	if len(c.payload) == 0 || c.payload[0] != '{' {
		return fault.New(fault.Malformed, "the payload must be a JSON object")
	}
	if err := json.Unmarshal(c.payload, v); err != nil {
		return fault.Wrap(fault.Malformed, err, "the payload is not of the form that this resource takes")
	}
	return nil
}

// reading tells a POST-as-GET, whose payload is empty (RFC 8555, section 6.3):
// {} is none.
func (c *call) reading() bool { return len(c.payload) == 0 }

// asGET refuses any other message than a POST-as-GET.
func (c *call) asGET() error {
	if !c.reading() {
		return fault.New(fault.Malformed, "this resource is read by POST-as-GET, with an empty payload")
	}
	return nil
}

// keyCache remembers the verification keys of accounts: two generations of a
// bounded map, of which the older is dropped when the newer is full. It holds no
// statuses.
type keyCache struct {
	mu         sync.Mutex
	young, old map[string]*publicKey
}

const keyCacheSize = 4096

func (k *keyCache) get(id string) *publicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.young[id]; key != nil {
		return key
	}
	key := k.old[id]
	if key != nil {
		k.add(id, key)
	}
	return key
}

func (k *keyCache) put(id string, key *publicKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.add(id, key)
}

func (k *keyCache) add(id string, key *publicKey) {
	if len(k.young) >= keyCacheSize || k.young == nil {
		k.young, k.old = make(map[string]*publicKey), k.young
	}
	k.young[id] = key
}

func (k *keyCache) drop(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.young, id)
	delete(k.old, id)
}
