package api

import "time"

// Access: who may do what.
var (
	WhoAmI = Operation[None, None, Identity]{Declaration{
		Name: "WhoAmI", Method: "GET", Path: "/v1/whoami", Permission: SelfRead,
		Summary: "Who asks, and by which grants", Answer: "The caller.",
	}}
	CanAccess = Operation[CanParams, None, CanAnswer]{Declaration{
		Name: "CanAccess", Method: "GET", Path: "/v1/access/can", Permission: AccessRead,
		Summary: "May a subject do something to an object, and by which grant", Answer: "The decision.",
		Description: "The answer comes from what decides on operations. Without an object it is about the whole server.",
	}}
	ListAccess = Operation[None, None, AccessRecords]{Declaration{
		Name: "ListAccess", Method: "GET", Path: "/v1/access", Permission: AccessRead,
		Summary: "People, logins, grants, blocks, sessions and tokens, without their secrets", Answer: "All of them.",
	}}
	CreateGrant = Operation[None, NewGrant, Grant]{Declaration{
		Name: "CreateGrant", Method: "POST", Path: "/v1/access/grants", Permission: AccessGrant,
		Summary: "Give a subject a role within a scope", Answer: "The grant.", Status: 201,
		Description: "Nobody gives more than one grant of their own holds.",
	}}
	RevokeGrant = Operation[IDRef, None, Grant]{Declaration{
		Name: "RevokeGrant", Method: "POST", Path: "/v1/access/grants/{id}/revoke", Permission: AccessRevoke,
		Summary: "Take a grant away", Answer: "The grant, which is no more.",
	}}
	CreateBlock = Operation[None, NewBlock, Block]{Declaration{
		Name: "CreateBlock", Method: "POST", Path: "/v1/access/blocks", Permission: AccessRevoke,
		Summary: "Keep a subject out, whatever grants it has", Answer: "The block.",
		Repeat: "The newer block stands.",
	}}
	RemoveBlock = Operation[None, SubjectRef, None]{Declaration{
		Name: "RemoveBlock", Method: "POST", Path: "/v1/access/blocks/remove", Permission: AccessGrant,
		Summary: "Take a block away", Answer: "It is away.",
	}}
	LinkLogin = Operation[None, NewLink, Person]{Declaration{
		Name: "LinkLogin", Method: "POST", Path: "/v1/access/logins", Permission: AccessGrant,
		Summary: "Say that a login belongs to a person, whom it makes if none is named", Answer: "The person.",
		Repeat: "With a person, the login belongs to them already.",
	}}
	OffboardPerson = Operation[IDRef, Offboarding, Offboarded]{Declaration{
		Name: "OffboardPerson", Method: "POST", Path: "/v1/access/people/{id}/offboard", Permission: AccessRevoke,
		Summary: "End all that a person holds, in one act, and block them",
		Description: "Ends grants, sessions and tokens of the person and of each login, and blocks the person for good. " +
			"Credentials that they made go on: their lists say who made each.",
		Answer: "What ended, or would.", Repeat: "What has ended stays so.",
	}}
	EndSession = Operation[IDRef, None, None]{Declaration{
		Name: "EndSession", Method: "POST", Path: "/v1/access/sessions/{id}/end", Permission: SessionEnd,
		Summary: "End a session", Answer: "It is over.",
	}}
	CreateToken = Operation[None, NewToken, TokenSecret]{Declaration{
		Name: "CreateToken", Method: "POST", Path: "/v1/access/tokens", Permission: TokenCreate,
		Summary:     "Make a token, one's own or a service's; the secret is shown once",
		Answer:      "The token with its secret.",
		Description: "A token never holds more than its owner does at the moment of use.", Status: 201,
	}}
	RevokeToken = Operation[IDRef, None, None]{Declaration{
		Name: "RevokeToken", Method: "POST", Path: "/v1/access/tokens/{id}/revoke", Permission: TokenRevoke,
		Summary: "End a token", Answer: "It is over.",
	}}
	AcceptAccess = Operation[None, Acceptance, AcceptedAccess]{Declaration{
		Name: "AcceptAccess", Method: "POST", Path: "/v1/access/accept", Permission: AccessAccept, Local: true,
		Summary: "Take the records of access as they are, for a reason that stays in the audit record",
		Description: "For records that do not agree with their witnesses. Look at the list first: what was put back " +
			"stays. A record whose own authenticator does not hold is removed.",
		Answer: "What was removed.",
	}}
)

// Scope bounds a grant or a token: what is left out means any, and a scope without bounds says all.
type Scope struct {
	All       bool     `json:"all,omitempty"`
	CAs       []string `json:"cas,omitempty"` // Ids; each means the CA and all below it.
	Endpoints []string `json:"endpoints,omitempty"`
	Names     []string `json:"names,omitempty"` // Patterns, as of EAB keys.
	Pools     []string `json:"pools,omitempty"`
	Profiles  []string `json:"profiles,omitempty"`
}

