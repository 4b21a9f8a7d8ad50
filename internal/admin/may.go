package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// decidedInside are the operations that package access decides on itself: they are
// about a scope, not an object.
var decidedInside = []string{api.CreateGrant.Name, api.RevokeGrant.Name, api.CreateToken.Name}

// decided is a route that asks whether its caller may, once it is known what is asked.
func (s *Server) decided(r Route) Route {
	call := r.call
	r.call = func(ctx context.Context, read func(params, body any) error) (any, error) {
		return call(ctx, func(params, body any) error {
			if err := read(params, body); err != nil {
				return err
			}
			return s.may(ctx, r.Described, params, body)
		})
	}
	return r
}

// may decides on an operation before anything is done. What is done to one object is
// decided on that object, which is read first; all else, lists too, is about the whole
// server, and a grant with a scope is refused. A refusal is on record.
func (s *Server) may(ctx context.Context, d api.Described, params, body any) error {
	c, ok := access.From(ctx)
	if !ok {
		return fault.New(fault.Unauthenticated, "nobody asks").Because("no_peer")
	}
	if c.Local() || slices.Contains(decidedInside, d.Name) {
		return nil
	}
	o, unknown, err := s.objectOf(ctx, d, params, body)
	if fault.Is(err, fault.BadRevocationReason) {
		return err
	}
	if err != nil {
		all := s.cfg.Access.Decide(ctx, c, d.Permission, access.Object{})
		if all != nil && !fault.Is(err, fault.NotFound) { // such as two CAs with one serial, whose names it gives
			return s.refused(ctx, d, all)
		}
		return err
	}
	err = s.cfg.Access.Decide(ctx, c, d.Permission, o)
	if err == nil && s.letsIn(d.Permission, o) {
		err = s.cfg.Access.Decide(ctx, c, api.AccessGrant, access.Object{})
	}
	if fault.Is(err, fault.NotFound) && unknown != nil {
		return s.refused(ctx, d, unknown)
	}
	return s.refused(ctx, d, err)
}

// refused records a refusal of the decision.
func (s *Server) refused(ctx context.Context, d api.Described, err error) error {
	f := fault.Of(err)
	if f == nil || f.Kind != fault.Denied && f.Kind != fault.NotFound {
		return err
	}
	ev := s.event(ctx, "access.refused", f.Reason, "operation:"+d.Name)
	detail, encodeErr := json.Marshal(map[string]any{"permission": d.Permission})
	if encodeErr != nil {
		return fmt.Errorf("record refusal: %w", encodeErr)
	}
	ev.Detail = detail
	if auditErr := s.cfg.Store.AppendAudit(ctx, ev); auditErr != nil {
		return auditErr
	}
	return err
}

// objectOf reads the object of an operation by what the operation takes. Unknown is
// what is said of one that is not there.
func (s *Server) objectOf(
	ctx context.Context, d api.Described, params, body any,
) (o access.Object, unknown, err error) {
	switch p := params.(type) {
	case *api.CertificateRef:
		o, unknown, err = s.certificateObject(ctx, p, body)
		if d.Name == api.ReleaseCertificate.Name {
			o.Reason = pki.CertificateHold.String()
		}
		return o, unknown, err
	case *api.IssuerRef:
		if o = s.object(p.Issuer); d.Name == api.ExportHierarchy.Name {
			o.Pool = "" // what is below a CA is not of its pool
		}
		return o, fault.New(fault.NotFound, "there is no issuer %q", p.Issuer), nil
	case *api.IDRef:
		return s.idObject(ctx, d.Path, p.ID)
	case *api.EABKeyRef:
		return s.eabObject(ctx, p.KID)
	case *api.ESTUserRef:
		return s.estObject(ctx, p.Name)
	}
	switch b := body.(type) {
	case *api.IssueRequest:
		o, err = s.issueObject(ctx, b)
	case *api.BatchPage:
		o, err = s.batchObject(ctx, b)
	default:
		o, _ = s.newCredential(body)
	}
	return o, nil, err
}

// letsIn reports whether an act makes a certificate that logs in here, with a name that
// the asker chooses: it is worth every grant of whoever has that name.
func (s *Server) letsIn(p api.Permission, o access.Object) bool {
	if p != api.CertIssue && p != api.CredentialCreate && p != api.RequestDecide {
		return false
	}
	profiles := []string{o.Profile}
	if o.Bounds != nil {
		profiles = o.Bounds.Profiles
	}
	return slices.ContainsFunc(profiles, s.cfg.LogsIn)
}

