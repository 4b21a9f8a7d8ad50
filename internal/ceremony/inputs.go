package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
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
	lists    map[string]*x509.RevocationList
}

// readInputs reads all that the acts name.
func readInputs(dir string, acts []Act) (*inputs, error) {
	in := &inputs{
		dir: dir, requests: map[string]*pki.CSR{}, others: map[string]*x509.Certificate{},
		lists: map[string]*x509.RevocationList{},
	}
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
		return errors.Join(in.named(act.ReplaceCA.Replaces), in.request(act.ReplaceCA.CSR))
	case act.CRL != nil && act.CRL.Published != "":
		return in.list(act.CRL.Published)
	case act.Revoke != nil:
		return in.named(act.Revoke.Certificate)
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
	if in.requests[name] != nil {
		return nil
	}
	text, err := in.open(name)
	if err != nil {
		return err
	}
	der, err := pki.Single(text, pki.Requests)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	csr, err := pki.ParseCSR(context.Background(), der)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	in.requests[name] = csr
	return nil
}

func (in *inputs) certificate(name string) error {
	if in.others[name] != nil {
		return nil
	}
	text, err := in.open(name)
	if err != nil {
		return err
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	in.others[name] = chain[0]
	return nil
}

func (in *inputs) list(name string) error {
	text, err := in.open(name)
	if err != nil {
		return err
	}
	der, err := pki.Single(text, pki.Lists)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if list.Number == nil || list.Number.Sign() < 0 {
		return fmt.Errorf("%s: a list without a number", name)
	}
	in.lists[name] = list
	return nil
}

// checkPublished refuses a list that the act's CA has not signed.
func (r *run) checkPublished(act Act) error {
	if act.CRL == nil || act.CRL.Published == "" {
		return nil
	}
	chain, err := r.cas[act.CRL.CA].Chain()
	if err != nil {
		return fmt.Errorf("crl: published: %w", err)
	}
	if err := pki.ListedBy(r.in.lists[act.CRL.Published], chain[0]); err != nil {
		return refuse("another_ca", "crl: %s is not a list that %s has signed: %w", act.CRL.Published, act.CRL.CA, err)
	}
	return nil
}

// named reads the certificate that a value names, unless the value is a serial.
func (in *inputs) named(value string) error {
	if _, err := pki.ParseSerial(value); err == nil {
		return nil
	}
	if err := in.certificate(value); err != nil {
		return fmt.Errorf("%q is neither a serial nor a certificate: %w", value, err)
	}
	return nil
}

// serial returns the serial that a file's value means: itself, or that of the
// certificate that named has read.
func (in *inputs) serial(value string) (pki.Serial, error) {
	if s, err := pki.ParseSerial(value); err == nil {
		return s, nil
	}
	c := in.others[value]
	if c == nil {
		return "", fmt.Errorf("%q is neither a serial nor a certificate", value)
	}
	return pki.SerialFromBig(c.SerialNumber), nil
}

// checkNamed refuses a certificate that another CA has signed: its serial would
// be taken for one of this CA's.
func (r *run) checkNamed(act Act) error {
	value := ""
	switch {
	case act.Revoke != nil:
		value = act.Revoke.Certificate
	case act.ReplaceCA != nil:
		value = act.ReplaceCA.Replaces
	}
	c := r.in.others[value]
	name, by := act.name()
	ca := r.cas[by]
	if c == nil || !exists(ca.path(certFile)) {
		return nil
	}
	chain, err := ca.Chain()
	if err != nil {
		return err
	}
	same := bytes.Equal(c.RawIssuer, chain[0].RawSubject)
	if text, err := os.ReadFile(ca.path(filed("newcerts", pki.SerialFromBig(c.SerialNumber)))); same && err == nil {
		filedAs, err := pki.ParseChain(text)
		same = err == nil && bytes.Equal(filedAs[0].Raw, c.Raw)
	}
	if !same {
		return refuse("another_ca", "%s: %s was not signed by %s: its serial means another certificate there", name,
			value, by)
	}
	return nil
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
