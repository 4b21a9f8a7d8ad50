package api

import (
	"encoding/base64"
	"strings"
	"time"
)

// Revocations and the lists of them.
var (
	RevokeCertificate = Operation[CertificateRef, RevokeRequest, Certificate]{Declaration{
		Name: "RevokeCertificate", Method: "POST", Path: "/v1/certificates/{certificate}/revoke",
		Permission: CertRevoke,
		Summary:    "Revoke a certificate", Answer: "The certificate with its revocation.",
	}}
	ReleaseCertificate = Operation[CertificateRef, None, Certificate]{Declaration{
		Name: "ReleaseCertificate", Method: "POST", Path: "/v1/certificates/{certificate}/release",
		Permission: CertRevoke, Summary: "Take a certificate off hold", Answer: "The certificate, which is good again.",
	}}
	RevokeCertificates = Operation[None, BulkRevocation, RevocationPage]{Declaration{
		Name: "RevokeCertificates", Method: "POST", Path: "/v1/revocations", Permission: CertRevoke,
		Summary: "Revoke what an expression selects, one page a call", Answer: "What was revoked.",
		Description: "Revokes the next page of the selection and says how to go on: call again with `next` as " +
			"`cursor` until there is none. What a call has revoked stays revoked if it fails; a call " +
			"without a cursor goes on too, because revoked certificates are not selected.",
		Time: longTime, Repeat: "Revoked certificates are not selected.",
	}}
	PreviewRevocations = Operation[None, BulkSelection, RevocationPreview]{Declaration{
		Name: "PreviewRevocations", Method: "POST", Path: "/v1/revocations/preview", Permission: CertRead,
		Summary: "What a revocation in bulk would revoke; nothing is changed",
		Answer:  "The number of certificates and the first of them.", Time: longTime, Repeat: "It changes nothing.",
	}}
	ListCRLs = Operation[None, None, CRLList]{Declaration{
		Name: "ListCRLs", Method: "GET", Path: "/v1/crls", Permission: CRLRead,
		Summary: "The revocation lists of all CAs, as this node serves them",
		Answer:  "All of them; a CA without a list is in it as missing.",
	}}
	ImportCRL = Operation[None, CRLImport, ImportedCRL]{Declaration{
		Name: "ImportCRL", Method: "POST", Path: "/v1/crls", Permission: CRLTakeIn,
		Summary: "Take over the list of a CA whose key is elsewhere",
		Time:    longTime, MaxBody: MaxListBody, Repeat: "A list that is here already is answered with 200.",
	}}
	GetCRLs = Operation[IssuerRef, None, CRLList]{Declaration{
		Name: "GetCRLs", Method: "GET", Path: "/v1/crls/{issuer}", Permission: CRLRead,
		Summary: "The revocation lists of one CA, full, shards and delta", Answer: "The lists.",
	}}
	PublishCRLs = Operation[IssuerRef, PublishRequest, CRLList]{Declaration{
		Name: "PublishCRLs", Method: "POST", Path: "/v1/crls/{issuer}/publish", Permission: CRLPublish,
		Summary: "Build and publish all lists of an issuer now", Answer: "The lists.", Time: longTime,
	}}
	RecoverRevocations = Operation[IssuerRef, RecoverRequest, Recovery]{Declaration{
		Name: "RecoverRevocations", Method: "POST", Path: "/v1/crls/{issuer}/recover", Permission: CRLRecover,
		Summary: "Enter the revocations that a published list has and the database has lost",
		Answer:  "What was entered, or would be.",
		Time:    longTime, MaxBody: MaxListBody, Local: true, Repeat: "What is on record is not entered again.",
	}}
)

// MaxListBody bounds a body that has a list: the longest one, 16 MiB, as base64 of PEM.
const MaxListBody = 32 << 20

// RevokeRequest says why a certificate is revoked.
type RevokeRequest struct {
	// Since when the key is known or feared to be bad; not before the certificate's notBefore.
	InvalidityAt time.Time `json:"invalidity_at,omitzero"`
	Reason       string    `json:"reason,omitempty"` // A CRLReason of RFC 5280; unspecified when unsaid.
	// A serial that is not on record is entered and revoked, as one that was issued after the backup from which the
	// database was restored. It needs the query parameter issuer.
	Unknown bool `json:"unknown,omitempty"`
}

