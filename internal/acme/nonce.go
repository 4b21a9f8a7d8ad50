package acme

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// nonceLife is how long a nonce may be spent. The store remembers spent ones
// for as long (ARCHITECTURE, section 6).
const nonceLife = time.Hour

// A nonce is 32 octets: seconds since 1970 (4), the node's epoch (4), random (8),
// and the first 16 octets of HMAC-SHA-256 over these. Any node verifies one
// without asking the database; only a nonce that was really handed out, is young
// and stands under a good signature costs a write (rules A5, A6).
const (
	nonceBody = 16
	nonceSize = 32
)

// Nonces makes and checks anti-replay nonces (RFC 8555, section 6.5).
type Nonces struct {
	key   []byte
	epoch uint32
	// ownEpoch refuses nonces of former processes: the store that remembers spent
	// ones in memory forgets them at a restart.
	ownEpoch bool
	now      func() time.Time
}

// NonceConfig is what Nonces need.
type NonceConfig struct {
	Key      []byte // 32 octets, the same on all nodes
	OwnEpoch bool   // true if spent nonces are remembered in this process only
	Now      func() time.Time
}

// NewNonces opens a new epoch.
func NewNonces(cfg NonceConfig) *Nonces {
	var epoch [4]byte
	_, _ = rand.Read(epoch[:])
	return &Nonces{key: cfg.Key, epoch: binary.BigEndian.Uint32(epoch[:]), ownEpoch: cfg.OwnEpoch, now: cfg.Now}
}

// next returns a fresh nonce in base64url.
func (n *Nonces) next() string {
	var b [nonceSize]byte
	binary.BigEndian.PutUint32(b[0:], uint32(n.now().Unix())) //nolint:gosec // good until 2106
	binary.BigEndian.PutUint32(b[4:], n.epoch)
	_, _ = rand.Read(b[8:nonceBody])
	n.seal(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (n *Nonces) seal(b []byte) {
	mac := hmac.New(sha256.New, n.key)
	mac.Write(b[:nonceBody])
	var sum [sha256.Size]byte
	copy(b[nonceBody:], mac.Sum(sum[:0])[:nonceSize-nonceBody])
}

// check verifies that we handed out the nonce and that it is young. It returns
// what the store has to remember, and until when. It does not spend it.
func (n *Nonces) check(text string) (value []byte, until time.Time, err error) {
	raw, err := decodeBase64(text)
	if err != nil || len(raw) != nonceSize {
		return nil, time.Time{}, fault.New(fault.BadNonce, "the nonce is not one of this server's")
	}
	want := make([]byte, nonceSize)
	copy(want, raw[:nonceBody])
	n.seal(want)
	if !hmac.Equal(want, raw) {
		return nil, time.Time{}, fault.New(fault.BadNonce, "the nonce is not one of this server's")
	}
	at := time.Unix(int64(binary.BigEndian.Uint32(raw)), 0)
	until = at.Add(nonceLife)
	if !n.now().Before(until) {
		return nil, time.Time{}, fault.New(fault.BadNonce, "the nonce has expired")
	}
	if n.ownEpoch && binary.BigEndian.Uint32(raw[4:]) != n.epoch {
		return nil, time.Time{}, fault.New(fault.BadNonce, "the nonce was made before the server's last start")
	}
	return raw[:nonceBody], until, nil
}

// newNonce answers HEAD with 200 and GET with 204 (RFC 8555, section 7.2).
func (s *Server) newNonce(w http.ResponseWriter, r *http.Request, _ *endpoint) error {
	w.Header().Set("Replay-Nonce", s.nonces.next())
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}
