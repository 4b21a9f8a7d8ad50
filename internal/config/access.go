package config

import (
	"strconv"

	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/login"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Access is who may do what, besides the grants on record (docs/access.md).
type Access struct {
	access.Rules `yaml:",inline"`
	// OIDC are the OpenID providers that people log in at.
	OIDC []login.ProviderConfig `yaml:"oidc,omitempty"`
	// Certificates are the CAs whose client certificates log in, in this order.
	Certificates []login.AnchorConfig `yaml:"certificates,omitempty"`
	// CertificateName is a second name of listeners.https_admin. Client certificates are
	// asked for under this one alone: browsers show a choice of certificates where they
	// are asked. The listener's certificate need not have it.
	CertificateName string `yaml:"certificate_name,omitempty"`
}

// checkAccess checks the section and what the socket lets in.
func (f *File) checkAccess(d *strictyaml.Document) {
	d.Check("access", f.Access.Check())
	f.checkLogin(d)
	if m := f.Listeners.SocketMode; m != "" && m != "0600" && m != "0660" && m != "0666" {
		d.Report("listeners.socket_mode", "%q: want 0600, 0660 or 0666, in quotes", m)
	}
}

// SocketFileMode returns the mode of the socket's file: as said, or what its group needs.
func (l Listeners) SocketFileMode() uint32 {
	if mode, err := strconv.ParseUint(l.SocketMode, 8, 32); err == nil {
		return uint32(mode)
	}
	if l.SocketGroup != "" {
		return 0o660
	}
	return 0o600
}
