package ceremony

import (
	"context"
	"crypto/x509"
	"fmt"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/transcript"
)

// stage is where acts are performed: the CAs' folders, or the rehearsal's copies
// of them with throw-away keys. Both go through the same functions.
type stage struct {
	file *File
	in   *inputs
	cas  map[string]CA
	real *run // nil in a rehearsal

	again   bool              // the act was interrupted and may have been performed in part
	settled *x509.Certificate // what it had signed
}

// once signs, unless that has happened before the act was interrupted.
func (s *stage) once(sign func() (*x509.Certificate, error)) (*x509.Certificate, error) {
	if s.settled != nil {
		return s.settled, nil
	}
	return sign()
}

// made returns the certificate of the CA that an act brings into being, nil where
// it is not there yet.
func (s *stage) made(act Act) (*x509.Certificate, error) {
	name := ""
	switch {
	case act.Root != nil:
		name = act.Root.CA
	case act.SignCA != nil:
		name = act.SignCA.New
	}
	ca, ok := s.cas[name]
	if !ok || !exists(ca.path(certFile)) {
		return nil, nil
	}
	chain, err := ca.Chain()
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// outcome is what an act has made.
type outcome struct {
	act         transcript.Act
	certificate *x509.Certificate
	saveAs      string // name of the certificate in the out folder; empty: none goes there
	list        *x509.RevocationList
	text        []string // what happens, for an act that makes neither
}

// perform performs one act.
func (s *stage) perform(ctx context.Context, act Act) (o outcome, err error) {
	name, by := act.name()
	ca := s.cas[by]
	switch {
	case act.Root != nil:
		o, err = s.root(ctx, ca, act.Root)
	case act.SignCA != nil:
		o, err = s.signCA(ctx, ca, act.SignCA)
	case act.CrossSign != nil:
		o, err = s.crossSign(ctx, ca, act.CrossSign)
	case act.ReplaceCA != nil:
		o, err = s.replaceCA(ctx, ca, act.ReplaceCA)
	case act.CRL != nil:
		o, err = s.crl(ctx, ca, act.CRL)
	case act.Revoke != nil:
		o, err = s.revoke(ctx, ca, act.Revoke)
	case act.Responder != nil:
		o, err = s.responder(ctx, ca, act.Responder)
	case act.ChangeQuorum != nil:
		o, err = s.changeQuorum(ctx, ca, act.ChangeQuorum)
	case act.Destroy != nil:
		o, err = s.destroy(ctx, ca, act.Destroy)
	}
	if err != nil {
		return outcome{}, err
	}
	o.act.Name = name
	if c := o.certificate; c != nil {
		describeIn(&o.act, c)
	}
	return o, nil
}

// describeIn binds the certificate to the act.
func describeIn(a *transcript.Act, c *x509.Certificate) {
	a.Serial = string(pki.SerialFromBig(c.SerialNumber))
	a.Certificate = pki.Fingerprint(c.Raw)
	a.Key = pki.Fingerprint(c.RawSubjectPublicKeyInfo)
	a.Subject, a.Issuer = nameOf(c.RawSubject), nameOf(c.RawIssuer)
}

func nameOf(der []byte) string {
	name, err := pki.ParseNameDER(der)
	if err != nil {
		return "a name that cannot be read"
	}
	return name.String()
}

func (s *stage) root(ctx context.Context, ca CA, a *RootAct) (outcome, error) {
	c, err := s.once(func() (*x509.Certificate, error) {
		return Root(ctx, ca, RootSpec{
			Subject: a.Subject, Algorithm: a.Algorithm, Years: a.Years, Override: a.Override,
			UseKey: (a.UseKey || s.again) && ca.Key != "", NameConstraints: a.NameConstraints,
		})
	})
	return outcome{certificate: c, saveAs: "ca"}, err
}

func (s *stage) signCA(ctx context.Context, ca CA, a *SignCAAct) (outcome, error) {
	authority, err := s.file.authority(a.CA)
	if err != nil {
		return outcome{}, err
	}
	if a.New != "" {
		sub := s.cas[a.New]
		c, err := s.once(func() (*x509.Certificate, error) {
			return Subordinate(ctx, ca, sub, SubordinateSpec{
				CASpec: a.spec(authority), Subject: a.Subject, Algorithm: a.Algorithm, UseKey: (a.UseKey || s.again) &&
					sub.Key != "",
			})
		})
		if err == nil && s.settled != nil && !exists(sub.path(certFile)) {
			err = Install(sub, ca, c)
		}
		return outcome{certificate: c, saveAs: a.New}, err
	}
	csr := s.in.requests[a.CSR]
	c, err := s.once(func() (*x509.Certificate, error) { return SignCA(ctx, ca, csr, a.spec(authority)) })
	return outcome{certificate: c, saveAs: base(a.CSR), act: transcript.Act{Request: pki.Fingerprint(csr.Raw)}}, err
}

func (s *stage) crossSign(ctx context.Context, ca CA, a *CrossSignAct) (outcome, error) {
	authority, err := s.file.authority(a.CA)
	if err != nil {
		return outcome{}, err
	}
	other, csr := s.in.others[a.Certificate], s.in.requests[a.CSR]
	o := outcome{saveAs: base(a.Certificate) + "-cross",
		act: transcript.Act{Note: "cross-signed: certificate with SHA-256 " + pki.Fingerprint(other.Raw)}}
	if csr != nil {
		o.act.Request = pki.Fingerprint(csr.Raw)
	}
	o.certificate, err = s.once(func() (*x509.Certificate, error) {
		return CrossSign(ctx, ca, other, csr, CrossSpec{
			Years: a.Years, PathLen: a.PathLen, ExtKeyUsage: a.ExtKeyUsage, Policies: a.Policies,
			NameConstraints: a.NameConstraints, Locations: authority.locations(),
		})
	})
	return o, err
}

func (s *stage) replaceCA(ctx context.Context, ca CA, a *ReplaceCAAct) (outcome, error) {
	authority, err := s.file.authority(a.CA)
	if err != nil {
		return outcome{}, err
	}
	old, err := s.predecessor(ca, a)
	if err != nil {
		return outcome{}, err
	}
	csr := s.in.requests[a.CSR]
	o := outcome{saveAs: base(a.CSR), act: transcript.Act{
		Request: pki.Fingerprint(csr.Raw), Note: fmt.Sprintf("replaces serial %s, which drains", old),
	}}
	o.certificate, err = s.once(func() (*x509.Certificate, error) { return SignCA(ctx, ca, csr, a.spec(authority)) })
	if err != nil || a.Revoke == "" {
		return o, err
	}
	o.act.Reason, o.act.Note = a.Revoke, fmt.Sprintf("replaces serial %s, which is revoked", old)
	return o, revokeFor(ctx, ca, old, a.Revoke)
}

// predecessor returns the serial of the CA that is replaced, which must be one
// that this CA has signed and not revoked.
func (s *stage) predecessor(ca CA, a *ReplaceCAAct) (pki.Serial, error) {
	serial, err := s.in.serial(a.Replaces)
	if err != nil {
		return "", err
	}
	index, err := ca.Index()
	if err != nil {
		return "", err
	}
	for _, e := range index {
		if e.Serial == serial {
			return serial, nil
		}
	}
	return "", fault.New(fault.NotFound, "serial %s is not in the index of %s", serial, a.CA)
}

// revokeFor revokes a serial for the reason of the given name; one that is revoked
// already was so by the same act before it was interrupted.
func revokeFor(ctx context.Context, ca CA, serial pki.Serial, reason string) error {
	r, err := pki.ParseReason(reason)
	if err != nil {
		return err
	}
	err = Revoke(ctx, ca, Revocation{Serial: serial, Reason: r})
	if err != nil && fault.Of(err).Kind == fault.AlreadyRevoked {
		return nil
	}
	return err
}

func (s *stage) crl(ctx context.Context, ca CA, a *CRLAct) (outcome, error) {
	published := s.in.lists[a.Published]
	der, err := CRL(ctx, ca, CRLSpec{Days: a.Days, OnlyCA: a.OnlyCA, Published: published})
	if err != nil {
		return outcome{}, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return outcome{}, fmt.Errorf("read list: %w", err)
	}
	note := fmt.Sprintf("%d revoked, next list due %s", len(list.RevokedCertificateEntries), day(list.NextUpdate))
	if published != nil {
		note += fmt.Sprintf(", carries the published list %s", published.Number)
	}
	return outcome{list: list, act: transcript.Act{
		CRL: pki.Fingerprint(der), CRLNumber: list.Number.String(), Issuer: nameOf(list.RawIssuer), Note: note,
	}}, nil
}

func (s *stage) revoke(ctx context.Context, ca CA, a *RevokeAct) (outcome, error) {
	serial, err := s.in.serial(a.Certificate)
	if err != nil {
		return outcome{}, err
	}
	reason := pki.Unspecified
	if a.Reason != "" {
		if reason, err = pki.ParseReason(a.Reason); err != nil {
			return outcome{}, err
		}
	}
	since, err := parseDay(a.Since)
	if err != nil {
		return outcome{}, err
	}
	err = Revoke(ctx, ca, Revocation{Serial: serial, Reason: reason, InvalidityAt: since})
	if err != nil && !(s.again && fault.Of(err).Kind == fault.AlreadyRevoked) {
		return outcome{}, err
	}
	o := outcome{act: transcript.Act{Serial: string(serial), Reason: reason.String()}}
	index, err := ca.Index()
	for _, e := range index {
		if e.Serial == serial {
			o.act.Note = e.Subject
		}
	}
	o.text = []string{"serial       " + string(serial), "named        " + o.act.Note, "reason       " + reason.String()}
	return o, err
}

func (s *stage) responder(ctx context.Context, ca CA, a *ResponderAct) (outcome, error) {
	authority, err := s.file.authority(a.CA)
	if err != nil {
		return outcome{}, err
	}
	csr := s.in.requests[a.CSR]
	c, err := s.once(func() (*x509.Certificate, error) {
		return SignResponder(ctx, ca, csr, ResponderSpec{Days: a.Days, Locations: authority.locations()})
	})
	return outcome{certificate: c, saveAs: base(a.CSR), act: transcript.Act{Request: pki.Fingerprint(csr.Raw)}}, err
}
