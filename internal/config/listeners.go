package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/privyseal/privyseal/internal/strictyaml"
	"github.com/privyseal/privyseal/internal/web"
)

// byListener returns what all listeners of TCP have, by their key in the file.
func (f *File) byListener() map[string]Listener {
	l := f.Listeners
	return map[string]Listener{
		"https":       {Addr: l.HTTPS.Addr, Connections: l.HTTPS.Connections},
		"est":         {Addr: l.EST.Addr, Connections: l.EST.Connections},
		"https_admin": {Addr: l.HTTPSAdmin.Addr, Connections: l.HTTPSAdmin.Connections},
		"http":        l.HTTP,
		"ops":         {Addr: l.Ops.Addr, Connections: l.Ops.Connections},
	}
}

// Proxies are those whose word is taken for who a client is.
func (c Connections) Proxies() web.Proxies {
	return web.Proxies{PROXY: c.ProxyFrom, Forwarded: c.ForwardedFrom, Header: c.ForwardedHeader}
}

func (c Connections) check() error {
	errs := []error{
		strictyaml.OneOf("forwarded_header", c.ForwardedHeader, "", web.XForwardedFor, web.Forwarded),
		strictyaml.WrongIf(c.Max < 0, "max", "cannot be negative"),
		strictyaml.WrongIf(c.MaxPerSource < 0, "max_per_source", "cannot be negative"),
	}
	for _, list := range []struct {
		key  string
		nets []netip.Prefix
	}{{"proxy_from", c.ProxyFrom}, {"forwarded_from", c.ForwardedFrom}} {
		for i, p := range list.nets {
			key := fmt.Sprintf("%s[%d]", list.key, i)
			errs = append(errs,
				strictyaml.WrongIf(p.Bits() == 0, key, "%s: everybody could say who they are", p),
				strictyaml.WrongIf(p.Addr().Is4In6(), key, "%s: want the network in IPv4's own form", p))
		}
	}
	return errors.Join(errs...)
}

// KeyKind is "ec" or "rsa", of an entry of TLS.Algorithms.
func KeyKind(algorithm string) string {
	kind, _, _ := strings.Cut(algorithm, "-")
	return kind
}

// checkAlgorithms checks the kinds of key of a listener's own certificates.
func (f *File) checkAlgorithms(d *strictyaml.Document, key string, t TLS) {
	profiles, _ := f.CompileProfiles() // mistakes are reported with the profiles
	p, seen := profiles[t.Profile], map[string]bool{}
	for i, a := range t.Algorithms {
		at := fmt.Sprintf("%s[%d]", key, i)
		d.Check(at, strictyaml.OneOf("", a, "ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"))
		if seen[KeyKind(a)] {
			d.Report(at, "%s: there is one of this kind already", a)
		}
		seen[KeyKind(a)] = true
		if p != nil && !p.TakesKey(a) {
			d.Report(at, "profile %s does not take %s", t.Profile, a)
		}
	}
}
