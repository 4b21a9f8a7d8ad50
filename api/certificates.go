package api

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// Certificates: issue and find.
var (
	IssueCertificate = Operation[None, IssueRequest, IssueAnswer]{Declaration{
		Name: "IssueCertificate", Method: "POST", Path: "/v1/certificates", Permission: CertIssue,
		Summary: "Issue a certificate, or say whether it would be issued",
	}}
	ListCertificates = Operation[ListCertificatesParams, None, CertificatePage]{Declaration{
		Name: "ListCertificates", Method: "GET", Path: "/v1/certificates", Permission: CertRead,
		Summary: "Search the inventory, newest first, page by page", Answer: "One page.",
	}}
	ExportCertificates = Operation[ExportCertificatesParams, None, Stream]{Declaration{
		Name: "ExportCertificates", Method: "GET", Path: "/v1/certificates/export", Permission: CertRead,
		Summary: "Stream every match as CSV, JSON lines or PEM",
		Answer: "The export. An export that fails half-way breaks the connection off,\n" +
			"so that a short answer is never taken for the whole.",
		Types: []string{"text/csv", "application/jsonl", "application/x-pem-file"}, Line: Certificate{},
	}}
	GetCertificate = Operation[CertificateRef, None, Certificate]{Declaration{
		Name: "GetCertificate", Method: "GET", Path: "/v1/certificates/{certificate}", Permission: CertRead,
		Summary: "One certificate with its history", Answer: "The certificate.",
	}}
	GetCertificatePEM = Operation[CertificateRef, None, Stream]{Declaration{
		Name: "GetCertificatePEM", Method: "GET", Path: "/v1/certificates/{certificate}/pem", Permission: CertRead,
		Summary: "The certificate and its chain as PEM, leaf first, root omitted", Answer: "The chain.",
		Types: []string{"application/pem-certificate-chain"},
	}}
	IssueBatch = Operation[BatchRef, BatchPage, BatchResults]{Declaration{
		Name: "IssueBatch", Method: "POST", Path: "/v1/batches/{batch}", Permission: CertIssue,
		Summary: "Issue the certificates of one page of a batch", Answer: "What became of each request.",
		Description: "The same request in a batch of the same name, by the same operator, within 30 days gets the " +
			"certificate that it has: a batch that broke off is sent again and issues nothing twice. " +
			"Results come in the order of the requests.",
		Repeat: "The name of the batch, the operator and the request are the key; it is kept for 30 days.",
	}}
)

// CertificateFilter selects certificates: those for which all holds that is set.
type CertificateFilter struct {
	// Part of a subject alternative name or of the subject; `*.example.test` matches names that end so.
	Name      string            `query:"name"`
	Serial    string            `query:"serial"` // The serial in hexadecimal, colons allowed.
	Profile   string            `query:"profile"`
	Issuer    string            `query:"issuer"` // The issuer's id.
	Status    CertificateStatus `query:"status"`
	Requester string            `query:"requester"` // Who asked for it, such as `account:ID` or `uid:0`.
	// SHA-256 of the SubjectPublicKeyInfo in hexadecimal, as in `key_hash`.
	Key           string    `query:"key"`
	ExpiresAfter  time.Time `query:"expires_after"`
	ExpiresBefore time.Time `query:"expires_before"`
}

// ListCertificatesParams select certificates, page by page.
type ListCertificatesParams struct {
	CertificateFilter
	PageParams
}

// ExportCertificatesParams select certificates for an export.
type ExportCertificatesParams struct {
	// csv, jsonl (one certificate object a line) or pem (certificates without their chains).
	Format ExportFormat `query:"format,required"`
	CertificateFilter
}

// CertificateRef names a certificate.
type CertificateRef struct {
	// The certificate's id, or its serial in hexadecimal. A serial that two issuers have used needs the query
	// parameter issuer.
	Certificate string `path:"certificate"`
	Issuer      string `query:"issuer"` // The issuer's id.
}

// BatchRef names a batch.
type BatchRef struct {
	Batch string `path:"batch"` // Names the batch; letters, digits and `. _ -`, 128 at most.
}

