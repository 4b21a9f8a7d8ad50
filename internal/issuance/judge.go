package issuance

import (
	"context"
	"crypto"
	"slices"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// judged is a request that the profile and the hierarchy allow.
type judged struct {
	issuer   *issuer.Issuer
	template *profile.Template
	key      pki.KeyHash
}

// needsPerson reports whether a person has to approve: where the profile says so,
// and always of a CA, which a second operator approves.
func (v *judged) needsPerson() bool { return v.template.Approval || v.template.CA }

// Preview is the verdict on a request, for a dry run: nothing is signed with a
// CA's key and nothing is written.
type Preview struct {
	Allowed  bool
	Fault    *fault.Error      // why not; nil if allowed
	IssuerID string            // the issuer that would sign
	Template *profile.Template // what would be signed; nil if the profile refused
}

// Preview judges a request as Issue would, lint included.
func (p *Pipeline) Preview(ctx context.Context, r Request) Preview {
	rules := p.rules.Load()
	candidates, err := p.candidates(rules, r)
	if err != nil {
		return Preview{Fault: fault.Of(err)}
	}
	signer, _, v, err := p.judgeAny(ctx, rules, candidates, 0, r)
	if err == nil {
		_, err = v.issuer.Draft(v.template, pki.NewSerial())
	}
	out := Preview{Allowed: err == nil, Fault: fault.Of(err), IssuerID: signer.ID}
	if v != nil {
		out.Template = v.template
	}
	return out
}

// judgeAny judges a request for the candidate whose turn it is. The constraints
// within a pool may differ: a CA that may not certify the names is left out as
// long as others are left.
func (p *Pipeline) judgeAny(
	ctx context.Context, rules *Rules, candidates []*ca.CA, try int, r Request,
) (signer *ca.CA, left []*ca.CA, v *judged, err error) {
	for {
		signer = candidates[try%len(candidates)]
		v, err = p.judge(ctx, rules, signer, r)
		if len(candidates) == 1 || err == nil || fault.Of(err).Reason != hierarchy.NameConstraints {
			return signer, candidates, v, err
		}
		candidates = slices.DeleteFunc(candidates, func(c *ca.CA) bool { return c == signer })
	}
}

// CheckNames reports, before there is a request, whether one of the CAs behind a
// name that sign may certify these names: a front-end asks before it lets anybody
// prove them. The fault is RejectedIdentifier, with one Sub for each name that the
// preferred CA may not certify. While there is no CA it is nil.
func (p *Pipeline) CheckNames(behind string, names []pki.Identifier) error {
	candidates, err := p.rules.Load().CAs.Candidates(behind, false, p.now())
	if err != nil {
		return nil //nolint:nilerr // Issue says so, when there is still none
	}
	child := hierarchy.Child{Names: names, RawSubject: []byte{0x30, 0}} // no subject
	var first error
	for _, c := range candidates {
		err := hierarchy.CheckNames(c.Chain(), child)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// judge is steps 1 and 2 of the door: the profile makes the template, the
// hierarchy checks it against the whole chain of the issuer.
func (p *Pipeline) judge(ctx context.Context, rules *Rules, signer *ca.CA, r Request) (*judged, error) {
	prof, ok := rules.Profiles[r.Profile]
	if !ok {
		return nil, fault.New(fault.InvalidProfile, "profile %q does not exist", r.Profile)
	}
	if prof.CA() && r.CSR != nil {
		if err := calaw.CheckRequest(r.CSR); err != nil {
			return nil, err
		}
	}
	t, err := prof.Apply(profile.Request{
		CSR: r.CSR, PublicKey: r.PublicKey, Subject: r.Subject, RawSubject: r.RawSubject, Names: r.Names,
		NotBefore: r.NotBefore, NotAfter: r.NotAfter,
	}, p.now())
	if err != nil {
		return nil, err
	}
	if err := r.checkBound(t); err != nil {
		return nil, err
	}
	t = t.Fit(signer.Certificate().NotBefore, signer.Certificate().NotAfter)
	v := &judged{issuer: signer.Issuer(), template: t}
	if v.key, err = pki.HashKey(t.PublicKey); err != nil {
		return v, fault.Wrap(fault.BadPublicKey, err, "the public key cannot be encoded")
	}
	if err := p.checkKey(ctx, t.PublicKey, v.key); err != nil {
		return v, err
	}
	if err := signer.MayIssue(t, r.Protocol == protocolOperator, ca.Responder(prof)); err != nil {
		return v, err
	}
	if t.CA {
		return v, calaw.Check(signer.Chain(), t, calaw.NamePolicy{})
	}
	if err := calaw.CheckPolicies(signer.Chain(), t.Policies); err != nil && !ca.Responder(prof) {
		return v, err
	}
	return v, hierarchy.Check(signer.Chain(), hierarchy.Child{
		NotBefore: t.NotBefore, NotAfter: t.NotAfter,
		Names: t.Names, RawSubject: t.RawSubject, EKU: t.ExtKeyUsage,
	})
}

// checkKey refuses keys that are known to be compromised (rules X13 and X14).
func (p *Pipeline) checkKey(ctx context.Context, pub crypto.PublicKey, h pki.KeyHash) error {
	blocked, err := p.store.BlockedKey(ctx, h)
	if err != nil {
		return err
	}
	return p.JudgeKey(pub, h, blocked)
}

// JudgeKey is CheckKey of a key of which the caller has read whether it is blocked.
func (p *Pipeline) JudgeKey(pub crypto.PublicKey, h pki.KeyHash, blocked bool) error {
	if p.rules.Load().KnownKeys.Has(pub, h) {
		return fault.New(fault.BadPublicKey, "the public key is on a list of keys that strangers know").
			Because("known_key")
	}
	if blocked {
		return fault.New(fault.BadPublicKey, "the public key is on the list of compromised keys").
			Because("compromised_key")
	}
	return nil
}

// CheckKey refuses a public key that may not be used anywhere because it is
// known to be compromised. Front-ends ask before they accept an account key.
func (p *Pipeline) CheckKey(ctx context.Context, pub crypto.PublicKey) error {
	h, err := pki.HashKey(pub)
	if err != nil {
		return fault.Wrap(fault.BadPublicKey, err, "the public key cannot be encoded")
	}
	return p.checkKey(ctx, pub, h)
}
