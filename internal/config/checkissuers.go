package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// checkIssuers checks the CAs that sign here and those above them.
func (f *File) checkIssuers(d *strictyaml.Document) {
	seen := map[string]bool{}
	for i, is := range f.Issuers {
		key := fmt.Sprintf("issuers[%d]", i)
		if !plainName.MatchString(is.ID) {
			d.Report(key+".id", "%q: want lower-case letters, digits and hyphens", is.ID)
		}
		if seen[is.ID] {
			d.Report(key+".id", "%q is defined twice", is.ID)
		}
		seen[is.ID] = true
		if strings.HasSuffix(is.ID, "-delta") {
			d.Report(key+".id", "%q: a name that ends in -delta looks like a delta list in URLs", is.ID)
		}
		d.Check(key+".crl", is.CRL.Check())
		f.checkPool(d, key, is)
		f.checkChains(d, key, is)
		f.checkTree(d, key, is.Subject, is.MaxChildren)
		if is.Certificate == "" { // `privyseal issuer csr` makes the key
			if err := is.Key.Available(f.PKCS11.Module); err != nil && !errors.Is(err, keys.ErrNoKey) {
				d.Report(key+".key", "%v", err)
			}
			continue
		}
		f.checkKey(d, key+".key", is.Key)
		chain, err := f.Chain(is.Certificate)
		if err != nil {
			d.Report(key+".certificate", "%v", err)
			continue
		}
		if len(chain) < 2 && !f.OneTier {
			d.Report(key+".certificate", "want the issuer's certificate and all that certify it, the root last: "+
				"a root does not sign on a server")
		}
	}
	for i, o := range f.Offline {
		key := fmt.Sprintf("offline[%d]", i)
		if !plainName.MatchString(o.ID) {
			d.Report(key+".id", "%q: want lower-case letters, digits and hyphens", o.ID)
		}
		if seen[o.ID] {
			d.Report(key+".id", "%q is defined twice", o.ID)
		}
		seen[o.ID] = true
		f.checkTree(d, key, "", o.MaxChildren)
		if o.Certificate != "" {
			if _, err := f.Chain(o.Certificate); err != nil {
				d.Report(key+".certificate", "%v", err)
			}
		}
		if o.CRL != "" {
			if _, err := f.List(o.CRL); err != nil {
				d.Report(key+".crl", "%v", err)
			}
		}
	}
}

// checkPool checks the place of an issuer among others.
func (f *File) checkPool(d *strictyaml.Document, key string, is Issuer) {
	if is.Pool != "" && !plainName.MatchString(is.Pool) {
		d.Report(key+".pool", "%q: want lower-case letters, digits and hyphens", is.Pool)
	}
	if slices.Contains(f.issuerIDs(), is.Pool) {
		d.Report(key+".pool", "%q is the id of an issuer", is.Pool)
	}
	if is.Succeeds == "" {
		return
	}
	at := slices.IndexFunc(f.Issuers, func(o Issuer) bool { return o.ID == is.Succeeds })
	switch {
	case at < 0 || is.Succeeds == is.ID:
		others := slices.DeleteFunc(f.issuerIDs(), func(id string) bool { return id == is.ID })
		d.Check(key, strictyaml.OneOf("succeeds", is.Succeeds, others...))
	case is.Pool == "" || f.Issuers[at].Pool != is.Pool:
		d.Report(key+".succeeds",
			"issuer %s is of another pool: clients' endpoints name the pool, so that they need not change",
			is.Succeeds)
	case f.Successor(is.Succeeds) != is.ID:
		d.Report(key+".succeeds", "issuer %s succeeds %s already", f.Successor(is.Succeeds), is.Succeeds)
	case f.circle(is.ID):
		d.Report(key+".succeeds", "the issuers succeed each other in a circle")
	}
}

// circle reports whether an issuer succeeds itself in the end.
func (f *File) circle(id string) bool {
	for at, n := id, 0; n <= len(f.Issuers); n++ {
		i := slices.IndexFunc(f.Issuers, func(o Issuer) bool { return o.ID == at })
		if i < 0 || f.Issuers[i].Succeeds == "" {
			return false
		}
		at = f.Issuers[i].Succeeds
	}
	return true
}

func (f *File) checkChains(d *strictyaml.Document, key string, is Issuer) {
	for j, file := range is.Chains {
		chain, err := f.Chain(file)
		if err == nil {
			err = calaw.Foreign(chain, chain[0].NotBefore).Err()
		}
		if err != nil {
			d.Report(fmt.Sprintf("%s.chains[%d]", key, j), "%v", err)
		}
	}
}

// nests reports whether what a profile grants is within what the issuers of a
// name and the CAs above them may grant.
func (f *File) nests(p *profile.Profile, name string) error {
	for _, is := range f.Issuers {
		if p == nil || is.Service() != name || is.Certificate == "" {
			continue // reported elsewhere, or not known yet
		}
		chain, err := f.Chain(is.Certificate)
		if err != nil {
			continue // reported with the issuer
		}
		if err := hierarchy.CheckUsages(chain, p.EKUs()); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) issuerIDs() []string {
	ids := make([]string, 0, len(f.Issuers))
	for _, is := range f.Issuers {
		ids = append(ids, is.ID)
	}
	return ids
}

// services are the names under which certificates can be had: pools, and issuers
// that are in none.
func (f *File) services() []string {
	var names []string
	for _, is := range f.Issuers {
		if name := is.Service(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// checkTree checks what a CA's declaration says of its place in a tree.
func (f *File) checkTree(d *strictyaml.Document, key, subject string, children int) {
	if subject != "" {
		name, err := pki.ParseName(subject)
		if err == nil {
			err = name.Check()
		}
		if err != nil {
			d.Report(key+".subject", "%v", err)
		}
	}
	if children < 0 {
		d.Report(key+".max_children", "%d: want a number of CAs, or nothing for any number", children)
	}
}
