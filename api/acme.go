package api

import "time"

// ACME accounts, their orders and authorizations.
var (
	ListACMEAccounts = Operation[ListACMEAccountsParams, None, ACMEAccountPage]{Declaration{
		Name: "ListACMEAccounts", Method: "GET", Path: "/v1/acme/accounts", Permission: ACMERead,
		Summary: "The ACME accounts, oldest first, page by page", Answer: "One page, without counts and certificates.",
	}}
	GetACMEAccount = Operation[IDRef, None, ACMEAccount]{Declaration{
		Name: "GetACMEAccount", Method: "GET", Path: "/v1/acme/accounts/{id}", Permission: ACMERead,
		Summary: "An ACME account; `account:` may stand before its id, as in the requester of a certificate",
		Answer:  "The account.",
	}}
	DeactivateACMEAccount = Operation[IDRef, DeactivateAccount, ACMEAccount]{Declaration{
		Name: "DeactivateACMEAccount", Method: "POST", Path: "/v1/acme/accounts/{id}/deactivate", Permission: ACMEEnd,
		Summary: "End an ACME account, its authorizations and its orders; its certificates stay",
		Answer:  "The account.", Repeat: "What has ended stays so.",
	}}
	ListACMEOrders = Operation[ListACMEOrdersParams, None, ACMEOrderPage]{Declaration{
		Name: "ListACMEOrders", Method: "GET", Path: "/v1/acme/orders", Permission: ACMERead,
		Summary: "The ACME orders that are on record, oldest first, page by page", Answer: "One page.",
	}}
	GetACMEOrder = Operation[IDRef, None, ACMEOrder]{Declaration{
		Name: "GetACMEOrder", Method: "GET", Path: "/v1/acme/orders/{id}", Permission: ACMERead,
		Summary: "An ACME order, and how its names were, or were not, proved", Answer: "The order.",
	}}
	ListACMEAuthorizations = Operation[ListACMEAuthorizationsParams, None, ACMEAuthorizationPage]{Declaration{
		Name: "ListACMEAuthorizations", Method: "GET", Path: "/v1/acme/authorizations", Permission: ACMERead,
		Summary: "The ACME authorizations that are on record, oldest first, page by page", Answer: "One page.",
	}}
	GetACMEAuthorization = Operation[IDRef, None, ACMEAuthorization]{Declaration{
		Name: "GetACMEAuthorization", Method: "GET", Path: "/v1/acme/authorizations/{id}", Permission: ACMERead,
		Summary: "An ACME authorization: what is expected, what was tried and what was found",
		Answer:  "The authorization.",
	}}
	DeactivateACMEAuthorization = Operation[IDRef, None, ACMEAuthorization]{Declaration{
		Name: "DeactivateACMEAuthorization", Method: "POST", Path: "/v1/acme/authorizations/{id}/deactivate",
		Permission: ACMEEnd, Summary: "End an ACME authorization and the orders that rest on it",
		Answer: "The authorization.", Repeat: "What has ended stays so.",
	}}
)

// ACMEFilter selects ACME accounts, or what belongs to them.
type ACMEFilter struct {
	Account  string `query:"account"`  // The account's id.
	Address  string `query:"address"`  // The address that the account was created from.
	EABKey   string `query:"eab_key"`  // The id of the EAB key that the account was bound with.
	Endpoint string `query:"endpoint"` // The ACME endpoint.
	// A name that was asked for: `www.example.test`, `*.example.test` (the wildcard itself), `192.0.2.1`. An account
	// is found as long as its authorization for the name is on record.
	Name string `query:"name"`
	PageParams
}

// ListACMEAccountsParams select accounts, page by page.
type ListACMEAccountsParams struct {
	Status ACMEAccountStatus `query:"status"`
	ACMEFilter
}

// ListACMEOrdersParams select orders, page by page.
type ListACMEOrdersParams struct {
	Status ACMEOrderStatus `query:"status"`
	ACMEFilter
}

// ListACMEAuthorizationsParams select authorizations, page by page.
type ListACMEAuthorizationsParams struct {
	Status ACMEAuthorizationStatus `query:"status"`
	ACMEFilter
}

