package server

import (
	"crypto/x509"
	"encoding/pem"
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

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// plainName is what ids and endpoint names look like: they become part of URLs.
var plainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// check reports everything that is wrong with the configuration. It reads the
// files that the configuration names and changes nothing.
func (l *loaded) check(d *document) {
	l.checkURLs(d)
	l.checkDatabase(d)
	l.checkSecrets(d)
	l.checkIssuers(d)
	l.checkOCSP(d)
	l.checkBlockedKeys(d)
	l.checkWebhooks(d)
	l.checkEndpoints(d)
	l.checkListeners(d)
	l.checkLog(d)
	if _, err := challenge.New(l.Challenge, nil, nil); err != nil {
		d.say("challenge", "%v", err)
	}
	if err := l.Limits.Check(); err != nil {
		d.say("limits", "%v", err)
	}
}

func (l *loaded) checkURLs(d *document) {
	origin := func(key, value, scheme string, required bool) {
		if value == "" {
			if required {
				d.say(key, "required")
			}
			return
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != scheme || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			d.say(key, "%q: want %s://host[:port] and nothing after it", value, scheme)
		}
	}
	origin("public_urls.https", l.PublicURLs.HTTPS, "https", true)
	origin("public_urls.est", l.PublicURLs.EST, "https", false)
	origin("public_urls.http", l.PublicURLs.HTTP, "http", true)
	for i, u := range l.PublicURLs.Former {
		origin(fmt.Sprintf("public_urls.former[%d]", i), u, "https", true)
	}
}

func (l *loaded) checkDatabase(d *document) {
	if l.Database.URL == "" {
		d.say("database.url", "required: sqlite:PATH, postgres://…, or a reference to one")
		return
	}
	if _, err := l.databaseURL(); err != nil {
		d.say("database.url", "%v", err)
	}
}

// databaseURL follows the reference and makes a relative SQLite path start at
// the file's folder. Its errors never show a URL that may hold a password.
func (l *loaded) databaseURL() (string, error) {
	value := l.Database.URL
	byReference := strings.HasPrefix(value, "file:") || strings.HasPrefix(value, "env:")
	if byReference {
		text, err := Reference(value).read(l.dir)
		if err != nil {
			return "", err
		}
		value = string(text)
	}
	if path, ok := strings.CutPrefix(value, "sqlite:"); ok && path != "" {
		return "sqlite:" + under(l.dir, path), nil
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", fmt.Errorf("want sqlite:PATH or postgres://USER@HOST:PORT/NAME, or a reference to one")
	}
	_, password := u.User.Password()
	if (password || u.Query().Has("password")) && !byReference {
		return "", fmt.Errorf("a URL with a password must be given by reference: put it into a file and write file:PATH")
	}
	return value, nil
}

// checkSecrets reads every reference, to find out now and not when it is needed.
func (l *loaded) checkSecrets(d *document) {
	type secret struct {
		key      string
		ref      Reference
		required bool
	}
	all := []secret{
		{"key_encryption", l.KeyEncryption, true},
		{"audit.passphrase", l.Audit.Passphrase, true},
		{"state.passphrase", l.State.Passphrase, l.Listeners.HTTPS.TLS.Issuer != "" || l.Listeners.EST.TLS.Issuer != "" || l.delegates()},
	}
	for i, is := range l.Issuers {
		all = append(all, secret{fmt.Sprintf("issuers[%d].passphrase", i), is.Passphrase, true})
	}
	for name, t := range l.tls() {
		all = append(all, secret{"listeners." + name + ".tls.passphrase", t.TLS.Passphrase, t.TLS.Key != ""})
	}
	for _, s := range all {
		if s.ref == "" {
			if s.required {
				d.say(s.key, "required: a reference, file:PATH or env:NAME")
			}
			continue
		}
		if _, err := s.ref.read(l.dir); err != nil {
			d.say(s.key, "%v", err)
		}
	}
	l.checkKey(d, "audit.key", l.Audit.Key)
	if l.Audit.Retention < 0 || (l.Audit.Retention > 0 && l.Audit.Archive == "") {
		d.say("audit.retention", "want a positive time, and audit.archive for what is older")
	}
}

func (l *loaded) checkKey(d *document, key string, ref keys.Ref) {
	if err := ref.Available(l.PKCS11.Module); err != nil {
		d.say(key, "%v", err)
	}
}

// checkServiceKey checks the key in a token of something that makes it at first
// need.
func (l *loaded) checkServiceKey(d *document, key string, ref keys.Ref, secretKey string, secret Reference) {
	if ref == "" {
		return
	}
	if !strings.HasPrefix(string(ref), "pkcs11:") {
		d.say(key, "%q: want pkcs11:token=…;object=…, or nothing for a key that the server keeps itself", ref)
		return
	}
	l.checkKey(d, key, ref)
	if secret == "" {
		d.say(secretKey, "required: a reference to the token's PIN, file:PATH or env:NAME")
	} else if _, err := secret.read(l.dir); err != nil {
		d.say(secretKey, "%v", err)
	}
}

func (l *loaded) checkEndpoints(d *document) {
	seen := map[string]bool{}
	compiled := l.checkProfiles(d)
	profiles := slices.Sorted(maps.Keys(compiled))
	for i, e := range l.Endpoints {
		key := fmt.Sprintf("endpoints[%d]", i)
		if !plainName.MatchString(e.Name) {
			d.say(key+".name", "%q: want lower-case letters, digits and hyphens", e.Name)
		}
		if seen[e.Name] {
			d.say(key+".name", "%q is defined twice", e.Name)
		}
		seen[e.Name] = true
		oneOf(d, key+".protocol", e.Protocol, protocolACME, protocolEST, protocolSCEP)
		oneOf(d, key+".issuer", e.Issuer, l.services()...)
		l.checkProtocol(d, key, e)
		if len(e.Profiles) == 0 {
			d.say(key+".profiles", "required: at least one profile")
			continue
		}
		for j, p := range e.Profiles {
			at := fmt.Sprintf("%s.profiles[%d]", key, j)
			oneOf(d, at, p, profiles...)
			if c := compiled[p]; c != nil && c.CA() {
				d.say(at, "profile %s makes CAs, which only operators ask for", p)
			} else if err := l.nests(compiled[p], e.Issuer); err != nil {
				d.say(at, "issuer %s cannot sign it: %s", e.Issuer, detail(err))
			}
		}
		oneOf(d, key+".default_profile", e.DefaultProfile, e.Profiles...)
	}
	for _, p := range []struct{ protocol, key, addr string }{
		{protocolACME, "listeners.https.addr", l.Listeners.HTTPS.Addr}, {protocolEST, "listeners.est.addr", l.Listeners.EST.Addr},
	} {
		if p.addr == "" && len(l.of(p.protocol)) > 0 {
			d.say(p.key, "required: there are %s endpoints", strings.ToUpper(p.protocol))
		}
	}
	l.checkSCEP(d, compiled)
}

// checkProtocol checks what only one protocol has.
func (l *loaded) checkProtocol(d *document, key string, e Endpoint) {
	switch e.Protocol {
	case protocolACME:
		oneOf(d, key+".external_account", e.ExternalAccount, "optional", "required")
	case protocolEST:
		l.checkEST(d, key, e)
	}
	if e.Protocol != protocolACME && e.ExternalAccount != "" {
		d.say(key+".external_account", "only ACME has external accounts")
	}
	if e.Protocol != protocolEST && !reflect.DeepEqual(e.EST, ESTEndpoint{}) {
		d.say(key+".est", "only for protocol est")
	}
}

// checkProfiles compiles the profiles, one by one, so that all mistakes are
// reported.
func (l *loaded) checkProfiles(d *document) map[string]*profile.Profile {
	for name, c := range l.Profiles {
		if _, err := profile.Compile(name, c); err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				d.say("profiles."+name, "%s", line)
			}
		}
	}
	compiled, _ := l.compileProfiles() // mistakes are reported above
	return compiled
}

