package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// plainName is what ids and endpoint names look like: they become part of URLs.
var plainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// check reports everything that is wrong with the configuration. It reads the
// files that the configuration names and changes nothing.
func (f *File) check(d *strictyaml.Document) {
	f.checkURLs(d)
	f.checkDatabase(d)
	f.checkSecrets(d)
	f.checkIssuers(d)
	f.checkOCSP(d)
	f.checkBlockedKeys(d)
	f.checkWebhooks(d)
	f.checkAccess(d)
	f.checkEndpoints(d)
	f.checkListeners(d)
	f.checkLog(d)
	d.Check("challenge", f.Challenge.Check())
	d.Check("limits", f.Limits.Check())
}

func (f *File) checkURLs(d *strictyaml.Document) {
	origin := func(key, value, scheme string, required bool) {
		if value == "" {
			if required {
				d.Report(key, "required")
			}
			return
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != scheme || u.Host == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
			d.Report(key, "%q: want %s://host[:port] and nothing after it", value, scheme)
		}
	}
	origin("public_urls.https", f.PublicURLs.HTTPS, "https", true)
	origin("public_urls.est", f.PublicURLs.EST, "https", false)
	origin("public_urls.http", f.PublicURLs.HTTP, "http", true)
	for i, u := range f.PublicURLs.Former {
		origin(fmt.Sprintf("public_urls.former[%d]", i), u, "https", true)
	}
}

func (f *File) checkDatabase(d *strictyaml.Document) {
	if f.Database.URL == "" {
		d.Report("database.url", "required: sqlite:PATH, postgres://…, or a reference to one")
		return
	}
	if _, err := f.DatabaseURL(); err != nil {
		d.Report("database.url", "%v", err)
	}
}

// checkSecrets reads every reference, to find out now and not when it is needed.
func (f *File) checkSecrets(d *strictyaml.Document) {
	type secret struct {
		key      string
		ref      Reference
		required bool
	}
	all := []secret{
		{"key_encryption", f.KeyEncryption, true},
		{"audit.passphrase", f.Audit.Passphrase, true},
		{"state.passphrase", f.State.Passphrase, f.keepsKeys()},
	}
	for i, is := range f.Issuers {
		all = append(all, secret{fmt.Sprintf("issuers[%d].passphrase", i), is.Passphrase, true})
	}
	for name, t := range f.tls() {
		all = append(all, secret{"listeners." + name + ".tls.passphrase", t.TLS.Passphrase, t.TLS.Key != ""})
	}
	for _, s := range all {
		if s.ref == "" {
			if s.required {
				d.Report(s.key, "required: a reference, "+files.References)
			}
			continue
		}
		if _, err := s.ref.Read(f.Dir); err != nil {
			d.Report(s.key, "%v", err)
		}
	}
	if _, err := f.KeyEncryption.Read(f.Dir); err == nil {
		if _, err := f.Sealer(); err != nil {
			d.Report("key_encryption", "%v", err)
		}
	}
	f.checkKey(d, "audit.key", f.Audit.Key)
	if n := f.PKCS11.Sessions; n < 0 || n > 1024 {
		d.Report("pkcs11.sessions", "%d: want 0 to 1024", n)
	}
	if f.Audit.Retention < 0 || (f.Audit.Retention > 0 && f.Audit.Archive == "") {
		d.Report("audit.retention", "want a positive time, and audit.archive for what is older")
	}
	if f.Audit.Retention > 0 && f.Audit.Archive != "" {
		if info, err := os.Stat(f.Audit.Archive); err != nil || !info.IsDir() {
			d.Warn("audit.archive", "there is no folder %s: events stay in the database until there is",
				f.Audit.Archive)
		}
	}
}

func (f *File) checkKey(d *strictyaml.Document, key string, ref keys.Ref) {
	if err := ref.Available(f.PKCS11.Module); err != nil {
		d.Report(key, "%v", err)
	}
}

