package issuer

import (
	"fmt"
	"strings"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/community" // registers its lints
	_ "github.com/zmap/zlint/v3/lints/rfc"       // registers its lints
)

// lintSources are the rules that hold for a private PKI. Those of browsers and
// their forum do not: they bound validity and want public suffixes (rule X12).
var lintSources = lint.SourceList{
	lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC6962, lint.RFC8813, lint.Community,
}

// ignored lists lints of those sources that do not hold here, with the reason.
// A profile's name in profiles confines the exception to it.
var ignored = []struct {
	lint     string
	profiles []string // empty: everywhere
	reason   string
}{
	{"e_key_usage_and_extended_key_usage_inconsistent", nil,
		"RFC 5280 names usages that may go with each purpose; devices with RSA keys that renew over SCEP need " +
			"keyEncipherment beside clientAuth"},
	{"e_ext_san_uri_host_not_fqdn_or_ip", nil,
		"a SPIFFE trust domain may be a single label, as hosts inside an organisation often are"},
	{"w_rfc_dnsname_underscore_in_trd", nil, "a profile has to allow underscores by name; the rule is its own"},
	{"e_rfc_dnsname_underscore_in_sld", nil, "a profile has to allow underscores by name; the rule is its own"},
	{"w_multiple_issuer_rdn", nil, "multi-valued names of a CA are copied as they are"},
	{"w_issuer_dn_leading_whitespace", nil, "the name of a CA is copied as it is"},
	{"w_issuer_dn_trailing_whitespace", nil, "the name of a CA is copied as it is"},
	{"e_crl_revocation_time_after_this_update", nil,
		"a list is dated back for clients whose clocks are slow; what was revoked in those minutes belongs on it " +
			"with its true date"},
	{"e_rsa_fermat_factorization", nil,
		"pki.CheckKey looks for primes that are too close before anything is drafted, in as many rounds and at a " +
			"fraction of the cost"},
	{"w_subject_given_name_recommended_max_length", nil, "people have names longer than 16 letters"},
	{"w_subject_surname_recommended_max_length", nil, "people have names longer than 40 letters"},
}

// linter is the filtered registry, built at the first use in the process.
var linter = sync.OnceValues(newLinter)

type linting struct {
	certificates []*lint.CertificateLint
	lists        []*lint.RevocationListLint
	config       lint.Configuration
	except       map[string][]string // lint → profiles; nil: everywhere
}

func newLinter() (*linting, error) {
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lintSources})
	if err != nil {
		return nil, fmt.Errorf("build linter: %w", err)
	}
	l := &linting{
		certificates: registry.CertificateLints().Lints(),
		lists:        registry.RevocationListLints().Lints(),
		config:       registry.GetConfiguration(),
		except:       make(map[string][]string),
	}
	for _, x := range ignored {
		if registry.CertificateLints().ByName(x.lint) == nil && registry.RevocationListLints().ByName(x.lint) == nil {
			return nil, fmt.Errorf("build linter: the ignore list names %q, which does not exist", x.lint)
		}
		l.except[x.lint] = x.profiles
	}
	return l, nil
}

// LintCertificate returns an error that names every lint that a certificate
// fails. Warnings count: what is tolerated stands in the ignore list.
func LintCertificate(der []byte, profile string) error {
	l, err := linter()
	if err != nil {
		return err
	}
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read for the linter: %w", err)
	}
	var bad []string
	for _, rule := range l.certificates {
		if l.ignores(rule.Name, profile) {
			continue
		}
		if r := rule.Execute(c, l.config); r.Status >= lint.Warn {
			bad = append(bad, finding(rule.Name, r.Details))
		}
	}
	return findings(bad)
}

// LintList is LintCertificate for a CRL.
func LintList(der []byte) (err error) {
	defer func() {
		if p := recover(); p != nil { // the library guards certificates only
			err = fmt.Errorf("the linter failed: %v", p)
		}
	}()
	l, err := linter()
	if err != nil {
		return err
	}
	crl, err := zx509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("read for the linter: %w", err)
	}
	var bad []string
	for _, rule := range l.lists {
		if l.ignores(rule.Name, "") {
			continue
		}
		if r := rule.Execute(crl, l.config); r.Status >= lint.Warn {
			bad = append(bad, finding(rule.Name, r.Details))
		}
	}
	return findings(bad)
}

func (l *linting) ignores(name, profile string) bool {
	profiles, ok := l.except[name]
	if !ok || len(profiles) == 0 {
		return ok
	}
	for _, p := range profiles {
		if p == profile {
			return true
		}
	}
	return false
}

func finding(name, details string) string {
	if details == "" {
		return name
	}
	return name + " (" + details + ")"
}

func findings(bad []string) error {
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("it would break %s", strings.Join(bad, ", "))
}
