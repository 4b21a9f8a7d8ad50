package api

import "time"

// Credentials of clients: EAB keys, EST users, SCEP challenges.
var (
	CreateEABKey = Operation[None, NewEABKey, EABKeySecret]{Declaration{
		Name: "CreateEABKey", Method: "POST", Path: "/v1/eab/keys", Permission: CredentialCreate,
		Summary: "Make an EAB key for ACME clients; the HMAC key is shown once", Answer: "The key with its secret.",
		Status: 201,
	}}
	ListEABKeys = Operation[PageParams, None, EABKeyPage]{Declaration{
		Name: "ListEABKeys", Method: "GET", Path: "/v1/eab/keys", Permission: CredentialRead,
		Summary: "The EAB keys, without their secrets, page by page", Answer: "One page.",
	}}
	DisableEABKey = Operation[EABKeyRef, None, EABKey]{Declaration{
		Name: "DisableEABKey", Method: "POST", Path: "/v1/eab/keys/{kid}/disable", Permission: CredentialDisable,
		Summary: "Disable an EAB key; accounts that it made stay, unless they are to end too", Answer: "The key.",
		Repeat: "What is disabled stays so.", Time: longTime,
	}}
	CreateESTUser = Operation[None, NewESTUser, ESTUserSecret]{Declaration{
		Name: "CreateESTUser", Method: "POST", Path: "/v1/est/users", Permission: CredentialCreate,
		Summary: "Make a user for EST; the password is shown once", Answer: "The user with its password.", Status: 201,
	}}
	ListESTUsers = Operation[PageParams, None, ESTUserPage]{Declaration{
		Name: "ListESTUsers", Method: "GET", Path: "/v1/est/users", Permission: CredentialRead,
		Summary: "The EST users, without their passwords, page by page", Answer: "One page.",
	}}
	DisableESTUser = Operation[ESTUserRef, None, ESTUser]{Declaration{
		Name: "DisableESTUser", Method: "POST", Path: "/v1/est/users/{name}/disable", Permission: CredentialDisable,
		Summary: "Disable an EST user; its certificates stay", Answer: "The user.",
		Repeat: "What is disabled stays so.",
	}}
	CreateSCEPChallenge = Operation[None, NewSCEPChallenge, SCEPChallengeSecret]{Declaration{
		Name: "CreateSCEPChallenge", Method: "POST", Path: "/v1/scep/challenges", Permission: CredentialCreate,
		Summary: "Make a challenge password for SCEP; it is shown once", Answer: "The challenge with its secret.",
		Status: 201,
	}}
	ListSCEPChallenges = Operation[PageParams, None, SCEPChallengePage]{Declaration{
		Name: "ListSCEPChallenges", Method: "GET", Path: "/v1/scep/challenges", Permission: CredentialRead,
		Summary: "The SCEP challenges, without their secrets, page by page", Answer: "One page.",
	}}
	DisableSCEPChallenge = Operation[IDRef, None, SCEPChallenge]{Declaration{
		Name: "DisableSCEPChallenge", Method: "POST", Path: "/v1/scep/challenges/{id}/disable",
		Permission: CredentialDisable,
		Summary:    "Disable a SCEP challenge; certificates that it was used for stay", Answer: "The challenge.",
		Repeat: "What is disabled stays so.",
	}}
)

// PageParams say which page of a list is wanted.
type PageParams struct {
	Cursor string `query:"cursor"`                                // The `next` of the page before.
	Limit  int    `query:"limit" schema:"minimum=1,maximum=1000"` // Entries in a page; 100 when unsaid.
}

// EABKeyRef names an EAB key.
type EABKeyRef struct {
	KID      string      `path:"kid"`
	Accounts EABAccounts `query:"accounts"` // What becomes of the accounts that it made; keep when unsaid.
}

// EABAccounts is what becomes of the accounts of a disabled EAB key: keep leaves them, revoke ends them.
type EABAccounts string

// The values of EABAccounts.
const (
	KeepAccounts   EABAccounts = "keep"
	RevokeAccounts EABAccounts = "revoke"
)

// ESTUserRef names a user for EST.
type ESTUserRef struct {
	Name string `path:"name"`
}

// IDRef names something by its id.
type IDRef struct {
	ID string `path:"id"`
}

// NewEABKey asks for an EAB key.
type NewEABKey struct {
	AnyName     bool      `json:"any_name,omitempty"` // Its accounts may order any name.
	Description string    `json:"description,omitempty"`
	Endpoint    string    `json:"endpoint,omitempty"` // The ACME endpoint it is good for; any when unsaid.
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	// Accounts that it may make; 1 when unsaid, 0 is without limit.
	MaxUses *int `json:"max_uses,omitempty" schema:"minimum=0"`
	// Names its accounts may order. `example.test` is that name, `*.example.test` every name below it,
	// `10.0.0.0/8` addresses. It needs names, a subject or any_name.
	Names    []string `json:"names,omitempty"`
	Profiles []string `json:"profiles,omitempty"` // Profiles its accounts may use; any when empty.
	// The only subject it is good for, written as RFC 4514 says; * is any value of an attribute.
	Subject string `json:"subject,omitempty"`
}