// checkServiceKey checks the key in a token of something that makes it at first
// need.
func (f *File) checkServiceKey(d *strictyaml.Document, key string, ref keys.Ref, secretKey string, secret Reference) {
	if ref == "" {
		return
	}
	if !strings.HasPrefix(string(ref), "pkcs11:") {
		d.Report(key, "%q: want pkcs11:token=…;object=…, or nothing for a key that the server keeps itself", ref)
		return
	}
	f.checkKey(d, key, ref)
	if secret == "" {
		d.Report(secretKey, "required: a reference to the token's PIN, "+files.References)
	} else if _, err := secret.Read(f.Dir); err != nil {
		d.Report(secretKey, "%v", err)
	}
}

func (f *File) checkEndpoints(d *strictyaml.Document) {
	seen := map[string]bool{}
	compiled := f.checkProfiles(d)
	profiles := slices.Sorted(maps.Keys(compiled))
	for i, e := range f.Endpoints {
		key := fmt.Sprintf("endpoints[%d]", i)
		if !plainName.MatchString(e.Name) {
			d.Report(key+".name", "%q: want lower-case letters, digits and hyphens", e.Name)
		}
		if seen[e.Name] {
			d.Report(key+".name", "%q is defined twice", e.Name)
		}
		seen[e.Name] = true
		d.Check(key, strictyaml.OneOf("protocol", e.Protocol, ProtocolACME, ProtocolEST, ProtocolSCEP))
		d.Check(key, strictyaml.OneOf("issuer", e.Issuer, f.services()...))
		f.checkProtocol(d, key, e)
		if len(e.Profiles) == 0 {
			d.Report(key+".profiles", "required: at least one profile")
			continue
		}
		for j, p := range e.Profiles {
			at := fmt.Sprintf("%s.profiles[%d]", key, j)
			d.Check(at, strictyaml.OneOf("", p, profiles...))
			if c := compiled[p]; c != nil && c.CA() {
				d.Report(at, "profile %s makes CAs, which only operators ask for", p)
			} else if err := f.nests(compiled[p], e.Issuer); err != nil {
				d.Report(at, "issuer %s cannot sign it: %s", e.Issuer, fault.Text(err))
			} else if c != nil && e.Protocol == ProtocolACME && len(c.Taken()) > 0 {
				d.Warn(at, "profile %s takes %s from requests; ACME proves nothing of a subject but the common name "+
					"and leaves them out: forbid or fix them in a profile of its own; the next release refuses this "+
					"one",
					p, strings.Join(c.Taken(), ", "))
			}
		}
		d.Check(key, strictyaml.OneOf("default_profile", e.DefaultProfile, e.Profiles...))
	}
	for _, p := range []struct{ protocol, key, addr string }{
		{ProtocolACME, "listeners.https.addr", f.Listeners.HTTPS.Addr},
		{ProtocolEST, "listeners.est.addr", f.Listeners.EST.Addr},
	} {
		if p.addr == "" && len(f.Of(p.protocol)) > 0 {
			d.Report(p.key, "required: there are %s endpoints", strings.ToUpper(p.protocol))
		}
	}
	f.checkSCEP(d, compiled)
}

// checkProtocol checks what only one protocol has.
func (f *File) checkProtocol(d *strictyaml.Document, key string, e Endpoint) {
	switch e.Protocol {
	case ProtocolACME:
		d.Check(key, strictyaml.OneOf("external_account", e.ExternalAccount, "optional", "required"))
	case ProtocolEST:
		f.checkEST(d, key, e)
		warnProtocols(d, key+".est", e.EST.AcceptProtocols)
	case ProtocolSCEP:
		warnProtocols(d, key+".scep", e.SCEP.AcceptProtocols)
		if e.SCEP.Unbound() {
			d.Warn(key+".scep.challenge", "it is good for any name: say for which by challenge_names, "+
				"or that this is meant by challenge_any_name: true")
		}
	}
	if e.Protocol != ProtocolACME && e.ExternalAccount != "" {
		d.Report(key+".external_account", "only ACME has external accounts")
	}
	if e.Protocol != ProtocolEST && !reflect.DeepEqual(e.EST, ESTEndpoint{}) {
		d.Report(key+".est", "only for protocol est")
	}
}