// ACMEAccountStatus is valid, deactivated (by its client), or revoked (by an operator).
type ACMEAccountStatus string

// The values of ACMEAccountStatus.
const (
	AccountValid       ACMEAccountStatus = "valid"
	AccountDeactivated ACMEAccountStatus = "deactivated"
	AccountRevoked     ACMEAccountStatus = "revoked"
)

// ACMEOrderStatus is what an order is by now.
type ACMEOrderStatus string

// The values of ACMEOrderStatus.
const (
	OrderPending    ACMEOrderStatus = "pending"
	OrderReady      ACMEOrderStatus = "ready"
	OrderProcessing ACMEOrderStatus = "processing"
	OrderValid      ACMEOrderStatus = "valid"
	OrderInvalid    ACMEOrderStatus = "invalid"
)

// ACMEAuthorizationStatus is what an authorization is by now: deactivated by its client, revoked by an operator.
type ACMEAuthorizationStatus string

// The values of ACMEAuthorizationStatus.
const (
	AuthorizationPending     ACMEAuthorizationStatus = "pending"
	AuthorizationValid       ACMEAuthorizationStatus = "valid"
	AuthorizationInvalid     ACMEAuthorizationStatus = "invalid"
	AuthorizationDeactivated ACMEAuthorizationStatus = "deactivated"
	AuthorizationExpired     ACMEAuthorizationStatus = "expired"
	AuthorizationRevoked     ACMEAuthorizationStatus = "revoked"
)

// DeactivateAccount says how an account is ended.
type DeactivateAccount struct {
	// Put its key on the block list too: no account and no certificate can have it any more.
	BlockKey bool `json:"block_key,omitempty"`
}

// ACMEAccount is an ACME account.
type ACMEAccount struct {
	Authorizations ACMECounts        `json:"authorizations,omitzero"`
	Certificates   []Certificate     `json:"certificates,omitempty"` // The newest ten that it asked for.
	Contact        []string          `json:"contact"`
	CreatedAt      time.Time         `json:"created_at"`
	CreatedFrom    string            `json:"created_from"` // The client's address.
	EABKey         string            `json:"eab_key,omitempty"`
	Endpoint       string            `json:"endpoint"`
	ID             string            `json:"id"`
	KeyHash        string            `json:"key_hash"` // SHA-256 of the key's SubjectPublicKeyInfo in hexadecimal.
	Orders         ACMECounts        `json:"orders,omitzero"`
	Status         ACMEAccountStatus `json:"status"`
	Terms          string            `json:"terms,omitempty"` // The terms of service that it agreed to.
	TermsAgreedAt  time.Time         `json:"terms_agreed_at,omitzero"`
	Thumbprint     string            `json:"thumbprint"` // Of the key's JWK (RFC 7638), base64url.
}

// ACMEAccountPage is one page of accounts.
type ACMEAccountPage struct {
	Accounts []ACMEAccount `json:"accounts"`
	Next     string        `json:"next,omitempty"` // The cursor of the next page; absent on the last.
}

// ACMECounts counts orders or authorizations that are on record, by status.
type ACMECounts struct {
	Deactivated int `json:"deactivated,omitempty"`
	Expired     int `json:"expired,omitempty"`
	Invalid     int `json:"invalid,omitempty"`
	Pending     int `json:"pending,omitempty"`
	Processing  int `json:"processing,omitempty"`
	Ready       int `json:"ready,omitempty"`
	Revoked     int `json:"revoked,omitempty"`
	Valid       int `json:"valid,omitempty"`
}

// ACMEOrder is an ACME order.
type ACMEOrder struct {
	Account        string              `json:"account"`
	Authorizations []ACMEAuthorization `json:"authorizations"`
	Certificate    string              `json:"certificate,omitempty"` // The certificate's id.
	CreatedAt      time.Time           `json:"created_at"`
	Endpoint       string              `json:"endpoint"`
	ExpiresAt      time.Time           `json:"expires_at"`
	ID             string              `json:"id"`
	Names          []Identifier        `json:"names"`
	Node           string              `json:"node,omitempty"` // That finalizes it, or did.
	NotAfter       time.Time           `json:"not_after,omitzero"`
	NotBefore      time.Time           `json:"not_before,omitzero"`
	Problem        ACMEProblem         `json:"problem,omitzero"` // Why it is invalid.
	ProcessingAt   time.Time           `json:"processing_at,omitzero"`
	Profile        string              `json:"profile"`
	Replaces       string              `json:"replaces,omitempty"` // The certificate that it renews (RFC 9773).
	Status         ACMEOrderStatus     `json:"status"`
	Waiting        bool                `json:"waiting,omitempty"` // It was put before a person.
}

