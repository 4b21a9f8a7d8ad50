package operator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// The states of a plan's steps that apply acts on.
const (
	stateInPlace    = "in place"
	stateUndeclared = "undeclared"
	stateRequest    = "request"
)

// application applies one hierarchy's file.
type application struct {
	cmd    *cobra.Command
	client *api.Client
	text   string
	out    string
}

// apply goes from the roots down, as far as it gets, and returns the plan of what
// is left.
func (a *application) apply(plan *api.HierarchyPlan) (*api.HierarchyPlan, error) {
	for _, s := range plan.Steps {
		if s.State == stateInPlace || s.State == stateUndeclared {
			continue
		}
		if s.Key == "online" {
			if err := a.request(s); err != nil {
				return nil, err
			}
		}
		if err := a.install(s); err != nil {
			return nil, err
		}
	}
	plan, err := a.client.PlanHierarchy(a.cmd.Context(), a.text)
	if err != nil {
		return nil, err
	}
	for _, s := range plan.Steps {
		if s.Key == "offline" && s.State == stateInPlace {
			if err := a.list(s); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range plan.Ceremonies {
		if err := a.write(filepath.Join(c.Root, "ceremony.yaml"), []byte(c.File)); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// request makes a key and its request, or takes what is on record, and writes the
// request.
func (a *application) request(s api.HierarchyStep) error {
	csr, err := a.client.IssuerCSR(a.cmd.Context(), s.CA, api.NewIssuerCSR{Subject: s.Subject, Algorithm: a.algorithm(s)})
	if err != nil {
		return fmt.Errorf("%s: %w", s.CA, err)
	}
	if csr.KeyMade {
		a.cmd.PrintErrf("%s: made the key %s (%s)\n", s.CA, csr.Key, csr.Algorithm)
	}
	return a.write(filepath.Join(s.Root, s.CA+".csr"), []byte(csr.CSR))
}

// algorithm asks for a kind of key only when the key is about to be made: one that
// is there is used.
func (a *application) algorithm(s api.HierarchyStep) string {
	if s.State == stateRequest {
		return s.Algorithm
	}
	return ""
}

// write writes a file for a ceremony unless it is there as it should be.
func (a *application) write(name string, text []byte) error {
	path := filepath.Join(a.out, name)
	if have, err := os.ReadFile(path); err == nil && string(have) == string(text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return err
	}
	return writePublic(path, text)
}

// back is the folder that a ceremony's files come back into.
func (a *application) back(root string) string { return filepath.Join(a.out, root, "out") }

// install installs the certificate of a CA if it has come back: offline CAs bring
// ca.pem in their own folder, issuers NAME.pem in that of the CA above.
func (a *application) install(s api.HierarchyStep) error {
	file := filepath.Join(a.back(s.Root), s.Parent, s.CA+".pem")
	if s.Key == "offline" {
		file = filepath.Join(a.back(s.Root), s.CA, "ca.pem")
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	transcript, err := a.transcript(s, text)
	if err != nil {
		return err
	}
	done, again, err := a.client.InstallIssuer(a.cmd.Context(), s.CA, api.IssuerCertificate{Certificate: string(text), Transcript: transcript})
	if err != nil {
		return fmt.Errorf("%s: %s: %w", s.CA, file, err)
	}
	for _, w := range done.Warnings {
		a.cmd.PrintErrf("warning: %s: %s\n", s.CA, w)
	}
	if !again {
		a.cmd.PrintErrf("%s: installed, good until %s\n", s.CA, stamp(done.Issuer.NotAfter))
	}
	return nil
}

// transcript returns the transcript among those that came back that names the
// certificate; the server checks what it says.
func (a *application) transcript(s api.HierarchyStep, text []byte) (string, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("%s: its file is not PEM", s.CA)
	}
	sum := sha256.Sum256(block.Bytes)
	hash := hex.EncodeToString(sum[:])
	found, err := filepath.Glob(filepath.Join(a.back(s.Root), "*", "transcript.json"))
	if err != nil {
		return "", err
	}
	slices.Sort(found)
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if strings.Contains(string(text), hash) {
			return string(text), nil
		}
	}
	return "", fmt.Errorf("%s: no transcript in %s names its certificate (SHA-256 %s): bring the whole folder out of the ceremony back; if there is none, install it with `privyseal issuer install %s --no-transcript`",
		s.CA, a.back(s.Root), hash, s.CA)
}

// list publishes the list of an offline CA if one has come back that is newer.
func (a *application) list(s api.HierarchyStep) error {
	file := filepath.Join(a.back(s.Root), s.CA, "ca.crl")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = a.client.ImportCRL(a.cmd.Context(), text)
	var p *api.Problem
	if errors.As(err, &p) && p.Reason == "crl_number" {
		return nil // a newer one is published
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", s.CA, file, err)
	}
	return nil
}