// EABKey is an EAB key without its secret.
type EABKey struct {
	// Accounts that this call has ended.
	AccountsRevoked int       `json:"accounts_revoked,omitempty"`
	AnyName         bool      `json:"any_name,omitempty"`
	CreatedAt       time.Time `json:"created_at"`
	CreatedBy       string    `json:"created_by"`
	Description     string    `json:"description,omitempty"`
	DisabledAt      time.Time `json:"disabled_at,omitzero"`
	Endpoint        string    `json:"endpoint,omitempty"`
	ExpiresAt       time.Time `json:"expires_at,omitzero"`
	KID             string    `json:"kid"`
	MaxUses         int       `json:"max_uses"`
	Names           []string  `json:"names"`
	Profiles        []string  `json:"profiles"`
	Status          string    `json:"status"` // active, used_up, expired or disabled.
	Subject         string    `json:"subject,omitempty"`
	// Made before credentials had bindings: its accounts may order any name without that anybody said so.
	Unbound bool `json:"unbound,omitempty"`
	Uses    int  `json:"uses"`
}

// EABKeySecret is a new EAB key with its secret.
type EABKeySecret struct {
	HMAC string `json:"hmac"` // The HMAC key, base64url without padding. It cannot be shown again.
	Key  EABKey `json:"key"`
	KID  string `json:"kid"`
}

// EABKeyPage is one page of EAB keys.
type EABKeyPage struct {
	Keys []EABKey `json:"keys"`
	Next string   `json:"next,omitempty"`
}

// NewESTUser asks for a user for EST.
type NewESTUser struct {
	// It is good for any alternative name, and any subject unless there is one.
	AnyName     bool      `json:"any_name,omitempty"`
	Description string    `json:"description,omitempty"`
	Endpoint    string    `json:"endpoint,omitempty"` // The EST endpoint it is good for; any when unsaid.
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	// Certificates that it may have; 1 when unsaid, 0 is without limit.
	MaxUses *int   `json:"max_uses,omitempty" schema:"minimum=0"`
	Name    string `json:"name"`
	// Names it is good for: `example.test`, `*.example.test` (every name below), `10.0.0.0/8`, `a@example.test`,
	// `spiffe://example.test/*`, `upn:a@example.test`, `CN=*,O=Example`. It needs names, a subject or any_name.
	Names   []string `json:"names,omitempty"`
	Profile string   `json:"profile,omitempty"` // The profile it may use; any when unsaid.
	// The only subject it is good for, written as RFC 4514 says; * is any value of an attribute.
	Subject string `json:"subject,omitempty"`
}

// ESTUser is a user for EST without the password.
type ESTUser struct {
	AnyName     bool      `json:"any_name,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	CreatedBy   string    `json:"created_by"`
	Description string    `json:"description,omitempty"`
	DisabledAt  time.Time `json:"disabled_at,omitzero"`
	Endpoint    string    `json:"endpoint,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	MaxUses     int       `json:"max_uses"`
	Name        string    `json:"name"`
	Names       []string  `json:"names,omitempty"`
	Profile     string    `json:"profile,omitempty"`
	Status      string    `json:"status"` // active, used_up, expired or disabled.
	Subject     string    `json:"subject,omitempty"`
	// Made before credentials had bindings: it is good for any name without that anybody said so.
	Unbound bool `json:"unbound,omitempty"`
	Uses    int  `json:"uses"`
}

// ESTUserSecret is a new user for EST with the password.
type ESTUserSecret struct {
	Name     string  `json:"name"`
	Password string  `json:"password"` // Shown in this answer and never again.
	User     ESTUser `json:"user"`
}

// ESTUserPage is one page of EST users.
type ESTUserPage struct {
	Next  string    `json:"next,omitempty"`
	Users []ESTUser `json:"users"`
}

// NewSCEPChallenge asks for a challenge password for SCEP.
type NewSCEPChallenge struct {
	// It is good for any alternative name, and any subject unless there is one.
	AnyName     bool      `json:"any_name,omitempty"`
	Description string    `json:"description,omitempty"`
	Endpoint    string    `json:"endpoint,omitempty"` // The SCEP endpoint it is good for; any when unsaid.
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	// Certificates that it is good for; 1 when unsaid, 0 is without limit.
	MaxUses *int `json:"max_uses,omitempty" schema:"minimum=0"`
	// Names it is good for: `example.test`, `*.example.test` (every name below), `10.0.0.0/8`, `a@example.test`,
	// `spiffe://example.test/*`, `upn:a@example.test`, `CN=*,O=Example`. It needs names, a subject or any_name.
	Names   []string `json:"names,omitempty"`
	Profile string   `json:"profile,omitempty"` // The profile it may use; any when unsaid.
	// The only subject it is good for, written as RFC 4514 says; * is any value of an attribute.
	Subject string `json:"subject,omitempty"`
}

// SCEPChallenge is a challenge password for SCEP without the secret.
type SCEPChallenge struct {
	AnyName     bool      `json:"any_name,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	CreatedBy   string    `json:"created_by"`
	Description string    `json:"description,omitempty"`
	DisabledAt  time.Time `json:"disabled_at,omitzero"`
	Endpoint    string    `json:"endpoint,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	ID          string    `json:"id"`
	MaxUses     int       `json:"max_uses"`
	Names       []string  `json:"names,omitempty"`
	Profile     string    `json:"profile,omitempty"`
	Status      string    `json:"status"` // active, used_up, expired or disabled.
	Subject     string    `json:"subject,omitempty"`
	// Made before credentials had bindings: it is good for any name without that anybody said so.
	Unbound bool `json:"unbound,omitempty"`
	Uses    int  `json:"uses"`
}

// SCEPChallengeSecret is a new SCEP challenge with the secret.
type SCEPChallengeSecret struct {
	Challenge SCEPChallenge `json:"challenge"`
	ID        string        `json:"id"`
	Secret    string        `json:"secret"` // Shown in this answer and never again.
}

// SCEPChallengePage is one page of SCEP challenges.
type SCEPChallengePage struct {
	Challenges []SCEPChallenge `json:"challenges"`
	Next       string          `json:"next,omitempty"`
}
