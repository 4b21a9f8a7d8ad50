package tree

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Spec is a hierarchy as one file describes it: what its CAs are called, which is
// above which, and what each may do. Its comments are the manual.
type Spec struct {
	// Name is what the hierarchy is called in ceremonies.
	Name string `yaml:"name"`
	// Reason says why a tree has more than two levels. Without one a warning says
	// so: two serve nearly everybody.
	Reason string `yaml:"reason,omitempty"`
	// Quorum divides the keys that a ceremony makes among custodians. Without it a
	// passphrase is asked for.
	Quorum *Quorum `yaml:"quorum,omitempty"`
	// CAs are the CAs, each after the one above it.
	CAs []CA `yaml:"cas"`
}

// Quorum is how many of which custodians open a key.
type Quorum struct {
	Need       int      `yaml:"need"`
	Custodians []string `yaml:"custodians"`
}

// CA is one CA of a hierarchy.
type CA struct {
	// ID names the CA for good: the issuer's id in the configuration, and a part of
	// URLs.
	ID string `yaml:"id"`
	// Parent is the id of the CA above; a root has none.
	Parent string `yaml:"parent,omitempty"`
	// Subject is the CA's name, RFC 4514: "CN=Web CA A,O=Example,C=DE".
	Subject string `yaml:"subject"`
	// Template is RootCACertificate/V1 (default of roots) or
	// SubordinateCACertificate_PathLen0/V1 (default of the others) to PathLen3.
	Template string `yaml:"template,omitempty"`
	// Key says where the CA signs: offline, in ceremonies (the default of roots and
	// of CAs with others below them), or online, on this server.
	Key string `yaml:"key,omitempty"`
	// Algorithm of the key: ec-p384 (default) or rsa-4096 offline; online ec-p256
	// (default), ec-p384, ec-p521, rsa-3072 or rsa-4096.
	Algorithm string `yaml:"algorithm,omitempty"`
	// Years is the life, by the calendar. Default: 20 of a root, 10 of the others.
	Years int `yaml:"years,omitempty"`
	// MaxChildren is how many CAs may be below this one; any number if left out.
	MaxChildren int `yaml:"max_children,omitempty"`
	// Policies are certificate policy OIDs.
	Policies []string `yaml:"policies,omitempty"`
	// ExtKeyUsage bounds what all below may be used for. Default: what the built-in
	// profiles need.
	ExtKeyUsage []string `yaml:"ext_key_usage,omitempty"`
	// NameConstraints bounds every name below.
	NameConstraints *profile.NameConstraints `yaml:"name_constraints,omitempty"`
	// Reason says why this branch is deeper than two levels.
	Reason string `yaml:"reason,omitempty"`
}

const (
	keyOffline = "offline"
	keyOnline  = "online"

	templateRoot = "RootCACertificate/V1"
	templateSub  = "SubordinateCACertificate_PathLen0/V1"
)

var caID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseSpec reads a hierarchy's file, strictly, and completes what it leaves out.
// What it finds wrong by looking at the file alone is a fault with the reason
// "hierarchy".
func ParseSpec(text []byte) (*Spec, error) {
	s := &Spec{}
	err := strictyaml.Decode("", text, s).Err()
	if err == nil {
		err = s.complete()
	}
	if err != nil {
		return nil, fault.New(fault.Malformed, "%w", err).Because("hierarchy")
	}
	return s, nil
}

func (s *Spec) complete() error {
	if s.Name == "" || len(s.CAs) == 0 {
		return errors.New("want name, and cas with one CA or more")
	}
	if q := s.Quorum; q != nil && (q.Need < 2 || len(q.Custodians) < q.Need) {
		return fmt.Errorf("quorum: %d of %d custodians: want at least 2, so that nobody opens the key alone", q.Need,
			len(q.Custodians))
	}
	seen := map[string]bool{}
	for i := range s.CAs {
		c := &s.CAs[i]
		at := fmt.Sprintf("cas[%d] (%s)", i, c.ID)
		switch {
		case !caID.MatchString(c.ID) || strings.HasSuffix(c.ID, "-delta"):
			return fmt.Errorf("%s: id: want lower-case letters, digits and hyphens, and not -delta at the end", at)
		case seen[c.ID]:
			return fmt.Errorf("%s: the id is there twice", at)
		case c.Parent != "" && !seen[c.Parent] && slices.ContainsFunc(s.CAs,
			func(o CA) bool { return o.ID == c.Parent }):
			return fmt.Errorf("%s: its parent %s has to stand before it", at, c.Parent)
		}
		seen[c.ID] = true
		if err := c.complete(s.children(c.ID) > 0); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

func (s *Spec) children(id string) int {
	n := 0
	for _, c := range s.CAs {
		if c.Parent == id {
			n++
		}
	}
	return n
}

func (c *CA) complete(above bool) error {
	fill := func(value *string, otherwise string) {
		if *value == "" {
			*value = otherwise
		}
	}
	if c.Parent == "" {
		fill(&c.Template, templateRoot)
		fill(&c.Key, keyOffline)
	}
	fill(&c.Template, templateSub)
	if above {
		fill(&c.Key, keyOffline)
	}
	fill(&c.Key, keyOnline)
	where := calaw.Online
	if c.Key == keyOffline {
		where = calaw.Offline
	}
	fill(&c.Algorithm, calaw.Algorithms(where)[0])
	if c.Years == 0 && c.Parent == "" {
		c.Years = calaw.RootYears
	}
	if c.Years == 0 {
		c.Years = calaw.CAYears
	}
	return c.check()
}

// check finds what is wrong with the place of one CA; what its certificate may say
// is for calaw to judge.
func (c *CA) check() error {
	config, ok := profile.BuiltIn()[c.Template]
	switch {
	case !ok || !config.CA || !strings.HasSuffix(c.Template, "/V1"):
		return fmt.Errorf("template %q: want %s, or SubordinateCACertificate_PathLen0/V1 to PathLen3", c.Template,
			templateRoot)
	case (c.Template == templateRoot) != (c.Parent == ""):
		return fmt.Errorf("%s is for CAs without a parent, and for no others", templateRoot)
	case c.Key != keyOffline && c.Key != keyOnline:
		return fmt.Errorf("key %q: want offline or online", c.Key)
	case c.Parent == "" && c.Key != keyOffline:
		return errors.New("key: a root's key is not on a server")
	case c.MaxChildren < 0:
		return errors.New("max_children is positive")
	}
	return nil
}

// pathLen is what the CA's template says, -1 for none.
func (c *CA) pathLen() int {
	if p := profile.BuiltIn()[c.Template].PathLen; p != nil {
		return *p
	}
	return -1
}
