package ceremony

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// inputs are the requests and certificates that a file names, read once: what was
// shown and confirmed is what is signed, whatever becomes of the files.
type inputs struct {
	dir      string
	requests map[string]*pki.CSR
	others   map[string]*x509.Certificate
}

// readInputs reads all that the acts name.
func readInputs(dir string, acts []Act) (*inputs, error) {
	in := &inputs{dir: dir, requests: map[string]*pki.CSR{}, others: map[string]*x509.Certificate{}}
	for n, act := range acts {
		if err := in.read(act); err != nil {
			return nil, fmt.Errorf("act %d: %w", n+1, err)
		}
	}
	return in, nil
}

func (in *inputs) read(act Act) error {
	switch {
	case act.SignCA != nil && act.SignCA.CSR != "":
		return in.request(act.SignCA.CSR)
	case act.CrossSign != nil:
		if err := in.certificate(act.CrossSign.Certificate); err != nil || act.CrossSign.CSR == "" {
			return err
		}
		return in.request(act.CrossSign.CSR)
	case act.ReplaceCA != nil:
		return in.request(act.ReplaceCA.CSR)
	case act.Responder != nil:
		return in.request(act.Responder.CSR)
	}
	return nil
}

func (in *inputs) open(name string) ([]byte, error) {
	if name == "" {
		return nil, errors.New("no file is named")
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(in.dir, name)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	return text, nil
}

func (in *inputs) request(name string) error {
	text, err := in.open(name)
	if err != nil {
		return err
	}
	der := text
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return fmt.Errorf("%s: a PEM block of type %q: want a certificate request", name, block.Type)
		}
		der = block.Bytes
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	in.requests[name] = csr
	return nil
}

func (in *inputs) certificate(name string) error {
	text, err := in.open(name)
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte("-----BEGIN")) {
		text = pki.EncodeChain(text)
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	in.others[name] = chain[0]
	return nil
}

// serial returns the serial that a file's value means: itself, or that of the
// certificate in the file of that name.
func (in *inputs) serial(value string) (pki.Serial, error) {
	if s, err := pki.ParseSerial(value); err == nil {
		return s, nil
	}
	if err := in.certificate(value); err != nil {
		return "", fmt.Errorf("%q is neither a serial nor a certificate: %w", value, err)
	}
	return pki.SerialFromBig(in.others[value].SerialNumber), nil
}

// parseDay reads a day or a time.
func parseDay(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return &t, nil
		}
	}
	return nil, fmt.Errorf("time %q: want 2026-11-21 or 2026-11-21T12:00:00Z", s)
}

// base is what the files of a request are called in the out folder.
func base(path string) string {
	name := filepath.Base(path)
	return strings.TrimSuffix(name, filepath.Ext(name))
}