func (l *loaded) profileNames() []string {
	compiled, _ := l.compileProfiles()
	return slices.Sorted(maps.Keys(compiled))
}

// tls returns the listeners that speak TLS, by their key in the file.
func (l *loaded) tls() map[string]TLSListener {
	return map[string]TLSListener{"https": l.Listeners.HTTPS, "est": l.Listeners.EST}
}

func (l *loaded) checkListeners(d *document) {
	names := map[string]string{}
	for name, addr := range map[string]string{
		"https": l.Listeners.HTTPS.Addr, "est": l.Listeners.EST.Addr, "http": l.Listeners.HTTP.Addr, "ops": l.Listeners.Ops.Addr,
	} {
		key := "listeners." + name + ".addr"
		if addr == "" {
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			d.say(key, "%q: want HOST:PORT", addr)
			continue
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			d.say(key, "%q: want a port number of at most 65535", addr)
		} else if other, twice := names[addr]; twice && n != 0 {
			d.say(key, "%s is the address of listeners.%s too", addr, other)
		}
		names[addr] = name
		if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
			d.say(key, "%q: want an address of this machine, not a name", addr)
		}
	}
	for name, t := range l.tls() {
		if t.Addr != "" {
			l.checkTLS(d, "listeners."+name+".tls", t.TLS)
		}
	}
}