// object is what a CA or a pool is to a scope.
func (s *Server) object(name string) access.Object {
	o := access.Object{Scoped: true}
	set := s.cfg.Pipeline.Rules().CAs
	for i, at := range set.Behind(name) {
		var line []string
		for up := at; up != nil && len(line) <= len(set.All()); up = up.Parent {
			line = append(append(line, up.ID), up.Aliases...)
		}
		if i == 0 {
			o.CAs, o.Pool = line, at.Pool
		} else { // what holds of each that may sign
			o.CAs = slices.DeleteFunc(o.CAs, func(id string) bool { return !slices.Contains(line, id) })
		}
	}
	if len(o.CAs) == 0 && !set.Pool(name) { // a CA that is known by its records only
		o.CAs = []string{name}
	}
	return o
}

func (s *Server) certificateObject(
	ctx context.Context, p *api.CertificateRef, body any,
) (o access.Object, unknown, err error) {
	reason := ""
	if b, ok := body.(*api.RevokeRequest); ok {
		reason = cmp.Or(b.Reason, pki.Unspecified.String())
		if _, err := parseReason(reason); err != nil {
			return o, nil, err // before it is seen whether there is such a certificate
		}
	}
	row, err := s.cfg.Inventory.Find(ctx, p.Certificate, p.Issuer)
	if b, ok := body.(*api.RevokeRequest); ok && b.Unknown && fault.Is(err, fault.NotFound) {
		return access.Object{}, nil, nil
	}
	if err != nil {
		return o, nil, err
	}
	o = s.object(row.IssuerID)
	o.Profile, o.Endpoint, o.Names = row.Profile, row.Endpoint, row.Names
	o.Reason = reason
	unknown = fault.New(fault.NotFound, "there is no certificate %s", p.Certificate).Because("certificate_unknown")
	return o, unknown, nil
}

func (s *Server) requestObject(ctx context.Context, id string) (o access.Object, unknown, err error) {
	v, err := s.cfg.Approvals.Show(ctx, id)
	if err != nil {
		return o, nil, err
	}
	o = s.object(v.Issuer)
	o.Profile, o.Endpoint, o.Names = v.Profile, v.Endpoint, v.Names
	return o, fault.New(fault.NotFound, "there is no request %s", id).Because("request_unknown"), nil
}

// issueObject is what would be signed; what would not be is about its profile and issuer
// alone, without a name.
func (s *Server) issueObject(ctx context.Context, b *api.IssueRequest) (access.Object, error) {
	r, err := s.request(ctx, b)
	if err != nil {
		return access.Object{}, err
	}
	o := s.object(r.Issuer)
	o.Profile = r.Profile
	if p := s.cfg.Pipeline.Preview(ctx, r); p.Template != nil {
		o.Names = commonNamed(p.Template)
	}
	return o, nil
}

// commonNamed are the names of what would be signed, with a common name that is none of
// them: some verifiers take that for a name too.
func commonNamed(t *profile.Template) []pki.Identifier {
	subject, err := pki.ParseName(t.Subject)
	cn := subject.CommonName()
	if err != nil {
		cn = t.Subject // which no pattern holds
	}
	if cn == "" || slices.ContainsFunc(t.Names, func(id pki.Identifier) bool { return id.Value == cn }) {
		return t.Names
	}
	return append(slices.Clone(t.Names), pki.Identifier{Type: pki.DNS, Value: strings.ToLower(cn)})
}

// ownCredential refuses an approval by whoever is behind the request: who asked, or who
// made the credential that it came by. Administrators of the socket are held to what
// asked alone: they may be all that there is.
func (s *Server) ownCredential(ctx context.Context, id string) error {
	c, _ := access.From(ctx)
	if c.Local() {
		return nil
	}
	v, err := s.cfg.Approvals.Show(ctx, id)
	if err != nil {
		return err
	}
	behind, err := s.behind(ctx, v.Requester)
	if err != nil {
		return err
	}
	for _, name := range behind {
		if own, err := s.cfg.Access.Same(ctx, c, name); err != nil || own {
			return cmp.Or(err, error(fault.New(fault.Denied, "the one who asked, or who made the credential that it came "+
				"by, cannot be the one who approves").Because("own_request")))
		}
	}
	return nil
}

// behind returns who asked, and who made the credential that it was asked by.
func (s *Server) behind(ctx context.Context, requester string) ([]string, error) {
	kind, id, _ := strings.Cut(requester, ":")
	all := []string{requester}
	var err error
	switch kind {
	case "account":
		var a *store.Account
		if a, err = s.cfg.Store.Account(ctx, id); err == nil && a.EABKID != "" {
			var k *store.EABKey
			if k, err = s.cfg.Store.EAB(ctx, a.EABKID); err == nil {
				all = append(all, k.CreatedBy)
			}
		}
	case credential.KindEST:
		var u *store.ESTUser
		if u, err = s.cfg.Store.ESTUser(ctx, id); err == nil {
			all = append(all, u.CreatedBy)
		}
	case credential.KindSCEP:
		var ch *store.SCEPChallenge
		if ch, err = s.cfg.Store.SCEPChallenge(ctx, id); err == nil {
			all = append(all, ch.CreatedBy)
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil // a credential of the configuration, which nobody made here
	}
	return all, err
}