// CertificateStatus is one of reserved (its signature is under way), issued, abandoned (certainly
// never signed), void (perhaps signed, never handed out, revoked), imported, or revoked
// (was issued or imported).
type CertificateStatus string

// The values of CertificateStatus.
const (
	StatusReserved  CertificateStatus = "reserved"
	StatusIssued    CertificateStatus = "issued"
	StatusAbandoned CertificateStatus = "abandoned"
	StatusVoid      CertificateStatus = "void"
	StatusImported  CertificateStatus = "imported"
	StatusRevoked   CertificateStatus = "revoked"
)

// Valid reports whether s is one of the values.
func (s CertificateStatus) Valid() bool {
	return slices.Contains([]CertificateStatus{
		StatusReserved, StatusIssued, StatusAbandoned, StatusVoid, StatusImported, StatusRevoked,
	}, s)
}

// ExportFormat is the form of an export.
type ExportFormat string

// The values of ExportFormat.
const (
	FormatCSV   ExportFormat = "csv"
	FormatJSONL ExportFormat = "jsonl"
	FormatPEM   ExportFormat = "pem"
)

// Decision is whether a request would be issued, refused, or wait for a person's approval.
type Decision string

// The values of Decision.
const (
	DecisionIssue    Decision = "issue"
	DecisionRefuse   Decision = "refuse"
	DecisionApproval Decision = "approval"
)

// IssueRequest asks for a certificate.
type IssueRequest struct {
	CSR    string `json:"csr"`               // A PKCS#10 request in PEM.
	DryRun bool   `json:"dry_run,omitempty"` // Give the verdict and the template; sign and store nothing.
	Issuer string `json:"issuer,omitempty"`  // The issuer or pool; needed only where there are several.
	// Replaces the request's subject alternative names; further extensions that it asks for are then left out.
	Names     []Identifier `json:"names,omitempty"`
	NotAfter  time.Time    `json:"not_after,omitzero"`
	NotBefore time.Time    `json:"not_before,omitzero"`
	Profile   string       `json:"profile"`           // The rules to issue under.
	Subject   string       `json:"subject,omitempty"` // Replaces the request's subject, written as RFC 4514 says.
}

// IssueAnswer is a verdict or a certificate.
type IssueAnswer struct {
	Verdict     *Verdict           `status:"200"` // The verdict of a dry run. Nothing was signed or stored.
	Certificate *IssuedCertificate `status:"201"` // The certificate, issued and on record.
}

// Certificate is a certificate as it is on record.
type Certificate struct {
	Endpoint       string            `json:"endpoint,omitempty"`
	Fingerprint    string            `json:"fingerprint,omitempty"` // SHA-256 of the certificate in hexadecimal.
	ID             string            `json:"id"`
	IssuedAt       time.Time         `json:"issued_at,omitzero"`
	Issuer         string            `json:"issuer"`
	KeyHash        string            `json:"key_hash"` // SHA-256 of the SubjectPublicKeyInfo in hexadecimal.
	Names          []Identifier      `json:"names"`
	NotAfter       time.Time         `json:"not_after"`
	NotBefore      time.Time         `json:"not_before"`
	Profile        string            `json:"profile"`
	ProfileVersion string            `json:"profile_version"`
	Protocol       string            `json:"protocol"` // acme, est, scep, operator or server.
	RequestID      string            `json:"request_id,omitempty"`
	Requester      string            `json:"requester"`
	ReservedAt     time.Time         `json:"reserved_at"`
	Revocation     Revocation        `json:"revocation,omitzero"`
	Serial         string            `json:"serial"` // Hexadecimal.
	Status         CertificateStatus `json:"status"`
	Subject        string            `json:"subject"`
}

// IssuedCertificate is a new certificate with its chain.
type IssuedCertificate struct {
	Chain       string    `json:"chain"`       // PEM, leaf first, root omitted.
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate in hexadecimal.
	ID          string    `json:"id"`
	Issuer      string    `json:"issuer"`
	NotAfter    time.Time `json:"not_after"`
	NotBefore   time.Time `json:"not_before"`
	Profile     string    `json:"profile"`
	Serial      string    `json:"serial"`
}