// warnProtocols warns of an endpoint that does not say whose certificates renew.
func warnProtocols(d *strictyaml.Document, key string, accepted []string) {
	if len(accepted) == 0 {
		d.Warn(key, "certificates that any protocol enrolled renew here; "+
			"say whose, by the line accept_protocols: [%s] without those that should not",
			strings.Join(enrolment.Protocols, ", "))
	}
}

// checkProfiles compiles the profiles, one by one, so that all mistakes are
// reported.
func (f *File) checkProfiles(d *strictyaml.Document) map[string]*profile.Profile {
	for name, c := range f.Profiles {
		_, err := profile.Compile(name, c)
		d.Check("profiles."+name, err)
	}
	compiled, _ := f.CompileProfiles() // mistakes are reported above
	return compiled
}

func (f *File) profileNames() []string {
	compiled, _ := f.CompileProfiles()
	return slices.Sorted(maps.Keys(compiled))
}

// tls returns the listeners that speak TLS, by their key in the file.
func (f *File) tls() map[string]TLSListener {
	return map[string]TLSListener{
		"https": f.Listeners.HTTPS, "est": f.Listeners.EST, "https_admin": f.Listeners.HTTPSAdmin,
	}
}

func (f *File) checkListeners(d *strictyaml.Document) {
	names := map[string]string{}
	for name, l := range f.byListener() {
		key, addr := "listeners."+name+".addr", l.Addr
		if addr == "" {
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			d.Report(key, "%q: want HOST:PORT", addr)
			continue
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			d.Report(key, "%q: want a port number of at most 65535", addr)
		} else if other, twice := names[addr]; twice && n != 0 {
			d.Report(key, "%s is the address of listeners.%s too", addr, other)
		}
		names[addr] = name
		if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
			d.Report(key, "%q: want an address of this machine, not a name", addr)
		}
	}
	for name, l := range f.byListener() {
		d.Check("listeners."+name+".connections", l.Connections.check())
	}
	for name, t := range f.tls() {
		if own := name == "https_admin" && t.TLS.Certificate == "" && t.TLS.Issuer == ""; t.Addr != "" && !own {
			f.checkTLS(d, "listeners."+name+".tls", t.TLS)
		}
	}
}

func (f *File) checkTLS(d *strictyaml.Document, key string, t TLS) {
	switch {
	case t.Certificate != "" && t.Issuer != "":
		d.Report(key, "want either certificate and key, or issuer and names")
	case t.Certificate != "":
		f.checkKey(d, key+".key", t.Key)
		if _, err := f.Chain(t.Certificate); err != nil {
			d.Report(key+".certificate", "%v", err)
		}
	case t.Issuer != "":
		d.Check(key, strictyaml.OneOf("issuer", t.Issuer, f.services()...))
		d.Check(key, strictyaml.OneOf("profile", t.Profile, f.profileNames()...))
		f.checkAlgorithms(d, key+".algorithms", t)
		if len(t.Names) == 0 {
			d.Report(key+".names", "required: the names under which clients reach this listener")
		}
		for i, n := range t.Names {
			if _, err := identifier(n); err != nil {
				d.Report(fmt.Sprintf("%s.names[%d]", key, i), "%v", err)
			}
		}
	default:
		d.Report(key, "required: certificate and key, or issuer and names")
	}
}

func (f *File) checkLog(d *strictyaml.Document) {
	d.Check("log", strictyaml.OneOf("format", f.Log.Format, "", "text", "json"))
	d.Check("log", strictyaml.OneOf("level", f.Log.Level, "", "debug", "info", "warn", "error"))
}

// Identifiers are the names of a certificate from Issuer.
func (t TLS) Identifiers() ([]pki.Identifier, error) {
	names := make([]pki.Identifier, 0, len(t.Names))
	for _, n := range t.Names {
		id, err := identifier(n)
		if err != nil {
			return nil, err
		}
		names = append(names, id)
	}
	return names, nil
}

// identifier reads a DNS name or an IP address of our own certificate.
func identifier(name string) (pki.Identifier, error) {
	if ip, err := pki.CanonicalIP(name); err == nil {
		return pki.Identifier{Type: pki.IP, Value: ip}, nil
	}
	dns, err := pki.CheckDNSName(name, pki.DNSRules{SingleLabel: true})
	return pki.Identifier{Type: pki.DNS, Value: dns}, err
}
