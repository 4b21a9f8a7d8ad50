package access

import (
	"maps"
	"slices"

	"github.com/privyseal/privyseal/api"
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

// Roles returns the names of the roles, sorted, with their permissions.
func Roles() map[string][]Permission { return maps.Clone(roles) }

func holds(role string, p Permission) bool { return slices.Contains(roles[role], p) }
