package admin

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// protocol is what certificates and audit events say of requests from here.
const protocol = "operator"

// IssueCertificate is POST /v1/certificates.
func (s *Server) IssueCertificate(ctx context.Context, _ api.None, b *api.IssueRequest) (*api.IssueAnswer, error) {
	request, err := s.request(ctx, b)
	if b.DryRun {
		verdict, err := s.preview(ctx, request, err)
		return &api.IssueAnswer{Verdict: &verdict}, err
	}
	if err != nil {
		return nil, err
	}
	request.Origin = "request:" + store.NewID()
	cert, err := s.cfg.Pipeline.Issue(ctx, request)
	if err != nil {
		return nil, err
	}
	return &api.IssueAnswer{Certificate: new(issued(cert))}, nil
}

// request translates the body for the door. Its faults are verdicts too.
func (s *Server) request(ctx context.Context, b *api.IssueRequest) (issuance.Request, error) {
	r := issuance.Request{
		Protocol: protocol, Profile: b.Profile, Issuer: b.Issuer, NotBefore: b.NotBefore, NotAfter: b.NotAfter,
		Requester: requester(ctx), RequestID: web.RequestID(ctx),
	}
	err := s.profileGiven(b.Profile)
	if err != nil {
		return r, err
	}
	if r.CSR, err = parseCSR(ctx, b.CSR, len(b.Names) > 0); err != nil {
		return r, err
	}
	if b.Subject != "" {
		name, err := pki.ParseName(b.Subject)
		if err != nil {
			return r, fault.New(fault.Malformed, "%w", err).Because("subject")
		}
		r.Subject = &name
	}
	replaceNames(&r, b.Names)
	if r.Issuer == "" {
		r.Issuer, err = onlyIssuer(s.cfg.Pipeline.Rules().CAs)
	}
	return r, err
}

func (s *Server) profileGiven(name string) error {
	if name != "" {
		return nil
	}
	return fault.New(fault.Malformed, "say which profile; there are: %s",
		strings.Join(slices.Sorted(maps.Keys(s.cfg.Pipeline.Rules().Profiles)), ", ")).Because("profile_missing")
}

// replaceNames puts the operator's names in the place of those that the CSR asks
// for. To the door, names beside a CSR are a bound that the CSR has to keep; so
// the CSR stays behind, and its key and subject go on alone.
func replaceNames(r *issuance.Request, names []api.Identifier) {
	if len(names) == 0 {
		return
	}
	for _, n := range names {
		r.Names = append(r.Names, pki.Identifier{Type: pki.IdentifierType(n.Type), Value: n.Value})
	}
	if r.Subject == nil {
		r.Subject = &r.CSR.Subject
	}
	r.PublicKey, r.CSR = r.CSR.PublicKey, nil
}

// parseCSR reads a PKCS#10 in PEM, without its names if they are replaced.
func parseCSR(ctx context.Context, text string, unnamed bool) (*pki.CSR, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, fault.New(fault.BadCSR, "the certificate request is not PEM").Because("csr_not_pem")
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, fault.New(fault.BadCSR, "the PEM block is a %s, not a CERTIFICATE REQUEST", block.Type).
			Because("csr_other_pem")
	case strings.TrimSpace(string(rest)) != "":
		return nil, fault.New(fault.BadCSR, "there is something after the certificate request").Because("csr_trailing")
	}
	if unnamed {
		return pki.ParseUnnamedCSR(ctx, block.Bytes)
	}
	return pki.ParseCSR(ctx, block.Bytes)
}

// onlyIssuer returns the issuer to use when the request names none: the only one
// that there is, or the only pool.
func onlyIssuer(cas *ca.Set) (string, error) {
	var names []string
	for _, c := range cas.All() {
		if name := c.Service(); c.Issuer() != nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	switch slices.Sort(names); len(names) {
	case 0:
		return "", fault.New(fault.Unavailable, "there is no issuer that can sign").Because("no_issuer")
	case 1:
		return names[0], nil
	}
	return "", fault.New(fault.Malformed, "say which issuer; there are: %s", strings.Join(names, ", ")).
		Because("issuer_missing")
}

// preview gives the verdict on a request that parsed or did not. What is not the
// request's fault is an error, not a verdict.
func (s *Server) preview(ctx context.Context, r issuance.Request, err error) (api.Verdict, error) {
	var p issuance.Preview
	if err == nil {
		p = s.cfg.Pipeline.Preview(ctx, r)
		if p.Fault != nil {
			err = p.Fault
		}
	}
	if f := fault.Of(err); f != nil && (f.Kind == fault.Unavailable || f.Kind == fault.Internal) {
		return api.Verdict{}, err
	}
	p.Fault = fault.Of(err)
	return verdict(p), nil
}

// verdict is a preview as the API tells it.
func verdict(p issuance.Preview) api.Verdict {
	v := api.Verdict{Verdict: api.DecisionIssue}
	if p.Template != nil {
		v.Template = template(p.Template, p.IssuerID)
		if p.Template.Approval {
			v.Verdict = api.DecisionApproval
		}
	}
	if f := p.Fault; f != nil {
		v.Verdict = api.DecisionRefuse
		v.Kind, v.Reason, v.Detail, v.Subproblems = f.Kind.String(), f.Reason, f.Detail, subproblems(f)
	}
	return v
}

func template(t *profile.Template, issuerID string) api.Template {
	out := api.Template{
		Profile: t.Profile, ProfileVersion: t.ProfileVersion, Issuer: issuerID, Subject: t.Subject,
		Names: inventory.Identifiers(t.Names), NotBefore: t.NotBefore.UTC(), NotAfter: t.NotAfter.UTC(),
		KeyAlgorithm: pki.KeyAlgorithm(t.PublicKey), KeyUsage: keyUsage(t.KeyUsage), ExtKeyUsage: []string{}, CA: t.CA,
	}
	for _, oid := range t.ExtKeyUsage {
		out.ExtKeyUsage = append(out.ExtKeyUsage, pki.EKUName(oid))
	}
	for _, oid := range t.Policies {
		out.Policies = append(out.Policies, oid.String())
	}
	for _, ext := range t.Extra {
		out.Extensions = append(out.Extensions, ext.Id.String())
	}
	if t.CA && t.MaxPathLen >= 0 {
		out.MaxPathLen = &t.MaxPathLen
	}
	return out
}

// usageNames are RFC 5280's names of the bits, section 4.2.1.3, in its order.
var usageNames = []string{
	"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement",
	"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly",
}

func keyUsage(bits x509.KeyUsage) []string {
	names := []string{}
	for i, name := range usageNames {
		if bits&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}
