package api

import "time"

// Requests that wait for an approval.
var (
	ListRequests = Operation[ListRequestsParams, None, ApprovalPage]{Declaration{
		Name: "ListRequests", Method: "GET", Path: "/v1/requests", Permission: RequestRead,
		Summary: "The requests that wait, or waited, for a person, newest first, page by page", Answer: "One page.",
	}}
	GetRequest = Operation[IDRef, None, ApprovalRequest]{Declaration{
		Name: "GetRequest", Method: "GET", Path: "/v1/requests/{id}", Permission: RequestRead,
		Summary: "A request and what would be signed for it now", Answer: "The request.",
	}}
	ApproveRequest = Operation[IDRef, None, ApprovalRequest]{Declaration{
		Name: "ApproveRequest", Method: "POST", Path: "/v1/requests/{id}/approve", Permission: RequestDecide,
		Summary: "Approve a pending request, which then gets its certificate",
		Answer:  "The request, issued unless that has to wait.",
	}}
	RejectRequest = Operation[IDRef, Rejection, ApprovalRequest]{Declaration{
		Name: "RejectRequest", Method: "POST", Path: "/v1/requests/{id}/reject", Permission: RequestDecide,
		Summary: "Reject a pending request for good; its client is told the reason", Answer: "The request.",
	}}
)

// ListRequestsParams select requests, page by page.
type ListRequestsParams struct {
	Status  RequestStatus `query:"status"`
	Profile string        `query:"profile"`
	PageParams
}

// RequestStatus is how far a request is.
type RequestStatus string

// The values of RequestStatus.
const (
	RequestPending  RequestStatus = "pending"
	RequestApproved RequestStatus = "approved"
	RequestIssued   RequestStatus = "issued"
	RequestRejected RequestStatus = "rejected"
	RequestExpired  RequestStatus = "expired"
)

// ApprovalRequest is a request that waits, or waited, for an approval.
type ApprovalRequest struct {
	Certificate string `json:"certificate,omitempty"` // The certificate's id once it is issued.
	// What would be signed is not what the request waits for approval of.
	Changed bool `json:"changed,omitempty"`
	// What is not as it was when the request came, such as a certificate by whose power it was asked and that was
	// revoked since.
	Changes   []string      `json:"changes,omitempty"`
	CreatedAt time.Time     `json:"created_at"`
	DecidedAt time.Time     `json:"decided_at,omitzero"`
	DecidedBy string        `json:"decided_by,omitempty"`
	Endpoint  string        `json:"endpoint,omitempty"`
	ExpiresAt time.Time     `json:"expires_at"`
	ID        string        `json:"id"`
	Identity  string        `json:"identity,omitempty"` // Who was authenticated.
	Issuer    string        `json:"issuer"`
	KeyHash   string        `json:"key_hash"` // SHA-256 of the SubjectPublicKeyInfo in hexadecimal.
	Names     []Identifier  `json:"names"`
	Preview   Verdict       `json:"preview,omitzero"`
	Profile   string        `json:"profile"`
	Protocol  string        `json:"protocol"` // acme, est, scep or operator.
	Reason    string        `json:"reason,omitempty"`
	RequestID string        `json:"request_id,omitempty"`
	Requester string        `json:"requester"`
	Status    RequestStatus `json:"status"`
	Subject   string        `json:"subject"`
	// What an approval binds to, SHA-256 in hexadecimal.
	TemplateDigest string `json:"template_digest,omitempty"`
	TransactionID  string `json:"transaction_id,omitempty"`
}

// ApprovalPage is one page of requests.
type ApprovalPage struct {
	Next     string            `json:"next,omitempty"` // The cursor of the next page; absent on the last.
	Requests []ApprovalRequest `json:"requests"`
}

// Rejection is why a request is refused.
type Rejection struct {
	Reason string `json:"reason"` // Told to the client; 500 bytes at most.
}
