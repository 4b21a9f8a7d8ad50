package config

import (
	"context"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/internal/acme"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/scep"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// The protocols of endpoints.
const (
	ProtocolACME = "acme"
	ProtocolEST  = "est"
	ProtocolSCEP = "scep"
)

// Of returns the endpoints of a protocol.
func (f *File) Of(protocol string) []Endpoint {
	return slices.DeleteFunc(slices.Clone(f.Endpoints), func(e Endpoint) bool { return e.Protocol != protocol })
}

// RAKey opens the key of an endpoint's RA in a token.
type RAKey func(ctx context.Context, f *File, e Endpoint) (scep.PrivateKey, error)

// SCEPEndpoints is the configuration of the SCEP front-end, whose keys in tokens
// raKey opens at first need.
func (f *File) SCEPEndpoints(raKey RAKey) ([]scep.Endpoint, error) {
	var all []scep.Endpoint
	for _, e := range f.Of(ProtocolSCEP) {
		ep := scep.Endpoint{
			Name: e.Name, Issuer: e.Issuer, Profiles: e.Profiles, DefaultProfile: e.DefaultProfile, Options: e.SCEP,
		}
		if e.SCEP.Challenge != "" {
			secret, err := f.secret(Reference(e.SCEP.Challenge))
			if err != nil {
				return nil, fmt.Errorf("challenge of endpoint %s: %w", e.Name, err)
			}
			ep.Secret = string(secret)
		}
		if e.SCEP.RAKeyRef != "" {
			ep.Token = func(ctx context.Context) (scep.PrivateKey, error) { return raKey(ctx, f, e) }
		}
		all = append(all, ep)
	}
	return all, nil
}

func (f *File) checkSCEP(d *strictyaml.Document, compiled map[string]*profile.Profile) {
	paths := map[string]bool{}
	for i, e := range f.Endpoints {
		if e.Protocol != ProtocolSCEP {
			continue
		}
		key := fmt.Sprintf("endpoints[%d].scep", i)
		path := e.SCEP.Path
		if path == "" {
			path = e.Name
		}
		if !plainName.MatchString(path) {
			d.Report(key+".path", "%q: want lower-case letters, digits and hyphens", path)
		}
		if paths[path] {
			d.Report(key+".path", "%q is the path of another endpoint", path)
		}
		paths[path] = true
		checkSCEPPaths(d, key, e.SCEP.Paths, paths)
		d.Check(key, e.SCEP.Check())
		f.checkServiceKey(d, key+".ra_key_ref", e.SCEP.RAKeyRef, key+".ra_passphrase", Reference(e.SCEP.RAPassphrase))
		if e.SCEP.NextIssuer != "" {
			d.Check(key, strictyaml.OneOf("next_issuer", e.SCEP.NextIssuer, f.issuerIDs()...))
		}
		if e.SCEP.Challenge != "" {
			if secret, err := f.secret(Reference(e.SCEP.Challenge)); err != nil {
				d.Report(key+".challenge", "%v", err)
			} else if len(secret) < minChallenge {
				d.Report(key+".challenge", "the secret is shorter than %d characters", minChallenge)
			}
		}
		if e.SCEP.Webhook != "" {
			d.Check(key, strictyaml.OneOf("webhook", e.SCEP.Webhook, f.webhookNames()...))
		}
		for _, p := range e.Profiles {
			if c := compiled[p]; e.SCEP.Manual && c != nil && !c.Approval() {
				d.Report(key+".manual", "profile %s asks for nobody's approval: anybody could have a certificate", p)
			}
		}
		if err := f.nests(compiled["scep-ra"], e.Issuer); err != nil {
			d.Report(key, "issuer %s cannot sign the RA certificate: %s", e.Issuer, fault.Text(err))
		}
	}
	if len(paths) > 0 && f.Listeners.HTTP.Addr == "" {
		d.Report("listeners.http.addr", "required: there are SCEP endpoints")
	}
}

// checkSCEPPaths adds paths to those that are taken.
func checkSCEPPaths(d *strictyaml.Document, key string, paths []string, taken map[string]bool) {
	for i, p := range paths {
		if taken[p] {
			d.Report(fmt.Sprintf("%s.paths[%d]", key, i), "%q leads to an endpoint already", p)
		}
		taken[p] = true
	}
}

// minChallenge is the length of a secret that is shared by devices.
const minChallenge = 8

// EndpointNames are the names of the endpoints of a protocol.
func (f *File) EndpointNames(protocol string) []string {
	names := make([]string, 0, len(f.Endpoints))
	for _, e := range f.Endpoints {
		if e.Protocol == protocol {
			names = append(names, e.Name)
		}
	}
	return names
}

// IssuerOf returns the CA or pool of an endpoint; empty if there is no such endpoint.
func (f *File) IssuerOf(protocol, endpoint string) string {
	for _, e := range f.Endpoints {
		if e.Protocol == protocol && e.Name == endpoint {
			return e.Issuer
		}
	}
	return ""
}

// ACMEConfig is the configuration of the ACME front-end.
func (f *File) ACMEConfig() acme.Config {
	c := acme.Config{
		BaseURL: f.PublicURLs.HTTPS, FormerBaseURLs: f.PublicURLs.Former,
		TermsOfService: f.ACME.TermsOfService, AgreeAgain: f.ACME.AgreeAgain,
		Website: f.ACME.Website, CAAIdentities: f.Challenge.CAAIdentities,
	}
	for _, e := range f.Of(ProtocolACME) {
		c.Endpoints = append(c.Endpoints, acme.Endpoint{
			Name: e.Name, Issuer: e.Issuer, Profiles: e.Profiles, DefaultProfile: e.DefaultProfile,
			RequireEAB: e.ExternalAccount == "required",
		})
	}
	return c
}
