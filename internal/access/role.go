package access

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
)

// Permission names what an operation needs; api declares it on each.
type Permission = api.Permission

// roles are the shipped sets of permissions. docs/access.md holds the same table.
var roles = map[string][]Permission{
	"admin": api.Permissions(),
	"operator": slices.Concat(reads, []Permission{
		api.CertIssue, api.CertRevoke, api.CRLPublish, api.CredentialCreate, api.CredentialDisable, api.ACMEEnd,
		api.TokenCreate,
	}),
	"approver": slices.Concat(reads, []Permission{api.RequestDecide}),
	"helpdesk": {
		api.CertRead, api.CertRevoke, api.CredentialRead, api.CredentialDisable, api.ACMERead, api.ACMEEnd,
		api.IssuerRead, api.StatusRead,
	},
	"requester": {api.CertRead, api.CertIssue, api.TokenCreate},
	"auditor":   slices.Concat(reads, []Permission{api.AuditRead, api.AccessRead, api.TokenCreate}),
}

// reads are what operators, approvers and auditors look at.
var reads = []Permission{
	api.CertRead, api.CRLRead, api.IssuerRead, api.CredentialRead, api.ACMERead, api.RequestRead, api.StatusRead,
}

// readsOf is what one has to read of an object to be told that a permission on it is
// missing, and not that there is no such object.
var readsOf = map[Permission]Permission{
	api.CertIssue: "", api.CertRevoke: api.CertRead, api.CRLPublish: api.CRLRead, api.IssuerManage: api.IssuerRead,
	api.CredentialDisable: api.CredentialRead, api.ACMEEnd: api.ACMERead, api.RequestDecide: api.RequestRead,
}

// notByToken are what a token never does, whoever owns it.
var notByToken = []Permission{
	api.AccessGrant, api.AccessRevoke, api.TokenCreate, api.SessionEnd, api.RequestDecide,
}

// freshLogin are the acts that need a login within loginAge.
var freshLogin = []Permission{api.AccessGrant, api.TokenCreate}

// Roles returns the shipped roles by name, with their permissions.
func Roles() map[string][]Permission { return maps.Clone(roles) }

// Rules are what the configuration adds to the records.
type Rules struct {
	// Roles are further roles, by name: the permissions of each.
	Roles map[string][]Permission `yaml:"roles,omitempty"`
	// Never are ceilings: what a subject may never do, whatever grants there are. They
	// do not hold for root and the server's own user at the socket.
	Never []Ceiling `yaml:"never,omitempty"`
}

// Ceiling is what a subject may never do.
type Ceiling struct {
	// Subject is a login, a person or a group, as grants name them; everybody if left out.
	Subject string `yaml:"subject,omitempty"`
	// Permissions are those that it never has.
	Permissions []Permission `yaml:"permissions"`
}

// Check reports what is wrong with the rules.
func (r Rules) Check() error {
	var all []error
	known := func(where string, ps []Permission) {
		if len(ps) == 0 {
			all = append(all, fmt.Errorf("%s: names no permission", where))
		}
		for _, p := range ps {
			if !slices.Contains(api.Permissions(), p) {
				all = append(all, fmt.Errorf("%s: there is no permission %q", where, string(p)))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Roles)) {
		if _, shipped := roles[name]; shipped || !roleName.MatchString(name) {
			all = append(all, fmt.Errorf("roles: %q: want lower-case letters, digits and hyphens, and no shipped role", name))
		}
		known("roles: "+name, r.Roles[name])
	}
	for i, c := range r.Never {
		if c.Subject != "" && checkSubject(c.Subject) != nil {
			all = append(all, fmt.Errorf("never[%d]: %w", i, checkSubject(c.Subject)))
		}
		known(fmt.Sprintf("never[%d]", i), c.Permissions)
	}
	return errors.Join(all...)
}

var roleName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Swap puts the rules of a configuration in force.
func (a *Access) Swap(r Rules) { a.rules.Store(&r) }

// permissions returns those of a role; none of a role that there is not any more.
func (a *Access) permissions(role string) []Permission {
	if own, ok := a.rules.Load().Roles[role]; ok {
		return own
	}
	return roles[role]
}

func (a *Access) holds(role string, p Permission) bool {
	return slices.Contains(a.permissions(role), p)
}

// checkRole refuses a role that there is not.
func (a *Access) checkRole(role string) error {
	if a.permissions(role) != nil {
		return nil
	}
	all := slices.Concat(slices.Collect(maps.Keys(roles)), slices.Collect(maps.Keys(a.rules.Load().Roles)))
	slices.Sort(all)
	return fault.New(fault.Malformed, "there is no role %q; there are: %s", role, strings.Join(all,
		", ")).Because("role")
}

// never reports whether a ceiling keeps a caller from something.
func (a *Access) never(c Caller, p Permission) bool {
	return slices.ContainsFunc(a.rules.Load().Never, func(n Ceiling) bool {
		return slices.Contains(n.Permissions, p) && (n.Subject == "" ||
			slices.Contains(c.subjects, n.Subject) || slices.Contains(c.barring, n.Subject))
	})
}
