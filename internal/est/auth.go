package est

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// client is who asks, as far as it has been proved.
type client struct {
	presented *presented        // its certificate; nil if it showed none that counts
	user      *credential.Proof // its password; nil if it gave none
	binding   string            // how the request is bound to the connection, if it is
	cmc       *cmcSigner        // who signed the message of fullcmc; nil elsewhere
	renew     bool              // it asks for the certificate that it shows once more
}

// evidence is how the client proved who it is, for the audit record (rule X18).
type evidence struct {
	Password    json.RawMessage    `json:"password,omitempty"`
	Certificate *presentedEvidence `json:"certificate,omitempty"`
	Binding     string             `json:"channel_binding,omitempty"`
	SignedBy    string             `json:"message_signed_by,omitempty"`
}

// identity is the client's name in records and for retransmissions. Who gave a
// password acts by the power of it, whatever certificate it showed beside.
func (c *client) identity() string {
	if c.user != nil {
		return c.user.Identity
	}
	return c.presented.identity()
}

func (c *client) evidence() (json.RawMessage, error) {
	e := evidence{Binding: c.binding}
	if c.user != nil {
		e.Password = c.user.Evidence
	}
	if c.presented != nil {
		e.Certificate = c.presented.evidence()
	}
	if c.cmc != nil {
		e.SignedBy = c.cmc.name
	}
	return json.Marshal(e) //nolint:gosec // Password tells whose it was, never what it was
}

// basis are the certificates by whose power the client asks. One beside a password
// is nothing that an endpoint needs, unless it wants both.
func (c *client) basis(ep *endpoint) (by []issuance.Basis) {
	if c.presented != nil && (c.user == nil || ep.Auth == AuthBoth) {
		by = append(by, c.presented.basis(c.renew))
	}
	if c.cmc != nil && c.cmc.cert != nil && c.cmc.cert != c.presented {
		by = append(by, c.cmc.cert.basis(false))
	}
	return by
}

func (c *client) claims() []store.Claim {
	if c.user == nil {
		return nil
	}
	return c.user.Claims
}

// bound is what the client's password is good for.
func (c *client) bound() *issuance.Bound {
	if c.user == nil {
		return nil
	}
	return c.user.Bound
}

// spent is why the client's password is good for nothing new, or nil.
func (c *client) spent() error {
	if c.user == nil {
		return nil
	}
	return c.user.Spent
}

// profile is the one that the client gets at the endpoint: that of the
// certificate it renews, or the one its user is bound to.
func (c *client) profile(ep *endpoint, renew bool) string {
	switch {
	case renew:
		return c.presented.holder.Row.Profile
	case c.user != nil && c.user.Profile != "":
		return c.user.Profile
	}
	return ep.DefaultProfile
}

// authenticate finds out who asks (RFC 7030, section 3.2.3). Renewal needs the
// certificate that is to be renewed; a password replaces it nowhere. A first
// request without any proof is answered 401 and costs nothing, because known
// clients begin like that (rule E12).
func (s *Server) authenticate(r *http.Request, ep *endpoint, renew bool) (*client, error) {
	ctx := r.Context()
	c := &client{renew: renew}
	var refused error // of the certificate
	if ep.Auth.certificate() || renew {
		if c.presented, refused = s.presented(ctx, r, ep, renew); refused != nil && !fault.Is(refused, fault.Denied) {
			return nil, refused
		}
	}
	if renew || ep.Auth == AuthCertificate || ep.Auth == AuthBoth {
		if err := needCertificate(c.presented, refused, renew); err != nil {
			return nil, err
		}
	}
	passwordNeeded := ep.Auth == AuthBoth || !renew && (ep.Auth == AuthBasic || c.presented == nil)
	if ep.Auth.basic() && (passwordNeeded || r.Header.Get("Authorization") != "") {
		var err error
		if c.user, err = s.user(ctx, r, ep); err != nil {
			return nil, because(err, refused)
		}
	}
	return c, nil
}

func needCertificate(c *presented, refused error, renew bool) error {
	switch {
	case refused != nil:
		return refused
	case c == nil:
		return fault.New(fault.Denied, "a client certificate is needed").Because("certificate_required")
	case renew && c.holder == nil:
		return fault.New(fault.Denied, "only a certificate that was issued here can be renewed").
			Because("certificate_foreign")
	}
	return nil
}

// because adds to a missing password why the certificate did not do instead.
func because(err, refused error) error {
	f := fault.Of(err)
	if refused == nil || f.Kind != fault.Unauthenticated || f.Reason != reasonNoPassword {
		return err
	}
	why := fault.Of(refused)
	return fault.New(fault.Unauthenticated, "%s; give a user name and a password instead", why.Detail).
		Because(why.Reason)
}

const reasonNoPassword = "password_required"

// user checks HTTP Basic credentials (RFC 7617). The password is consumed with
// the certificate that it is good for, not here (rule E12).
func (s *Server) user(ctx context.Context, r *http.Request, ep *endpoint) (*credential.Proof, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "a user name and a password are needed").Because(reasonNoPassword)
	}
	return s.Users.Check(ctx, credential.Attempt{
		Source: web.Source(web.Client(r)), Endpoint: ep.Name, Profiles: ep.Profiles,
	}, name, password)
}
