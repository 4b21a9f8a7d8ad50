package profile

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// The caps that no configuration can lift.
const (
	maxLeaf       = 2 * Year
	maxAuthority  = 25*Year + 7*Day // 25 years by the calendar have so many days at most
	maxBackdate   = 24 * time.Hour
	maxNoRevAvail = 10 * Day
	maxSANs       = 1000
)

// Profile is a compiled Config. It is immutable and safe for concurrent use.
type Profile struct {
	name, version, description string

	fields      []field
	dropSubject bool // requested attributes without a rule are dropped
	cnInSAN     bool
	san         map[pki.IdentifierType]*rule
	dns         pki.DNSRules
	minSAN      int
	maxSAN      int
	keys        keyRules
	life        life
	usage       x509.KeyUsage
	ekus        []asn1.ObjectIdentifier
	policies    []asn1.ObjectIdentifier
	copied      []asn1.ObjectIdentifier
	dropExts    bool
	approval    bool
	noRevAvail  bool
	ocspNoCheck bool
	mustStaple  bool
	ca          bool
	pathLen     int
	fixedExtra  []pkix.Extension
}

// field is the compiled rule of one subject attribute.
type field struct {
	oid                 asn1.ObjectIdentifier
	fixed               string
	required, forbidden bool
	match               []matcher
	max                 int
}

// life is the compiled Validity.
type life struct {
	usual, max, backdate, postdate time.Duration
	clamp                          bool
}

// Name returns the name the profile was compiled under.
func (p *Profile) Name() string { return p.name }

// Version returns a short digest of the rules: it changes when, and only when,
// the configuration means something else.
func (p *Profile) Version() string { return p.version }

// Description returns the line for people.
func (p *Profile) Description() string { return p.description }

// EKUs returns the extended key usages of every certificate of the profile.
func (p *Profile) EKUs() []asn1.ObjectIdentifier { return slices.Clone(p.ekus) }

// MaxValidity returns the longest life that a certificate can get.
func (p *Profile) MaxValidity() time.Duration { return p.life.max }

// Approval reports whether requests wait for a person.
func (p *Profile) Approval() bool { return p.approval }

// CA reports whether the profile makes certification authorities.
func (p *Profile) CA() bool { return p.ca }

// Wildcards reports whether wildcard DNS names can pass.
func (p *Profile) Wildcards() bool { return p.san[pki.DNS] != nil && p.dns.Wildcard }

// DNSRules returns which DNS names the profile takes beyond plain ones; ok is
// false if it takes none at all.
func (p *Profile) DNSRules() (rules pki.DNSRules, ok bool) { return p.dns, p.san[pki.DNS] != nil }

// Takes reports whether the profile allows any name of the type.
func (p *Profile) Takes(t pki.IdentifierType) bool { return p.san[t] != nil }

// compiler collects mistakes while a profile is built.
type compiler struct {
	c        Config
	p        *Profile
	mistakes []string
}

func (b *compiler) bad(format string, args ...any) {
	b.mistakes = append(b.mistakes, fmt.Sprintf(format, args...))
}

func (b *compiler) check(err error) {
	if err != nil {
		b.mistakes = append(b.mistakes, err.Error())
	}
}

var nameShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$`)

// Compile checks a configuration and returns its profile. The error tells every
// mistake, one per line.
func Compile(name string, c Config) (*Profile, error) {
	b := &compiler{c: c, p: &Profile{name: name, pathLen: -1}}
	if !nameShape.MatchString(name) {
		b.bad("name: want up to 64 letters, digits, and . _ / - after the first")
	}
	b.p.description, b.p.approval, b.p.ca = c.Description, c.Approval, c.CA
	b.subject()
	b.names()
	b.keys()
	b.validity()
	b.usages()
	b.extensions()
	b.authority()
	b.version()
	if len(b.mistakes) > 0 {
		return nil, fmt.Errorf("profile %q: %s", name, strings.Join(b.mistakes, "\n\t"))
	}
	return b.p, nil
}

// choose reads a knob with two words; the first is the default.
func (b *compiler) choose(knob, word, first, second string) (isSecond bool) {
	switch word {
	case "", first:
		return false
	case second:
		return true
	}
	b.bad("%s: %q is neither %s nor %s", knob, word, first, second)
	return false
}

func (b *compiler) subject() {
	b.p.dropSubject = b.choose("subject.others", b.c.Subject.Others, "refuse", "drop")
	b.p.cnInSAN = b.c.Subject.CommonNameInSAN
	for i, f := range b.c.Subject.Fields {
		at := fmt.Sprintf("subject.fields[%d]", i)
		oid, err := pki.ParseAttributeType(f.Attribute)
		if err != nil {
			b.bad("%s: %v", at, err)
			continue
		}
		if slices.ContainsFunc(b.p.fields, func(g field) bool { return g.oid.Equal(oid) }) {
			b.bad("%s: %s has a rule already", at, f.Attribute)
		}
		g := field{oid: oid, fixed: f.Fixed, max: max(f.Max, 1)}
		switch f.Request {
		case "", "optional":
		case "required":
			g.required = true
		case "forbidden":
			g.forbidden = true
		default:
			b.bad("%s: request: %q is none of optional, required, forbidden", at, f.Request)
		}
		if f.Fixed != "" {
			if f.Request != "" || len(f.Match) > 0 || f.Max != 0 {
				b.bad("%s: fixed stands alone, without request, match and max", at)
			}
			if err := pki.SingleName(pki.Attribute{OID: oid, Value: f.Fixed}).Check(); err != nil {
				b.bad("%s: %v", at, err)
			}
		}
		if f.Max < 0 || f.Max > 20 {
			b.bad("%s: max: want 1 to 20", at)
		}
		g.match = b.patterns(at+".match", f.Match, compileGlob)
		b.p.fields = append(b.p.fields, g)
	}
}

func (b *compiler) patterns(knob string, texts []string, compile func(string) (matcher, error)) []matcher {
	var all []matcher
	for _, t := range texts {
		m, err := compile(t)
		if err != nil {
			b.bad("%s: %v", knob, err)
			continue
		}
		all = append(all, m)
	}
	return all
}

func (b *compiler) names() {
	s := b.c.SAN
	b.p.san = map[pki.IdentifierType]*rule{}
	if d := s.DNS; d != nil {
		b.p.dns = pki.DNSRules{Wildcard: d.Wildcard, SingleLabel: d.SingleLabel, Underscore: d.Underscore}
		r := &rule{
			allow: b.patterns("san.dns.allow", d.Allow, compileDNS), deny: b.patterns("san.dns.deny", d.Deny, denyDNS),
			min: d.Min, max: d.Max,
		}
		b.p.san[pki.DNS] = r
		b.bounds("san.dns", d.Min, d.Max)
	}
	if a := s.IP; a != nil {
		b.add(pki.IP, "san.ip", Texts(*a), compileNetwork)
	}
	if m := s.Email; m != nil {
		b.add(pki.Email, "san.email", Texts(*m), compileMailbox)
	}
	if m := s.UPN; m != nil {
		b.add(pki.UPN, "san.upn", Texts(*m), compileMailbox)
	}
	if u := s.URI; u != nil {
		b.add(pki.URI, "san.uri", Texts{u.Allow, u.Deny, u.Min, u.Max}, compileGlob)
		if u.SPIFFE {
			b.p.san[pki.URI].extra = checkSPIFFE
		}
	}
	if t := s.Permanent; t != nil {
		b.add(pki.PermanentID, "san.permanent_identifier", *t, compileGlob)
	}
	if t := s.Hardware; t != nil {
		b.add(pki.HardwareID, "san.hardware_module", *t, compileGlob)
	}
	if t := s.Directory; t != nil {
		b.add(pki.DirName, "san.directory_name", *t, compileGlob)
	}
	b.bounds("san", s.Min, s.Max)
	b.p.minSAN, b.p.maxSAN = s.Min, s.Max
	if b.p.maxSAN == 0 {
		b.p.maxSAN = 100
	}
	if (s.Min > 0 || b.p.cnInSAN) && len(b.p.san) == 0 {
		b.bad("san: names are demanded but no type of name is allowed")
	}
}

func (b *compiler) add(t pki.IdentifierType, knob string, r Texts, compile func(string) (matcher, error)) {
	b.p.san[t] = &rule{
		allow: b.patterns(knob+".allow", r.Allow, compile), deny: b.patterns(knob+".deny", r.Deny, compile),
		min: r.Min, max: r.Max,
	}
	b.bounds(knob, r.Min, r.Max)
}

func (b *compiler) bounds(knob string, least, most int) {
	if least < 0 || most < 0 || most > maxSANs || least > maxSANs || most != 0 && least > most {
		b.bad("%s: min and max: want 0 to %d, and min not above max", knob, maxSANs)
	}
}

func (b *compiler) keys() {
	words, floor := b.c.Keys, 2048
	if len(words) == 0 {
		words = []string{"ec-p256", "ec-p384", "rsa-2048+"}
	}
	if b.c.CA {
		floor = 3072 // G1-50: issuing CAs have P-256 or better, or RSA of 3072 bits
		if len(b.c.Keys) == 0 {
			words = []string{"ec-p256", "ec-p384", "rsa-3072+"}
		}
	}
	var err error
	b.p.keys, err = compileKeys(words, floor)
	b.check(err)
}

func (b *compiler) validity() {
	v := b.c.Validity
	l := life{usual: time.Duration(v.Default), max: time.Duration(v.Max), backdate: time.Hour, postdate: 24 * time.Hour}
	roof, word := maxLeaf, "2y (730d)"
	if b.c.CA {
		roof, word = maxAuthority, "25y"
	}
	if l.usual == 0 {
		l.usual = 90 * Day
		if b.c.CA {
			l.usual = 10 * Year
		}
		if l.max > 0 {
			l.usual = min(l.usual, l.max)
		}
	}
	if l.max == 0 {
		l.max = max(l.usual, Year)
	}
	if v.Backdate != nil {
		l.backdate = time.Duration(*v.Backdate)
	}
	if v.Postdate != nil {
		l.postdate = time.Duration(*v.Postdate)
	}
	switch {
	case l.usual < 0 || l.max < 0 || l.backdate < 0 || l.postdate < 0:
		b.bad("validity: a negative length")
	case l.max > roof:
		b.bad("validity.max: %s is above the cap of %s", Duration(l.max), word)
	case l.usual > l.max:
		b.bad("validity.default: %s is above max, %s", Duration(l.usual), Duration(l.max))
	case l.backdate > maxBackdate:
		b.bad("validity.backdate: %s is more than 24h", Duration(l.backdate))
	case l.usual <= l.backdate:
		b.bad("validity.default: %s is used up by the backdating of %s", Duration(l.usual), Duration(l.backdate))
	case l.postdate > roof:
		b.bad("validity.postdate: %s is above the cap of %s", Duration(l.postdate), word)
	case l.max%time.Second != 0 || l.usual%time.Second != 0 || l.backdate%time.Second != 0:
		b.bad("validity: certificates know whole seconds only")
	}
	if b.c.CA {
		l.clamp = b.choose("validity.beyond_issuer", v.BeyondIssuer, "refuse", "clamp")
	} else {
		l.clamp = !b.choose("validity.beyond_issuer", v.BeyondIssuer, "clamp", "refuse")
	}
	b.p.life = l
}

// version digests the configuration, default values filled in where they decide.
func (b *compiler) version() {
	text, err := json.Marshal(struct {
		Name string
		Config
	}{b.p.name, b.c})
	if err != nil {
		b.bad("version: %v", err)
		return
	}
	sum := sha256.Sum256(text)
	b.p.version = hex.EncodeToString(sum[:6])
}
