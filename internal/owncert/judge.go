package owncert

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
)

// authorities returns the CAs behind the name of an issuer or a pool that are
// installed, preferred first. It is the one place here that asks the pipeline about
// them.
func authorities(p *issuance.Pipeline, name string) []*ca.CA {
	return slices.DeleteFunc(slices.Clone(p.Rules().CAs.Behind(name)), func(c *ca.CA) bool { return !c.Installed() })
}

// IssuerOf returns the certificate of the CA that signed one of ours; nil if it is
// not one that is asked now.
func (k *Keeper) IssuerOf(c *x509.Certificate) *x509.Certificate {
	if a := signed(authorities(k.Pipeline, k.Issuer), c); a != nil {
		return a.Certificate()
	}
	return nil
}

func signed(all []*ca.CA, c *x509.Certificate) *ca.CA {
	for _, a := range all {
		if pki.CertifiedBy(c, a.Certificate()) == nil {
			return a
		}
	}
	return nil
}

// requestTo returns whom to ask for a certificate and under which subject: what is
// known by its alternative names needs none, where the CA's constraints demand one
// within its own directory.
func (k *Keeper) requestTo(s Spec) (issuer string, subject pki.Name, err error) {
	all := authorities(k.Pipeline, k.Issuer)
	at := max(0, slices.IndexFunc(all, func(c *ca.CA) bool { return c.MaySign(k.Now()) == nil }))
	switch {
	case s.CommonName == "":
		return k.Issuer, nil, nil
	case len(all) == 0:
		return k.Issuer, pki.CommonNameOnly(cut(s.CommonName)), nil
	}
	subject, err = calaw.OwnName(all[at].Chain(), cut(s.CommonName))
	switch {
	case len(subject) == 1:
		return k.Issuer, subject, nil
	case len(s.Names) > 0:
		return all[at].ID, pki.Name{}, nil
	}
	return all[at].ID, subject, err
}

// cut shortens a common name to the upper bound of X.520.
func cut(cn string) string {
	const most = 64
	if r := []rune(cn); len(r) > most {
		return string(r[:most])
	}
	return cn
}

// unfit says why a certificate must not be used any more; "" if it may be. An
// error means that nobody knows.
func (k *Keeper) unfit(ctx context.Context, c *x509.Certificate) (string, error) {
	if !k.Now().Before(c.NotAfter) {
		return "it has expired", nil
	}
	if why, known, err := Revoked(ctx, k.Pipeline, c); err != nil || why != "" {
		return why, err
	} else if !known {
		return "it is not on record", nil
	}
	err := k.Pipeline.CheckKey(ctx, c.PublicKey)
	if fault.Is(err, fault.BadPublicKey) {
		return "its key is compromised", nil
	}
	return "", err
}

// Revoked says for which reason a certificate is revoked, "" if it is not, and
// whether it is one of ours at all.
func Revoked(ctx context.Context, p *issuance.Pipeline, c *x509.Certificate) (why string, known bool, err error) {
	row, err := p.Lookup(ctx, c.Raw)
	switch {
	case fault.Is(err, fault.NotFound):
		return "", false, nil
	case err != nil:
		return "", false, err
	case row.Revocation != nil:
		at := row.Revocation.RevokedAt.UTC().Format(time.RFC3339)
		return fmt.Sprintf("it was revoked at %s for %s", at, row.Revocation.Reason), true, nil
	}
	return "", true, nil
}

// due reports whether the newest generation is to be followed by another: its time
// has come, its issuer signs no more, or the configuration asks for something else.
func (k *Keeper) due(g *Generation) bool {
	if len(g.Pairs) != len(k.Specs) {
		return true
	}
	all := authorities(k.Pipeline, k.Issuer)
	signs := func(c *ca.CA) bool { return c.Barred() == nil }
	somebody := slices.ContainsFunc(all, signs)
	for i, p := range g.Pairs {
		s, c := k.Specs[i], p.Certificate
		by := signed(all, c)
		if !renewAt(c).After(k.Now()) || by == nil || somebody && !signs(by) || p.Ref != k.Token.ref() ||
			p.Ref == "" && pki.KeyAlgorithm(c.PublicKey) != s.Algorithm || s.Fits != nil && !s.Fits(c, by.ID) {
			return true
		}
	}
	return false
}

// renewAt is when two thirds of a certificate's life are over.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// Health is what there is to say of own certificates.
type Health struct {
	NotAfter time.Time // when the one in use ends; zero if there is none
	Failed   error     // why it cannot be used now; nil if it can
	Warning  string    // what will end, and since when it cannot be renewed
}

// Health asks the certificate in use and its key.
func (k *Keeper) Health() Health {
	var h Health
	failed := k.failure.Load()
	all := k.All()
	if len(all) == 0 {
		h.Failed = fault.New(fault.Unavailable, "there is no certificate yet").Because("no_certificate")
		if failed != nil {
			h.Failed = failed.err
		}
		return h
	}
	h.NotAfter = all[0].Pairs[0].Certificate.NotAfter
	for _, p := range all[0].Pairs {
		if key, ok := p.Key.(interface{ Healthy() error }); ok && h.Failed == nil {
			h.Failed = Answers(key)
		}
	}
	soon, err := Ends(all[0].Pairs[0].Certificate, k.Now(), "its successor should be here")
	if err != nil && h.Failed == nil {
		h.Failed = err
	}
	var says []string
	if soon != "" {
		says = append(says, soon)
	}
	if failed != nil {
		since := failed.since.UTC().Format(time.RFC3339)
		says = append(says, fmt.Sprintf("it cannot be renewed since %s: %s", since, words(failed.err)))
	}
	h.Warning = strings.Join(says, "; ")
	return h
}

// Answers asks a key whether it answers; nil if it does.
func Answers(key interface{ Healthy() error }) error {
	if err := key.Healthy(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "its key does not answer: "+err.Error()).Because("signer_unavailable")
	}
	return nil
}

// words is what may be shown of an error.
func words(err error) string {
	if f := fault.Of(err); f.Detail != "" {
		return f.Detail
	}
	return err.Error()
}

// A certificate needs a person when less than a quarter of its life is left, and
// of a long one less than a month: what renews itself has a successor long before.
const (
	lastShare = 4
	lastMost  = 30 * 24 * time.Hour
)

// Ends says that a certificate ends soon and what should be done, or in an error
// that it has ended.
func Ends(c *x509.Certificate, now time.Time, todo string) (soon string, err error) {
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return "", fault.New(fault.Unavailable, "the certificate has expired").Because("certificate_expired")
	case left >= min(c.NotAfter.Sub(c.NotBefore)/lastShare, lastMost):
		return "", nil
	}
	return fmt.Sprintf("the certificate expires on %s: %s", c.NotAfter.UTC().Format(time.DateOnly), todo), nil
}

// Impossible reports whether an error means that the laws of the tree or the
// profile forbid a certificate: then no other node, and no later try, has it either.
func Impossible(err error) bool {
	return slices.ContainsFunc([]fault.Kind{
		fault.Denied, fault.RejectedIdentifier, fault.UnsupportedIdentifier, fault.BadCSR, fault.InvalidProfile,
	}, func(k fault.Kind) bool { return fault.Is(err, k) })
}