// CertificatePage is one page of the inventory.
type CertificatePage struct {
	Certificates []Certificate `json:"certificates"`
	Next         string        `json:"next,omitempty"` // The cursor of the next page; absent on the last.
}

// Revocation is how a certificate was revoked.
type Revocation struct {
	InvalidityAt time.Time `json:"invalidity_at,omitzero"`
	Reason       string    `json:"reason"` // A CRLReason of RFC 5280, such as keyCompromise.
	Requester    string    `json:"requester,omitempty"`
	RevokedAt    time.Time `json:"revoked_at"`
}

// Verdict is whether a request would be issued, and what.
type Verdict struct {
	Detail      string       `json:"detail,omitempty"`
	Kind        string       `json:"kind,omitempty"`   // The class of the refusal, such as rejected_identifier.
	Reason      string       `json:"reason,omitempty"` // The stable code of the refusal, such as path_length.
	Subproblems []Subproblem `json:"subproblems,omitempty"`
	Template    Template     `json:"template,omitzero"`
	Verdict     Decision     `json:"verdict"`
}

// Template is what would be signed, except the serial.
type Template struct {
	CA             bool         `json:"ca"`
	ExtKeyUsage    []string     `json:"ext_key_usage"`
	Extensions     []string     `json:"extensions,omitempty"` // OIDs of further extensions.
	Issuer         string       `json:"issuer,omitempty"`
	KeyAlgorithm   string       `json:"key_algorithm"`
	KeyUsage       []string     `json:"key_usage"`
	MaxPathLen     *int         `json:"max_path_len,omitempty"`
	Names          []Identifier `json:"names"`
	NotAfter       time.Time    `json:"not_after"`
	NotBefore      time.Time    `json:"not_before"`
	Policies       []string     `json:"policies,omitempty"`
	Profile        string       `json:"profile"`
	ProfileVersion string       `json:"profile_version"`
	Subject        string       `json:"subject"`
}

// BatchPage is one page of a batch.
type BatchPage struct {
	Issuer   string         `json:"issuer,omitempty"` // The issuer or pool; needed only where there are several.
	Profile  string         `json:"profile"`          // The rules to issue under.
	Requests []BatchRequest `json:"requests" schema:"maxItems=256"`
}

// BatchRequest is one request of a batch.
type BatchRequest struct {
	CSR  string `json:"csr"`  // A PKCS#10 request in PEM.
	Name string `json:"name"` // The caller's own name for it, such as the file's; comes back with the result.
}

// BatchResult is what became of a request: either certificate or problem is set.
type BatchResult struct {
	Certificate IssuedCertificate `json:"certificate,omitzero"`
	Name        string            `json:"name"`
	Problem     Problem           `json:"problem,omitzero"`
}

// BatchResults are the results of a page, in the order of its requests.
type BatchResults struct {
	Results []BatchResult `json:"results"`
}

// Issue issues a certificate. With r.DryRun set use Preview.
func (c *Client) Issue(ctx context.Context, r IssueRequest) (*IssuedCertificate, error) {
	r.DryRun = false
	done, err := IssueCertificate.Call(ctx, c, None{}, r)
	if err != nil {
		return nil, err
	}
	return done.Certificate, nil
}

// Preview says whether Issue would issue, and what. A refusal by the rules is a
// verdict, not an error.
func (c *Client) Preview(ctx context.Context, r IssueRequest) (*Verdict, error) {
	r.DryRun = true
	done, err := IssueCertificate.Call(ctx, c, None{}, r)
	if err != nil {
		return nil, err
	}
	return done.Verdict, nil
}

// PEM returns a certificate and its chain, leaf first, root omitted.
func (c *Client) PEM(ctx context.Context, idOrSerial, issuer string) ([]byte, error) {
	chain, err := GetCertificatePEM.Call(ctx, c, CertificateRef{idOrSerial, issuer}, None{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = chain.Body.Close() }()
	pem, err := io.ReadAll(io.LimitReader(chain.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read chain: %w", err)
	}
	return pem, nil
}
