package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/privyseal/privyseal/internal/files"
)

// Ref says where a private key lives: "file:PATH" is an encrypted PKCS#8 file,
// "credential:NAME" one that systemd hands over (LoadCredential=), "pkcs11:…" an
// object in a token (RFC 7512). A Ref never holds a secret, so it
// may be shown and logged.
type Ref string

// Check reports whether the reference is well formed. It does not touch the key.
func (r Ref) Check() error {
	switch scheme, rest, _ := strings.Cut(string(r), ":"); scheme {
	case "file":
		if rest == "" || strings.ContainsRune(rest, 0) {
			return fmt.Errorf("key reference %q: want file:PATH", string(r))
		}
		return nil
	case "credential":
		if err := files.CheckCredential(rest); err != nil {
			return fmt.Errorf("key reference %q: %w", string(r), err)
		}
		return nil
	case "pkcs11":
		_, err := ParseURI(string(r))
		return err
	}
	return fmt.Errorf("key reference %q: want file:PATH, credential:NAME or pkcs11:token=…;object=…", string(r))
}

// ErrNoKey is in the chain of the error of Open when everything is as it should
// be, but there is no key yet. For a file it is fs.ErrNotExist.
var ErrNoKey = fs.ErrNotExist

// InFile reports whether the key is in a file and not in a token.
func (r Ref) InFile() bool { return !strings.HasPrefix(string(r), "pkcs11:") }

// path returns the path of a key in a file.
func (r Ref) path() (string, error) {
	name, credential := strings.CutPrefix(string(r), "credential:")
	if !credential {
		return strings.TrimPrefix(string(r), "file:"), nil
	}
	path, err := files.Credential(name, os.LookupEnv)
	if err != nil {
		return "", fmt.Errorf("key %s: %w", r, err)
	}
	return path, nil
}

// newPath returns the path for a key that is to be written.
func (r Ref) newPath() (string, error) {
	path, file := strings.CutPrefix(string(r), "file:")
	if !file {
		return "", fmt.Errorf("key %s: systemd hands it over; make it at file:PATH and load it from there", r)
	}
	return path, nil
}

// Generate makes a new private key of algorithm alg at ref and opens it with the
// default Config. It never overwrites: a key that exists is an error. A file is
// PBES2 (scrypt, AES-256-CBC), mode 0600, and is on disk when Generate returns. A
// key in a token is made there, never leaves it, and gets the label of ref and
// its id, or a random one.
func Generate(ref Ref, alg string, secret Secret) (*Key, error) {
	return GenerateIn(ref, alg, secret, Config{})
}

// GenerateIn is Generate with the Config of the key that it opens.
func GenerateIn(ref Ref, alg string, secret Secret, cfg Config) (*Key, error) {
	if err := ref.Check(); err != nil {
		return nil, err
	}
	if !ref.InFile() {
		if err := generateToken(ref, alg, secret, cfg); err != nil {
			return nil, fmt.Errorf("generate key %s: %w", ref, err)
		}
		return Open(context.Background(), ref, secret, cfg)
	}
	path, err := ref.newPath()
	if err != nil {
		return nil, err
	}
	b, err := generateFile(path, alg, secret)
	if err != nil {
		return nil, err
	}
	return newKey(ref, b, cfg), nil
}

// Save writes a private key that was made elsewhere to a file: reference, as
// Generate does. It never overwrites. A token takes no key from here.
func Save(ref Ref, key crypto.Signer, secret Secret) error {
	if !ref.InFile() {
		return fmt.Errorf("save key %s: bring it into the token with the token's own tools", ref)
	}
	path, err := ref.newPath()
	if err != nil {
		return err
	}
	text, err := Encrypt(key, secret)
	if err != nil {
		return fmt.Errorf("save key %s: %w", ref, err)
	}
	if err := writeNew(path, text); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	return nil
}

// Ensure opens the key at ref, and makes it first if there is none.
func Ensure(ctx context.Context, ref Ref, alg string, secret Secret, cfg Config) (*Key, error) {
	k, err := Open(ctx, ref, secret, cfg)
	if !errors.Is(err, ErrNoKey) {
		return k, err
	}
	return GenerateIn(ref, alg, secret, cfg)
}

// Hold returns a Key around one that is in memory already, such as the throw-away
// key of a rehearsal. The reference only names it.
func Hold(ref Ref, signer crypto.Signer, cfg Config) *Key { return newKey(ref, fileKey{signer}, cfg) }

// Open opens the key at ref. ctx bounds the opening only, and so does the
// Config's deadline where the key is in a token.
func Open(ctx context.Context, ref Ref, secret Secret, cfg Config) (*Key, error) {
	if err := ref.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open key %s: %w", ref, err)
	}
	if !ref.InFile() {
		return openPKCS11(ctx, ref, secret, cfg)
	}
	path, err := ref.path()
	if err != nil {
		return nil, err
	}
	b, err := openFile(path, secret)
	if err != nil {
		return nil, err
	}
	return newKey(ref, b, cfg), nil
}

// Available reports what stands in the way of opening the key on this machine,
// as far as that can be told without touching it: module is Config.Module.
func (r Ref) Available(module string) error {
	if err := r.Check(); err != nil {
		return err
	}
	if r.InFile() {
		path, err := r.path()
		if err != nil {
			return err
		}
		return files.CheckSecret(path)
	}
	if !withPKCS11 {
		return fmt.Errorf("%s: %w", r, errNoPKCS11)
	}
	_, path, err := r.token(module)
	if err == nil {
		err = missing(path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return nil
}

func missing(path string) error {
	_, err := os.Stat(path)
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", path, p.Err)
	}
	return err
}

// errNoPKCS11 answers every use of a token in a build without cgo.
var errNoPKCS11 = errors.New("this build has no PKCS#11: a program built with CGO_ENABLED=1 is needed, or a file: " +
	"reference")

// token returns the parts of a pkcs11: reference and the module to load.
func (r Ref) token(module string) (*URI, string, error) {
	u, err := ParseURI(string(r))
	switch {
	case err != nil:
		return nil, "", err
	case u.ModuleName != "":
		return nil, "", errors.New("module-name is not looked up: give the module's whole path as module-path")
	case u.Token == "" && u.Serial == "" && u.SlotID == nil:
		return nil, "", errors.New("want token=, serial= or slot-id= beside the key's name")
	case u.ModulePath != "":
		return u, u.ModulePath, nil
	case !filepath.IsAbs(module):
		return nil, "", errors.New("no PKCS#11 module is named: add ?module-path=/… to the reference or configure one")
	}
	return u, module, nil
}

// openPKCS11 opens a key in a token and keeps it awake.
func openPKCS11(ctx context.Context, ref Ref, secret Secret, cfg Config) (*Key, error) {
	if !withPKCS11 {
		return nil, fmt.Errorf("open key %s: %w", ref, errNoPKCS11)
	}
	k := newKey(ref, nil, cfg)
	u, module, err := ref.token(cfg.Module)
	if err == nil {
		ctx, cancel := context.WithTimeoutCause(ctx, k.cfg.Deadline, errDeadline)
		defer cancel()
		if k.backend, err = openToken(ctx, u, module, secret, cfg, k.reported); err == nil {
			k.public = k.backend.Public()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", ref, err)
	}
	go k.tend() //nolint:gosec // it lives as long as the key, not as long as the opening
	return k, nil
}
