package hierarchy

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// NameConstraints is the reason of faults of CheckNames.
const NameConstraints = "name_constraints"

// CheckNames applies the name constraints of every CA in the chain to every
// name of the child (RFC 5280, sections 4.2.1.10 and 6.1.4).
func CheckNames(chain []*x509.Certificate, c Child) error {
	var names []pki.Identifier // read when the first constraint shows up; those that no CA has refused yet
	var bad []*fault.Error
	for _, ca := range chain {
		value, ok := pki.Extension(ca.Extensions, oidNameConstraints)
		if !ok {
			continue
		}
		nc, err := pki.ParseNameConstraints(value)
		if err != nil {
			return denied(NameConstraints, "the constraints of %s cannot be read: %v", ca.Subject, err)
		}
		if names == nil {
			if names, err = constrainedNames(c); err != nil {
				return denied(NameConstraints, "%v", err)
			}
		}
		names = slices.DeleteFunc(names, func(id pki.Identifier) bool {
			why := violates(nc, id)
			if why != "" {
				bad = append(bad, fault.New(fault.RejectedIdentifier, "%s %q: %s of %s", id.Type, id.Value, why,
					ca.Subject).
					Because(NameConstraints).About(string(id.Type), id.Value))
			}
			return why != ""
		})
	}
	if len(bad) == 0 {
		return nil
	}
	bad = fault.Distinct(bad) // a common name repeats a name
	f := fault.New(fault.RejectedIdentifier, "%s", bad[0].Detail).Because(NameConstraints)
	if len(bad) == 1 {
		f.Identifier = bad[0].Identifier
	}
	f.Sub = bad
	return f
}

// constrainedNames returns every name of the child that constraints look at:
// the alternative names, the subject, mailboxes in the subject, and of an end
// entity's common name what a careless client might take for a host.
func constrainedNames(c Child) ([]pki.Identifier, error) {
	names := make([]pki.Identifier, 0, len(c.Names)+2)
	for _, id := range c.Names {
		n, err := id.Canonical()
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	subject, err := pki.ParseNameDER(c.RawSubject)
	if err != nil || len(subject) == 0 {
		return names, err
	}
	names = append(names, pki.Identifier{Type: pki.DirName, Value: subject.String()})
	for _, mail := range subject.Values(pki.OIDEmailAddress) {
		n, err := (pki.Identifier{Type: pki.Email, Value: mail}).Canonical()
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	if c.CA {
		return names, nil
	}
	for _, cn := range subject.Values(pki.OIDCommonName) {
		if ip, err := (pki.Identifier{Type: pki.IP, Value: cn}).Canonical(); err == nil {
			names = append(names, ip)
		} else if host, err := (pki.Identifier{Type: pki.DNS, Value: cn}).Canonical(); err == nil &&
			strings.Contains(host.Value, ".") {
			names = append(names, host)
		}
	}
	return names, nil
}

// violates says which half of the constraints a canonical name breaks, or "".
// A form that a constraint speaks of but that cannot be compared is a
// violation: constraints fail closed.
func violates(nc *pki.NameConstraints, id pki.Identifier) string {
	match := matchers[id.Type]
	for _, tree := range nc.Excluded {
		if !sameForm(tree, id) {
			continue
		}
		if match == nil || match(tree.Value, id.Value, true) {
			return fmt.Sprintf("within the excluded subtree %q", tree.Value)
		}
	}
	constrained := false
	for _, tree := range nc.Permitted {
		if !sameForm(tree, id) {
			continue
		}
		constrained = true
		if match != nil && match(tree.Value, id.Value, false) {
			return ""
		}
	}
	if constrained {
		return "outside the permitted subtrees"
	}
	return ""
}

// sameForm reports whether a subtree speaks of names of the identifier's form.
func sameForm(tree pki.Subtree, id pki.Identifier) bool {
	if tree.Type != pki.OtherForm {
		return tree.Type == id.Type
	}
	// The other forms that a child of ours can have are all otherNames; which
	// type of otherName the subtree means does not matter, since none of them has
	// a comparison that verifiers agree on.
	return strings.HasPrefix(tree.Value, "otherName") &&
		slices.Contains([]pki.IdentifierType{pki.UPN, pki.PermanentID, pki.HardwareID}, id.Type)
}

// A nameMatcher reports whether a name lies in a subtree. For names that stand
// for many (wildcards) or cannot be compared, excluded says which answer is the
// careful one.
type nameMatcher func(tree, name string, excluded bool) bool

var matchers = map[pki.IdentifierType]nameMatcher{
	pki.DNS: inDomain, pki.IP: inNetwork, pki.Email: inMailboxes, pki.URI: inHosts, pki.DirName: inDirectory,
}

// inDomain: "example.com" holds itself and everything below, ".example.com" only
// what is below, "" everything.
func inDomain(tree, name string, excluded bool) bool {
	base, wildcard := strings.CutPrefix(name, "*.")
	if !wildcard {
		base = name
	}
	dotless, dotted := strings.CutPrefix(tree, ".")
	switch {
	case tree == "":
		return true
	case strings.HasSuffix(name, "."+dotless):
		return true // a wildcard lies below its base, so this covers it
	case !dotted && name == dotless:
		return true
	}
	if !wildcard || !excluded {
		return false
	}
	// "*.example.com" covers the excluded "secret.example.com" itself.
	_, parent, _ := strings.Cut(dotless, ".")
	return parent == base && !dotted
}

func inNetwork(tree, name string, excluded bool) bool {
	p, err := netip.ParsePrefix(tree)
	a, err2 := netip.ParseAddr(name)
	if err != nil || err2 != nil {
		return excluded
	}
	return p.Contains(a)
}

// inMailboxes: a mailbox, all mailboxes on a host, or on the hosts below a
// domain (".example.com").
func inMailboxes(tree, name string, excluded bool) bool {
	local, host, ok := strings.Cut(name, "@")
	if !ok {
		return excluded
	}
	if l, h, ok := strings.Cut(tree, "@"); ok {
		// Local parts are compared exactly by RFC 5280; to exclude one, its other
		// spellings by case are excluded as well.
		return h == host && (l == local || excluded && strings.EqualFold(l, local))
	}
	return onHost(tree, host)
}

func onHost(tree, host string) bool {
	if strings.HasPrefix(tree, ".") {
		return strings.HasSuffix(host, tree)
	}
	return tree == host
}

// inHosts compares the host of a URI. One without a host name (a URN, or an
// address) cannot be accepted under any constraint on URIs (RFC 5280, section
// 4.2.1.10).
func inHosts(tree, name string, excluded bool) bool {
	u, err := url.Parse(name)
	if err != nil {
		return excluded
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if _, err := netip.ParseAddr(host); host == "" || err == nil {
		return excluded
	}
	return onHost(tree, host)
}

func inDirectory(tree, name string, excluded bool) bool {
	base, err := pki.ParseName(tree)
	n, err2 := pki.ParseName(name)
	if err != nil || err2 != nil {
		return excluded
	}
	return n.Within(base)
}
