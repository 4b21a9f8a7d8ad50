package config

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// contents are the files and secrets that a configuration names, as they were when it
// was read: what stands in them later is of the next reading. Passphrases and PINs are
// not among them; they are read when a key is opened.
type contents struct {
	mu   sync.Mutex
	read map[string][]byte
}

// of returns what read returned the first time that it did not fail.
func (c *contents) of(name string, read func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text, ok := c.read[name]; ok {
		return text, nil
	}
	text, err := read()
	if err != nil {
		return nil, err
	}
	if c.read == nil {
		c.read = map[string][]byte{}
	}
	c.read[name] = text
	return text, nil
}

// Same reports whether two readings of a configuration found the same in it and in the
// files that it names.
func (f *File) Same(other *File) bool {
	return reflect.DeepEqual(f.Config, other.Config) && slices.Equal(f.knownFrom, other.knownFrom) &&
		maps.EqualFunc(f.contents.read, other.contents.read, bytes.Equal)
}

// file returns the content of a file that the configuration names.
func (f *File) file(path string) ([]byte, error) {
	return f.contents.of(path, func() ([]byte, error) { return readFile(path) })
}

func readFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, fault.Cause(err))
	}
	return text, nil
}

// secret returns a secret that is shared with others: a challenge or a webhook's key.
func (f *File) secret(ref Reference) ([]byte, error) {
	return f.contents.of("secret "+string(ref), func() ([]byte, error) { return ref.Read(f.Dir) })
}

// Chain returns the certificates of a PEM file that the configuration names.
func (f *File) Chain(path string) ([]*x509.Certificate, error) { return readChain(path, f.file) }

// ReadChain reads a PEM file of certificates.
func ReadChain(path string) ([]*x509.Certificate, error) { return readChain(path, readFile) }

func readChain(path string, read func(path string) ([]byte, error)) ([]*x509.Certificate, error) {
	if path == "" {
		return nil, errors.New("required: a PEM file")
	}
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return chain, nil
}

// List returns the revocation list of a file that the configuration names, DER or PEM.
func (f *File) List(path string) (*x509.RevocationList, error) {
	text, err := f.file(path)
	if err != nil {
		return nil, err
	}
	var list *x509.RevocationList
	der, err := pki.Single(text, pki.Lists)
	if err == nil {
		list, err = x509.ParseRevocationList(der)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