// BulkSelection selects certificates to revoke.
type BulkSelection struct {
	Reason string `json:"reason"` // A CRLReason of RFC 5280.
	// Terms with commas between, all of which must hold: `name=`, `name~` (a pattern with `*`), `issuer=`,
	// `profile=`, `protocol=`, `endpoint=`, `requester=`, `key=`, `not_after<`, `not_after>`, `issued<`, `issued>`.
	// A value with a comma stands in double quotes. Selected are certificates that have not expired and can be
	// revoked for the reason.
	Where string `json:"where"`
}

// BulkRevocation is what to revoke, and why.
type BulkRevocation struct {
	Cursor string `json:"cursor,omitempty"` // The `next` of the call before.
	// Since when the keys are bad; for a certificate that is younger, its notBefore.
	InvalidityAt time.Time `json:"invalidity_at,omitzero"`
	// The most that this call may revoke.
	Limit  int    `json:"limit,omitempty" schema:"minimum=1,maximum=4096"`
	Reason string `json:"reason"` // A CRLReason of RFC 5280.
	Where  string `json:"where"`  // As in BulkSelection.
}

// RevocationPage is what one call revoked.
type RevocationPage struct {
	Next    string `json:"next,omitempty"` // The cursor of the next call; absent when all is done.
	Revoked int    `json:"revoked"`        // Certificates that this call revoked.
	Skipped int    `json:"skipped"`        // Certificates that somebody else revoked meanwhile.
}

// RevocationPreview is what a revocation in bulk would revoke.
type RevocationPreview struct {
	Certificates []Certificate `json:"certificates"` // The first ten.
	Count        int64         `json:"count"`
}

// CRL is a revocation list as this node serves it.
type CRL struct {
	Delta   bool   `json:"delta,omitempty"`
	Entries int64  `json:"entries,omitempty"`
	Issuer  string `json:"issuer"`
	// Of the full list: how many revocations the lists on this node's disk have that the database does not have, as
	// after the restore of an older one. They count until they are recovered.
	Lost       int       `json:"lost,omitempty"`
	Name       string    `json:"name"` // The list's name in URLs: ISSUER, ISSUER/SHARD or ISSUER-delta.
	NextUpdate time.Time `json:"next_update,omitzero"`
	Number     int64     `json:"number,omitempty"`
	Offline    bool      `json:"offline"`           // The key of the CA is elsewhere and its lists are imported.
	Refused    string    `json:"refused,omitempty"` // Why a newer list could not be published or taken over.
	SHA256     string    `json:"sha256,omitempty"`  // Hexadecimal.
	Shard      int       `json:"shard,omitempty"`   // The shard; unsaid for the full list.
	Size       int64     `json:"size,omitempty"`    // Octets.
	State      string    `json:"state"`             // current, aging (a newer one is overdue), expired or missing.
	ThisUpdate time.Time `json:"this_update,omitzero"`
	URL        string    `json:"url"`
}

// CRLList has the revocation lists.
type CRLList struct {
	CRLs []CRL `json:"crls"`
}

// CRLImport is the list of a CA whose key is elsewhere.
type CRLImport struct {
	// Why the list may take back revocations of the published one; left out, it may not and is refused with
	// crl_entries_lost. At most 1,000 octets; it goes into the audit record.
	AcceptLost string `json:"accept_lost,omitempty"`
	CRL        string `json:"crl"` // The list, as PEM or as base64 of its DER.
}

// ImportedCRL is the list that was taken over.
type ImportedCRL struct {
	Unchanged *CRL `status:"200"` // The list was here already.
	Published *CRL `status:"201"` // The list, published.
}

// RecoverRequest says what is to be recovered.
type RecoverRequest struct {
	// A list of the issuer, as PEM or as base64 of its DER; left out, those that this node has published.
	CRL    string `json:"crl,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"` // Only count.
	Holds  bool   `json:"holds,omitempty"`   // Put on hold again what the list has on hold.
}

// Recovery is what was entered, or would be.
type Recovery struct {
	Entered int      `json:"entered"` // Certificates that are not on record any more; they are entered and revoked.
	Holds   int      `json:"holds"`   // Certificates that the list has on hold and that were left alone.
	Revoked int      `json:"revoked"` // Certificates on record that were revoked again.
	Serials []string `json:"serials"` // The first of them.
}

// PublishRequest says how lists are to be published.
type PublishRequest struct {
	// Publish although the last list is dated later than the clock says.
	ClockWasWrong bool `json:"clock_was_wrong,omitempty"`
}

// CRLText is a list, DER or PEM, as a body has it.
func CRLText(list []byte) string {
	if text := string(list); strings.Contains(text, "-----BEGIN") {
		return text
	}
	return base64.StdEncoding.EncodeToString(list)
}
