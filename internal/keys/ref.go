package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Ref says where a private key lives: "file:PATH" is an encrypted PKCS#8 file,
// "pkcs11:…" an object in a token (RFC 7512). A Ref never holds a secret, so it
// may be shown and logged.
type Ref string

// errNoPKCS11 answers every use of a token until the module that speaks to one
// is compiled in.
var errNoPKCS11 = errors.New("PKCS#11 tokens are not in this build: use a file: reference")

// Check reports whether the reference is well formed. It does not touch the key.
func (r Ref) Check() error {
	switch scheme, rest, _ := strings.Cut(string(r), ":"); scheme {
	case "file":
		if rest == "" || strings.ContainsRune(rest, 0) {
			return fmt.Errorf("key reference %q: want file:PATH", string(r))
		}
		return nil
	case "pkcs11":
		_, err := ParseURI(string(r))
		return err
	}
	return fmt.Errorf("key reference %q: want file:PATH or pkcs11:token=…;object=…", string(r))
}

// path returns the path of a file: reference.
func (r Ref) path() (string, bool) { return strings.CutPrefix(string(r), "file:") }

// Generate makes a new private key of algorithm alg at ref and opens it with the
// default Config. It never overwrites: a key that exists is an error. A file is
// PBES2 (scrypt, AES-256-CBC), mode 0600, and is on disk when Generate returns.
func Generate(ref Ref, alg string, secret Secret) (*Key, error) {
	if err := ref.Check(); err != nil {
		return nil, err
	}
	path, ok := ref.path()
	if !ok {
		return nil, fmt.Errorf("generate %s: %w", ref, errNoPKCS11)
	}
	b, err := generateFile(path, alg, secret)
	if err != nil {
		return nil, err
	}
	return newKey(ref, b, Config{}), nil
}

// Open opens the key at ref. ctx bounds the opening only.
func Open(ctx context.Context, ref Ref, secret Secret, cfg Config) (*Key, error) {
	if err := ref.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open key %s: %w", ref, err)
	}
	path, ok := ref.path()
	if !ok {
		return nil, fmt.Errorf("open key %s: %w", ref, errNoPKCS11)
	}
	b, err := openFile(path, secret)
	if err != nil {
		return nil, err
	}
	return newKey(ref, b, cfg), nil
}
