package health

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
)

// CAs says what there is to say of the CAs of a set.
type CAs struct {
	Set func() *ca.Set
	// Needs returns the listeners that depend on a pool or on a CA that is in none,
	// and whether anything does.
	Needs func(service string) (listeners []string, needed bool)
	// Longest returns the longest life of a certificate that is offered of a pool or
	// a CA; zero if none is.
	Longest func(service string) time.Duration
	Now     func() time.Time
}

// A CA needs an operator when a fifth of its life is left, at most half a year: its
// successor has to be asked for, signed and installed.
const (
	lastShare = 5
	lastMost  = 182 * 24 * time.Hour
)

// Checks returns a check for each CA, and one for each pool.
func (c CAs) Checks(context.Context) []Check {
	set, now := c.Set(), c.Now()
	able := map[string][]string{}
	online, installed := 0, 0
	for _, a := range set.All() {
		if !ours(a) {
			continue
		}
		online++
		if a.Installed() {
			installed++
		}
		if a.MaySign(now) == nil {
			able[a.Service()] = append(able[a.Service()], a.ID)
		}
	}
	var all []Check
	if installed == 0 {
		all = append(all, Check{
			Name: "issuers", State: Failed, Needs: []string{All},
			Detail: "none is installed", Remedy: "privyseal issuer csr, then privyseal issuer install",
		})
	}
	for _, a := range set.All() {
		if ours(a) {
			all = append(all, c.signing(a, able[a.Service()], now))
		} else {
			all = append(all, c.other(a, now))
		}
	}
	for _, pool := range slices.Sorted(maps.Keys(set.Pools())) {
		all = append(all, c.pool(pool, able[pool]))
	}
	return all
}

// ours reports whether a CA is configured to sign here.
func ours(a *ca.CA) bool { return a.Configured && !a.Offline }

func (c CAs) pool(name string, able []string) Check {
	check := Check{Name: "pool " + name, Detail: fmt.Sprintf("issuers that sign: %v", able)}
	switch len(able) {
	case 0:
		check.State = Failed
		check.Needs, _ = c.Needs(name)
	case 1:
		check.Detail = fmt.Sprintf("only %s signs: nothing takes over if it fails", able[0])
	}
	return check
}

// signing judges a CA that is to sign here. What another one of its pool makes up
// for is a warning.
func (c CAs) signing(a *ca.CA, able []string, now time.Time) Check {
	check := Check{Name: "issuer " + a.ID}
	needs, needed := c.Needs(a.Service())
	err := a.MaySign(now)
	switch {
	case a.Stage == ca.Retired:
		check.Detail, check.Remedy = "its last certificate has expired", "take it out of the configuration"
		return check
	case a.Former():
		check.Detail = "it has a successor, and goes on with its lists and responses until its last certificate has " +
			"expired"
		if a.Pending != nil || a.Lost != nil {
			check.State = Warning
			c.explain(&check, a, err, now)
		}
		return check
	case err == nil:
		c.ends(&check, a, now)
		if check.State == "" && len(able) == 1 && needed {
			check.Detail = "no other issuer of a pool takes over if it fails"
		}
		return check
	}
	check.State = Failed
	c.explain(&check, a, err, now)
	switch {
	case len(able) > 0,
		!needed && (a.Stage == ca.Declared && a.Pending == nil || a.Trust(now).State == ca.Revoked || a.Weak != nil):
		check.State = Warning // others take over, or nobody asks and its operators know
	case needed:
		check.Needs = needs
	case a.Pending == nil:
		check.Needs = []string{Operators}
	}
	return check
}

// explain says why a CA signs no new certificates, and what to do.
func (c CAs) explain(check *Check, a *ca.CA, err error, now time.Time) {
	trust := a.Trust(now)
	switch {
	case a.Pending != nil:
		check.Detail = "its certificate is not taken in: " + fault.Text(a.Pending)
		check.Remedy = "install another certificate of its key, or privyseal issuer remove if it never signed"
	case a.Stage == ca.Declared:
		check.Detail = "it has no certificate yet: see privyseal issuer csr and install"
		check.Remedy = "privyseal issuer csr, then privyseal issuer install"
	case a.Lost != nil:
		check.Detail = "its key cannot be opened: " + fault.Text(a.Lost)
		check.Remedy = "see to the key, then privyseal config reload"
	case trust.State == ca.Revoked:
		check.Detail, check.Since = "it signs no more certificates: "+trust.Why, trust.Since
		check.Remedy = "install a successor with another key"
	case trust.State == ca.Expired:
		check.Detail, check.Since = trust.Why, trust.Since
		check.Remedy = "have it renewed, or install a successor"
	case a.Weak != nil:
		check.Detail = "it signs no new certificates, and goes on with its lists and responses: " + fault.Text(a.Weak)
		check.Remedy = "replace it by a CA with a new key"
	default:
		check.Detail = fault.Text(err)
	}
}

// ends warns before the certificate of a CA, or one above it, ends.
func (c CAs) ends(check *Check, a *ca.CA, now time.Time) {
	for i, cert := range a.Chain() {
		left := cert.NotAfter.Sub(now)
		who := "its certificate"
		if i > 0 {
			who = "the certificate of " + cert.Subject.String() + ", above it,"
		}
		date := cert.NotAfter.UTC().Format(time.DateOnly)
		longest := time.Duration(0)
		if c.Longest != nil && ours(a) {
			longest = c.Longest(a.Service())
		}
		switch {
		case left <= min(cert.NotAfter.Sub(cert.NotBefore)/lastShare, lastMost):
			check.State = Warning
			check.Detail = fmt.Sprintf("%s ends on %s, in %d days", who, date, int(left.Hours()/24))
			check.Remedy = "have it renewed, or install a successor"
		case i == 0 && left < longest:
			check.State = Warning
			check.Detail = fmt.Sprintf("%s ends on %s: certificates of %d days are cut to that day",
				who, date, int(longest.Hours()/24))
			check.Remedy = "install a successor, or shorten the profiles"
		default:
			continue
		}
		return
	}
}

// other judges a CA whose key is not to be here: one above ours, or one that the
// configuration does not name any more.
func (c CAs) other(a *ca.CA, now time.Time) Check {
	check := Check{Name: "ca " + a.ID}
	switch trust := a.Trust(now); {
	case a.Stage == ca.Declared && a.Pending == nil:
		check.State, check.Detail, check.Remedy = Warning, "it has no certificate yet", "privyseal issuer install "+a.ID
	case a.Pending != nil:
		check.State, check.Detail = Failed, "its certificate is not taken in: "+fault.Text(a.Pending)
		check.Remedy = "install another certificate of it"
	case !a.Offline && a.Stage != ca.Retired:
		check.State = Warning
		check.Detail = "it is not in the configuration: " +
			"no list and no responses are made for the certificates that it signed"
		check.Remedy = "put it back into the configuration"
	case trust.State != ca.Good:
		check.State, check.Detail, check.Since = Failed, trust.Why, trust.Since
		check.Remedy = "have it renewed, or replace it with what is below it"
	default:
		c.ends(&check, a, now)
	}
	return check
}

// Ends returns when each certificate of a CA ends.
func (c CAs) Ends() []End {
	var all []End
	for _, a := range c.Set().All() {
		if cert := a.Certificate(); cert != nil {
			all = append(all, End{"ca", a.ID, cert.NotAfter})
		}
	}
	return all
}
