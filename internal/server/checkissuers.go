package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/profile"
)

// checkIssuers checks the CAs that sign here and those above them.
func (l *loaded) checkIssuers(d *document) {
	seen := map[string]bool{}
	for i, is := range l.Issuers {
		key := fmt.Sprintf("issuers[%d]", i)
		if !plainName.MatchString(is.ID) {
			d.say(key+".id", "%q: want lower-case letters, digits and hyphens", is.ID)
		}
		if seen[is.ID] {
			d.say(key+".id", "%q is defined twice", is.ID)
		}
		seen[is.ID] = true
		if strings.HasSuffix(is.ID, "-delta") {
			d.say(key+".id", "%q: a name that ends in -delta looks like a delta list in URLs", is.ID)
		}
		if err := is.CRL.Check(); err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				d.say(key+".crl", "%s", line)
			}
		}
		l.checkPool(d, key, is)
		l.checkChains(d, key, is)
		l.checkTree(d, key, is.Subject, is.MaxChildren)
		if is.Certificate == "" { // `privyseal issuer csr` makes the key
			if err := is.Key.Available(l.PKCS11.Module); err != nil && !errors.Is(err, keys.ErrNoKey) {
				d.say(key+".key", "%v", err)
			}
			continue
		}
		l.checkKey(d, key+".key", is.Key)
		chain, err := readChain(is.Certificate)
		if err != nil {
			d.say(key+".certificate", "%v", err)
			continue
		}
		if len(chain) < 2 && !l.oneTier {
			d.say(key+".certificate", "want the issuer's certificate and all that certify it, the root last: a root does not sign on a server")
		}
	}
	for i, o := range l.Offline {
		key := fmt.Sprintf("offline[%d]", i)
		if !plainName.MatchString(o.ID) {
			d.say(key+".id", "%q: want lower-case letters, digits and hyphens", o.ID)
		}
		if seen[o.ID] {
			d.say(key+".id", "%q is defined twice", o.ID)
		}
		seen[o.ID] = true
		l.checkTree(d, key, "", o.MaxChildren)
		if o.Certificate != "" {
			if _, err := readChain(o.Certificate); err != nil {
				d.say(key+".certificate", "%v", err)
			}
		}
		if o.CRL != "" {
			if _, err := readList(o.CRL); err != nil {
				d.say(key+".crl", "%v", err)
			}
		}
	}
}

// checkPool checks the place of an issuer among others.
func (l *loaded) checkPool(d *document, key string, is Issuer) {
	if is.Pool != "" && !plainName.MatchString(is.Pool) {
		d.say(key+".pool", "%q: want lower-case letters, digits and hyphens", is.Pool)
	}
	if slices.Contains(l.issuerIDs(), is.Pool) {
		d.say(key+".pool", "%q is the id of an issuer", is.Pool)
	}
	if is.Succeeds == "" {
		return
	}
	at := slices.IndexFunc(l.Issuers, func(o Issuer) bool { return o.ID == is.Succeeds })
	switch {
	case at < 0 || is.Succeeds == is.ID:
		oneOf(d, key+".succeeds", is.Succeeds, slices.DeleteFunc(l.issuerIDs(), func(id string) bool { return id == is.ID })...)
	case is.Pool == "" || l.Issuers[at].Pool != is.Pool:
		d.say(key+".succeeds", "issuer %s is of another pool: clients' endpoints name the pool, so that they need not change", is.Succeeds)
	case l.successor(is.Succeeds) != is.ID:
		d.say(key+".succeeds", "issuer %s succeeds %s already", l.successor(is.Succeeds), is.Succeeds)
	case l.circle(is.ID):
		d.say(key+".succeeds", "the issuers succeed each other in a circle")
	}
}

// circle reports whether an issuer succeeds itself in the end.
func (l *loaded) circle(id string) bool {
	for at, n := id, 0; n <= len(l.Issuers); n++ {
		i := slices.IndexFunc(l.Issuers, func(o Issuer) bool { return o.ID == at })
		if i < 0 || l.Issuers[i].Succeeds == "" {
			return false
		}
		at = l.Issuers[i].Succeeds
	}
	return true
}

func (l *loaded) checkChains(d *document, key string, is Issuer) {
	for j, file := range is.Chains {
		chain, err := readChain(file)
		if err == nil {
			err = hierarchy.VerifyPath(chain)
		}
		if err != nil {
			d.say(fmt.Sprintf("%s.chains[%d]", key, j), "%v", err)
		}
	}
}

// nests reports whether what a profile grants is within what the issuers of a
// name and the CAs above them may grant.
func (l *loaded) nests(p *profile.Profile, name string) error {
	for _, is := range l.Issuers {
		if p == nil || is.service() != name || is.Certificate == "" {
			continue // reported elsewhere, or not known yet
		}
		chain, err := readChain(is.Certificate)
		if err != nil {
			continue // reported with the issuer
		}
		if err := hierarchy.CheckUsages(chain, p.EKUs()); err != nil {
			return err
		}
	}
	return nil
}

func (l *loaded) issuerIDs() []string {
	ids := make([]string, 0, len(l.Issuers))
	for _, is := range l.Issuers {
		ids = append(ids, is.ID)
	}
	return ids
}

// services are the names under which certificates can be had: pools, and issuers
// that are in none.
func (l *loaded) services() []string {
	var names []string
	for _, is := range l.Issuers {
		if name := is.service(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