// ACMEOrderPage is one page of orders.
type ACMEOrderPage struct {
	Next   string      `json:"next,omitempty"` // The cursor of the next page; absent on the last.
	Orders []ACMEOrder `json:"orders"`
}

// ACMEAuthorization is an account's right to a name, proved or to be proved.
type ACMEAuthorization struct {
	Account string `json:"account"`
	// The challenge that was attempted. Of one that waits for its client, and is asked for by its id: all that there
	// are.
	Challenges []ACMEChallenge         `json:"challenges"`
	CreatedAt  time.Time               `json:"created_at"`
	ExpiresAt  time.Time               `json:"expires_at"`
	ID         string                  `json:"id"`
	Name       Identifier              `json:"name"`
	Status     ACMEAuthorizationStatus `json:"status"`
}

// ACMEAuthorizationPage is one page of authorizations.
type ACMEAuthorizationPage struct {
	Authorizations []ACMEAuthorization `json:"authorizations"`
	Next           string              `json:"next,omitempty"` // The cursor of the next page; absent on the last.
}

// ACMEChallenge is a challenge, and what became of it.
type ACMEChallenge struct {
	Attempted bool `json:"attempted"`          // The client has asked for it.
	Attempts  int  `json:"attempts,omitempty"` // Those that failed and were to be repeated.
	// What was looked for: the body (http-01), the TXT record (dns-01), the DER of the certificate's acmeIdentifier
	// extension in hexadecimal (tls-alpn-01).
	Expected string `json:"expected"`
	// Where: the first URL (http-01), the name in the DNS (dns-01), the server name of TLS (tls-alpn-01).
	ExpectedAt    string      `json:"expected_at"`
	NextAttemptAt time.Time   `json:"next_attempt_at,omitzero"`
	Problem       ACMEProblem `json:"problem,omitzero"` // Of the last attempt, as its client reads it.
	Record        ACMERecord  `json:"record,omitzero"`
	Type          string      `json:"type"` // http-01, dns-01 or tls-alpn-01.
	ValidatedAt   time.Time   `json:"validated_at,omitzero"`
}

// ACMERecord is how the last attempt went.
type ACMERecord struct {
	At   time.Time `json:"at"`
	CAA  string    `json:"caa,omitempty"`  // skipped, none, or the name whose records were used.
	Hops []ACMEHop `json:"hops,omitempty"` // The connections; more than one after redirects.
	TXT  string    `json:"txt,omitempty"`  // dns-01: the name asked, CNAMEs followed.
}

// ACMEHop is one connection of an attempt.
type ACMEHop struct {
	Refused  []string `json:"refused,omitempty"`  // Addresses that are not to be dialled.
	Resolved []string `json:"resolved,omitempty"` // The addresses of the name.
	Tried    []string `json:"tried,omitempty"`    // Those dialled, in this order.
	URL      string   `json:"url"`
	Used     string   `json:"used,omitempty"` // That which answered.
}

// ACMEProblem is a problem that a client of ACME reads in its order or challenge.
type ACMEProblem struct {
	Detail      string           `json:"detail,omitempty"`
	Reason      string           `json:"reason,omitempty"` // A stable code, such as wrong_txt.
	Subproblems []ACMESubproblem `json:"subproblems,omitempty"`
	Type        string           `json:"type,omitempty"` // A URN of RFC 8555; absent where the answer makes it.
}

// ACMESubproblem is what is wrong with one name.
type ACMESubproblem struct {
	Detail     string     `json:"detail,omitempty"`
	Identifier Identifier `json:"identifier,omitzero"`
	Reason     string     `json:"reason,omitempty"`
	Type       string     `json:"type,omitempty"`
}