func (l *loaded) checkTLS(d *document, key string, t TLS) {
	switch {
	case t.Certificate != "" && t.Issuer != "":
		d.say(key, "want either certificate and key, or issuer and names")
	case t.Certificate != "":
		l.checkKey(d, key+".key", t.Key)
		if _, err := readChain(t.Certificate); err != nil {
			d.say(key+".certificate", "%v", err)
		}
	case t.Issuer != "":
		oneOf(d, key+".issuer", t.Issuer, l.services()...)
		oneOf(d, key+".profile", t.Profile, l.profileNames()...)
		if len(t.Names) == 0 {
			d.say(key+".names", "required: the names under which clients reach this listener")
		}
		for i, n := range t.Names {
			if _, err := identifier(n); err != nil {
				d.say(fmt.Sprintf("%s.names[%d]", key, i), "%v", err)
			}
		}
	default:
		d.say(key, "required: certificate and key, or issuer and names")
	}
}

func (l *loaded) checkLog(d *document) {
	oneOf(d, "log.format", l.Log.Format, "", "text", "json")
	oneOf(d, "log.level", l.Log.Level, "", "debug", "info", "warn", "error")
}

// oneOf reports a value that is none of those allowed, with the nearest one.
func oneOf(d *document, key, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	what := fmt.Sprintf("%q: want one of %s", value, strings.Join(slices.DeleteFunc(slices.Clone(allowed), func(s string) bool { return s == "" }), ", "))
	if len(allowed) == 0 {
		what = fmt.Sprintf("%q: there is none", value)
	} else if near := nearest(value, allowed); near != "" {
		what += fmt.Sprintf("; did you mean %q?", near)
	}
	d.say(key, "%s", what)
}

// identifier reads a DNS name or an IP address of our own certificate.
func identifier(name string) (pki.Identifier, error) {
	if ip, err := pki.CanonicalIP(name); err == nil {
		return pki.Identifier{Type: pki.IP, Value: ip}, nil
	}
	dns, err := pki.CheckDNSName(name, pki.DNSRules{SingleLabel: true})
	return pki.Identifier{Type: pki.DNS, Value: dns}, err
}

// readChain reads a PEM file of certificates.
func readChain(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return chain, nil
}

// readList reads a revocation list, DER or PEM.
func readList(path string) (*x509.RevocationList, error) {
	der, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