// NewGrant asks for a grant.
type NewGrant struct {
	Reason  string    `json:"reason"`            // Why; it stays in the audit record.
	Reasons []string  `json:"reasons,omitempty"` // Of revocation that it allows; any when unsaid.
	Role    string    `json:"role"`
	Scope   Scope     `json:"scope"`
	Subject string    `json:"subject"` // As uid:1000, oidc:ISSUER#SUB, certificate:ANCHOR#ID, person:ID, group:ISSUER#ID.
	Until   time.Time `json:"until,omitzero"`
}

// Grant gives a role within a scope to a subject.
type Grant struct {
	At      time.Time `json:"at,omitzero"`
	By      string    `json:"by"`
	ID      string    `json:"id"`
	Reason  string    `json:"reason"`
	Reasons []string  `json:"reasons,omitempty"`
	Role    string    `json:"role"`
	Scope   Scope     `json:"scope"`
	Subject string    `json:"subject"`
	Until   time.Time `json:"until,omitzero"`
}

// NewBlock asks for a block.
type NewBlock struct {
	Reason  string    `json:"reason"`
	Subject string    `json:"subject"`
	Until   time.Time `json:"until,omitzero"` // For good when unsaid.
}

// Block keeps a subject out.
type Block struct {
	At      time.Time `json:"at,omitzero"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	Subject string    `json:"subject"`
	Until   time.Time `json:"until,omitzero"`
}

// SubjectRef names a subject.
type SubjectRef struct {
	Subject string `json:"subject"`
}

// NewLink says whose a login is.
type NewLink struct {
	Name    string `json:"name,omitempty"`   // Of a new person.
	Person  string `json:"person,omitempty"` // Id of one that there is.
	Subject string `json:"subject"`          // Of the login.
}

// Person is somebody with logins.
type Person struct {
	ID     string   `json:"id"`
	Logins []string `json:"logins"`
	Name   string   `json:"name"`
}

// Offboarding ends what a person holds.
type Offboarding struct {
	DryRun bool   `json:"dry_run,omitempty"` // Only look.
	Reason string `json:"reason"`
}

// Offboarded is what ended with a person, by id.
type Offboarded struct {
	Grants   []string `json:"grants"`
	Logins   []string `json:"logins"` // They stay linked, and blocked.
	Sessions []string `json:"sessions"`
	Tokens   []string `json:"tokens"`
}

// NewToken asks for a token.
type NewToken struct {
	ExpiresAt time.Time `json:"expires_at"`         // Within 366 days.
	Networks  []string  `json:"networks,omitempty"` // It may be used from; any when unsaid.
	Role      string    `json:"role"`               // The most that it may do.
	Scope     Scope     `json:"scope"`
	Service   string    `json:"service,omitempty"` // Whose token it is; the caller's own when unsaid.
}

// Token is a token without its secret.
type Token struct {
	ExpiresAt time.Time `json:"expires_at"`
	ID        string    `json:"id"`
	Networks  []string  `json:"networks,omitempty"`
	Owner     string    `json:"owner"`
	Role      string    `json:"role"`
	Scope     Scope     `json:"scope"`
	Service   string    `json:"service,omitempty"`
}

// TokenSecret is a new token with its secret, which is never shown again.
type TokenSecret struct {
	Secret string `json:"secret"`
	Token  Token  `json:"token"`
}

// Session is a login that lasts for a while.
type Session struct {
	ExpiresAt time.Time `json:"expires_at"`
	From      string    `json:"from"` // Address that it was opened from.
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"` // As the provider or the certificate has it.
	StartedAt time.Time `json:"started_at"`
	Subject   string    `json:"subject"`
}

// AccessRecords are all records of access.
type AccessRecords struct {
	Blocks   []Block   `json:"blocks"`
	Doubt    []string  `json:"doubt,omitempty"` // What does not agree with its witnesses; then nothing is granted.
	Grants   []Grant   `json:"grants"`
	People   []Person  `json:"people"`
	Sessions []Session `json:"sessions"`
	Tokens   []Token   `json:"tokens"`
}

// Identity is who asks.
type Identity struct {
	Caller   string   `json:"caller"` // As the audit record names them.
	Grants   []Grant  `json:"grants"`
	Local    bool     `json:"local"` // An administrator of the socket, whatever grants there are.
	Person   string   `json:"person,omitempty"`
	Subjects []string `json:"subjects"` // That grants may name; of a token those of its owner.
	// Token is the token that the caller shows: its role and scope bound what the
	// owner's grants give.
	Token *Token `json:"token,omitempty"`
}

// CanParams ask for a decision.
type CanParams struct {
	Endpoint   string `query:"endpoint"`
	Issuer     string `query:"issuer"`     // A CA or a pool.
	Name       string `query:"name"`       // A DNS name.
	Permission string `query:"permission"` // Has to be said, as the subject.
	Profile    string `query:"profile"`
	Subject    string `query:"subject"`
}

// CanAnswer is a decision.
type CanAnswer struct {
	Allowed bool   `json:"allowed"`
	By      string `json:"by,omitempty"`  // The grant.
	Why     string `json:"why,omitempty"` // Not.
}

// Acceptance says why.
type Acceptance struct {
	Reason string `json:"reason"`
}

// AcceptedAccess is what became of the records.
type AcceptedAccess struct {
	Kept    int      `json:"kept"`
	Removed []string `json:"removed"`
}
