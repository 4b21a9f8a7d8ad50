package pki

import (
	"bufio"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the form of a list that others have made
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// The forms of a list of known keys.
const (
	// KeyListSPKI has the SHA-256 of a SubjectPublicKeyInfo, as KeyHash.
	KeyListSPKI = "spki-sha256"
	// KeyListModulus is that of Debian's openssl-blacklist: the last 80 bits of the
	// SHA-1 of what `openssl rsa -noout -modulus` prints.
	KeyListModulus = "openssl-blacklist"
)

// shortHash is what is left of a hash in KeyListModulus.
type shortHash [10]byte

// KeyList is a set of public keys whose private halves are known to strangers.
// The zero value is empty. It is read by many and written by Read alone.
type KeyList struct {
	spki   map[KeyHash]struct{}
	moduli map[shortHash]struct{}
}

// Len returns how many keys are on it.
func (l *KeyList) Len() int { return len(l.spki) + len(l.moduli) }

// Read adds a list: one key a line in lower-case hexadecimal. Empty lines and those
// that begin with # are skipped, and so is what follows a space. An error names
// the line; what was read before it stays.
func (l *KeyList) Read(r io.Reader, form string) error {
	if l.spki == nil {
		l.spki, l.moduli = map[KeyHash]struct{}{}, map[shortHash]struct{}{}
	}
	var full KeyHash
	var short shortHash
	into := map[string][]byte{KeyListSPKI: full[:], KeyListModulus: short[:]}[form]
	if into == nil {
		return fmt.Errorf("read list of keys: the form %q is neither %s nor %s", form, KeyListSPKI, KeyListModulus)
	}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		digits, _, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if digits == "" || digits[0] == '#' {
			continue
		}
		if len(digits) != 2*len(into) || strings.ToLower(digits) != digits {
			return fmt.Errorf("read list of keys: line %d: want %d lower-case hexadecimal digits", n, 2*len(into))
		}
		if _, err := hex.Decode(into, []byte(digits)); err != nil {
			return fmt.Errorf("read list of keys: line %d: want %d lower-case hexadecimal digits", n, 2*len(into))
		}
		if form == KeyListSPKI {
			l.spki[full] = struct{}{}
		} else {
			l.moduli[short] = struct{}{}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read list of keys: %w", err)
	}
	return nil
}

// Has reports whether a key, of the given hash, is on the list.
func (l *KeyList) Has(pub crypto.PublicKey, hash KeyHash) bool {
	if _, ok := l.spki[hash]; ok {
		return true
	}
	k, ok := pub.(*rsa.PublicKey)
	if !ok || len(l.moduli) == 0 {
		return false
	}
	sum := sha1.Sum(fmt.Appendf(nil, "Modulus=%X\n", k.N)) //nolint:gosec // see the import
	_, ok = l.moduli[shortHash(sum[len(sum)-len(shortHash{}):])]
	return ok
}
