package config

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// ESTServerProfile is the profile of the EST listener's own certificate.
const ESTServerProfile = "est-server"

// ESTConfig is the configuration of the EST front-end.
func (f *File) ESTConfig() (est.Config, error) {
	var c est.Config
	for _, e := range f.Of(ProtocolEST) {
		ep, err := f.estEndpoint(e)
		if err != nil {
			return c, fmt.Errorf("endpoint %s: %w", e.Name, err)
		}
		c.Endpoints = append(c.Endpoints, ep)
	}
	return c, nil
}

func (f *File) estEndpoint(e Endpoint) (est.Endpoint, error) {
	ep := est.Endpoint{
		Name: e.Name, Label: e.EST.Label, Issuer: e.Issuer, Profiles: e.Profiles, DefaultProfile: e.DefaultProfile,
		Auth: est.Auth(e.EST.Auth), AcceptProfiles: e.EST.AcceptProfiles, AcceptProtocols: e.EST.AcceptProtocols,
		RAProfiles: e.EST.RAProfiles,
		OwnNames:   est.Names(e.EST.OwnNames), AnchorNames: est.Names(e.EST.AnchorNames), Grace: e.EST.Grace,
		RenewKey: e.EST.RenewKey, Challenge: est.Challenge(e.EST.ChallengePassword), Keygen: e.EST.Serverkeygen,
		WrapBase64: e.EST.WrapBase64,
	}
	for _, named := range []struct {
		file string
		into *[]*x509.Certificate
	}{{e.EST.Anchors, &ep.Anchors}, {e.EST.Rollover, &ep.Rollover}} {
		if named.file == "" {
			continue
		}
		certs, err := f.Chain(named.file)
		if err != nil {
			return ep, err
		}
		*named.into = certs
	}
	return ep, nil
}

// checkEST checks what only EST endpoints have.
func (f *File) checkEST(d *strictyaml.Document, key string, e Endpoint) {
	key += ".est"
	if e.EST.Label != "" && !plainName.MatchString(e.EST.Label) {
		d.Report(key+".label", "%q: want lower-case letters, digits and hyphens", e.EST.Label)
	}
	for _, other := range f.Of(ProtocolEST) {
		if other.Name < e.Name && other.EST.Label == e.EST.Label {
			d.Report(key+".label", "%q is the label of endpoint %s too", e.EST.Label, other.Name)
		}
	}
	ep, err := f.estEndpoint(e)
	if err != nil {
		d.Report(key, "%v", err)
		return
	}
	if len(e.Profiles) > 0 {
		d.Check(key, ep.Check())
	}
	profiles, _ := f.CompileProfiles() // mistakes are reported with the profiles
	for _, name := range e.Profiles {
		if p := profiles[name]; e.EST.Serverkeygen && p != nil && p.Approval() {
			d.Report(key+".serverkeygen", "profile %s asks for a person's approval, for which a key cannot wait", name)
		}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{".accept_profiles", e.EST.AcceptProfiles}, {".ra_profiles", e.EST.RAProfiles}} {
		for i, name := range list.names {
			at := fmt.Sprintf("%s%s[%d]", key, list.key, i)
			p := profiles[name]
			switch {
			case p == nil:
				d.Check(at, strictyaml.OneOf("", name, slices.Sorted(maps.Keys(profiles))...))
			case list.key == ".ra_profiles" && !slices.ContainsFunc(p.EKUs(), est.IsRA):
				d.Report(at, "profile %s lacks the extended key usage cmcRA", name)
			}
		}
	}
}

// ServerProfile is the profile of the certificates that the server issues to
// its own listeners.
const ServerProfile = "tls-server"
