package operator

import (
	"cmp"
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
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/pki"
)

// The states of a plan's steps that apply acts on.
const (
	stateInPlace  = "in place"
	stateRequest  = "request"
	stateCeremony = "pending ceremony"
	stateSign     = "sign"
)

// application applies one hierarchy's file.
type application struct {
	cmd    *cobra.Command
	client *api.Client
	text   string
	out    string
	now    func() time.Time
}

// rounds is more than the levels that one apply can go down: each round does what
// the one before has made possible.
const rounds = 8

// apply goes from the roots down, as far as it gets, and returns the plan of what
// is left.
func (a *application) apply(plan *api.HierarchyPlan) (*api.HierarchyPlan, error) {
	for range rounds {
		acted := false
		for _, s := range plan.Steps {
			did, err := a.step(s)
			if err != nil {
				return nil, err
			}
			acted = acted || did
		}
		if !acted {
			break
		}
		var err error
		if plan, err = api.PlanHierarchy.Call(a.cmd.Context(), a.client,
			api.None{}, api.HierarchyFile{Hierarchy: a.text}); err != nil {
			return nil, err
		}
	}
	for _, s := range plan.Steps {
		if s.Key == "offline" && s.State == stateInPlace {
			if err := a.list(s); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range plan.Ceremonies {
		if err := a.ceremony(c); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// step does what can be done for one CA now, and reports whether anything was.
func (a *application) step(s api.HierarchyStep) (bool, error) {
	switch s.State {
	case stateRequest:
		_, err := a.request(s)
		return true, err
	case stateCeremony:
		if s.Key == "online" {
			if _, err := a.request(s); err != nil {
				return false, err
			}
		}
		return a.install(s)
	case stateSign:
		return a.sign(s)
	}
	return false, nil
}

// request makes a key and its request, or takes what is on record, and writes the
// request.
func (a *application) request(s api.HierarchyStep) (*api.IssuerCSR, error) {
	csr, err := api.CreateIssuerCSR.Call(a.cmd.Context(), a.client,
		api.IssuerRef{Issuer: s.CA}, api.NewIssuerCSR{Subject: s.Subject, Algorithm: a.algorithm(s)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.CA, err)
	}
	if csr.KeyMade {
		a.cmd.PrintErrf("%s: made the key %s (%s)\n", s.CA, csr.Key, csr.Algorithm)
	}
	return csr, a.write(filepath.Join(s.Root, s.CA+".csr"), []byte(csr.CSR))
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
	return files.Write(path, text, public)
}

// ceremony writes the file of a ceremony. People add to it who is present, and
// what else they decide: one that is there for the same plan is left alone, one for
// another plan is set aside.
func (a *application) ceremony(c api.PlannedCeremony) error {
	sum := sha256.Sum256([]byte(c.File))
	mark := "# plan " + hex.EncodeToString(sum[:8]) + "\n"
	path := filepath.Join(a.out, c.Root, "ceremony.yaml")
	have, err := os.ReadFile(path)
	switch {
	case err == nil && strings.Contains(string(have), mark):
		return nil
	case err == nil:
		if err := os.Rename(path, path+".old"); err != nil {
			return err
		}
		a.cmd.PrintErrf("%s: the plan has changed; the file as it was is %s.old\n", path, path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return a.write(filepath.Join(c.Root, "ceremony.yaml"), []byte(mark+c.File))
}

// back returns what has come back from ceremonies under a name: each fills a folder
// of its own, out, out-2 and so on; the newest is last.
func (a *application) back(root string, name ...string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(append([]string{a.out, root, "out*"}, name...)...))
	slices.SortFunc(found, func(x, y string) int { // out, out-2, … out-10
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
	return found, err
}

// install installs the certificate of a CA if it has come back: offline CAs bring
// ca.pem in their own folder, issuers NAME.pem in that of the CA above.
func (a *application) install(s api.HierarchyStep) (bool, error) {
	name := []string{s.Parent, s.CA + ".pem"}
	if s.Key == "offline" {
		name = []string{s.CA, "ca.pem"}
	}
	found, err := a.back(s.Root, name...)
	if err != nil || len(found) == 0 {
		return false, err
	}
	text, err := os.ReadFile(found[len(found)-1]) // the newest
	if err != nil {
		return false, err
	}
	transcript, err := a.transcript(s, text)
	if err != nil {
		return false, err
	}
	return a.putInForce(s, api.IssuerCertificate{Certificate: string(text), Transcript: transcript})
}

func (a *application) putInForce(s api.HierarchyStep, c api.IssuerCertificate) (bool, error) {
	answer, err := api.InstallIssuer.Call(a.cmd.Context(), a.client, api.IssuerRef{Issuer: s.CA}, c)
	if err != nil {
		return false, fmt.Errorf("install %s: %w", s.CA, err)
	}
	done, again := answer.Done()
	for _, w := range done.Warnings {
		a.cmd.PrintErrf("warning: %s: %s\n", s.CA, w)
	}
	if !again {
		a.cmd.PrintErrf("%s: installed, good until %s\n", s.CA, stamp(done.Issuer.NotAfter))
	}
	return !again, nil
}

// sign has a CA of this server sign the request, once: the request that is on
// record for the key is gone on with. Another operator has to approve it.
func (a *application) sign(s api.HierarchyStep) (bool, error) {
	csr, err := a.request(s)
	if err != nil {
		return false, err
	}
	r, err := a.asked(s, csr.CSR)
	if err != nil {
		return false, err
	}
	if r == nil {
		end := a.now().AddDate(s.Years, 0, 0).Add(-time.Second)
		_, err := a.client.Issue(a.cmd.Context(), api.IssueRequest{Profile: signingProfile(s), Issuer: s.Parent,
			CSR: csr.CSR, NotAfter: end})
		var p *api.Problem
		if !errors.As(err, &p) || !p.Waiting() {
			return false, fmt.Errorf("%s: %w", s.CA, err)
		}
		a.cmd.PrintErrf("%s: waits for another operator: privyseal request approve %s\n", s.CA, p.Identifier.Value)
		return false, nil
	}
	if r.Certificate == "" {
		a.cmd.PrintErrf("%s: waits for another operator: privyseal request approve %s\n", s.CA, r.ID)
		return false, nil
	}
	chain, err := a.client.PEM(a.cmd.Context(), r.Certificate, s.Parent)
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.CA, err)
	}
	return a.putInForce(s, api.IssuerCertificate{Certificate: string(chain)})
}

// signingProfile is the profile by which a CA of this server signs another: the
// built-in one that bounds usages where there is one, or else the template.
func signingProfile(s api.HierarchyStep) string {
	if strings.HasSuffix(s.Template, "_PathLen0/V1") {
		return "issuing-ca"
	}
	return s.Template
}

// asked returns the request on record for a CA's key that is not decided against,
// nil if there is none.
func (a *application) asked(s api.HierarchyStep, csr string) (*api.ApprovalRequest, error) {
	block, _ := pem.Decode([]byte(csr))
	if block == nil {
		return nil, fmt.Errorf("%s: its request is not PEM", s.CA)
	}
	parsed, err := pki.ParseCSR(a.cmd.Context(), block.Bytes)
	if err != nil {
		return nil, err
	}
	for p := (api.ListRequestsParams{Profile: signingProfile(s)}); ; {
		page, err := api.ListRequests.Call(a.cmd.Context(), a.client, p, api.None{})
		if err != nil {
			return nil, err
		}
		for _, r := range page.Requests {
			open := r.Status == api.RequestPending || r.Status == api.RequestApproved || r.Status == api.RequestIssued
			if open && r.KeyHash == hex.EncodeToString(parsed.KeyHash[:]) {
				return &r, nil
			}
		}
		if p.Cursor = page.Next; p.Cursor == "" {
			return nil, nil
		}
	}
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
	found, err := a.back(s.Root, "*", "transcript.json")
	if err != nil {
		return "", err
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if strings.Contains(string(text), hash) {
			return string(text), nil
		}
	}
	return "", fmt.Errorf("%s: no transcript in %s names its certificate (SHA-256 %s): bring the whole folder out of "+
		"the ceremony back; if there is none, install it with `privyseal issuer install %s --no-transcript`",
		s.CA, filepath.Join(a.out, s.Root), hash, s.CA)
}

// list publishes the lists of an offline CA that have come back. One that the
// server refuses, for a newer one is published or it has expired by now, is no
// reason to stop.
func (a *application) list(s api.HierarchyStep) error {
	found, err := a.back(s.Root, s.CA, "ca.crl")
	if err != nil {
		return err
	}
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		_, err = api.ImportCRL.Call(a.cmd.Context(), a.client, api.None{}, api.CRLImport{CRL: api.CRLText(text)})
		var p *api.Problem
		switch {
		case err == nil || errors.As(err, &p) && p.Reason == "crl_number":
		case p != nil && p.Refused():
			a.cmd.PrintErrf("warning: %s: %s: %s\n", s.CA, file, err)
		default:
			return fmt.Errorf("%s: %s: %w", s.CA, file, err)
		}
	}
	return nil
}
