package api

import (
	"cmp"
	"time"
)

// CAs: request, install, take over.
var (
	ListIssuers = Operation[None, None, IssuerList]{Declaration{
		Name: "ListIssuers", Method: "GET", Path: "/v1/issuers", Permission: IssuerRead,
		Summary: "The CAs that are installed, then those that the configuration declares and that are not",
		Answer:  "All of them; there are few.",
	}}
	RemoveIssuer = Operation[IssuerRef, None, RemovedIssuer]{Declaration{
		Name: "RemoveIssuer", Method: "DELETE", Path: "/v1/issuers/{issuer}", Permission: IssuerManage,
		Summary: "Take the record of a CA that never signed out of the database; its id is free again",
		Answer:  "It is removed; this is what was there.",
		Description: "Refused with 409 where the CA has signed a certificate or a list, where a CA is below it " +
			"(`issuer_used`), and where the configuration has a certificate for it and would install it " +
			"again (`issuer_declared`).",
		Local: true,
	}}
	CreateIssuerCSR = Operation[IssuerRef, NewIssuerCSR, IssuerCSR]{Declaration{
		Name: "CreateIssuerCSR", Method: "POST", Path: "/v1/issuers/{issuer}/csr", Permission: IssuerManage,
		Summary: "The certificate request of a configured issuer; its key is made if it has none",
		Answer:  "The request. The same call returns the same one.",
		Local:   true, Repeat: "The request is kept; only again makes a new one.",
	}}
	InstallIssuer = Operation[IssuerRef, IssuerCertificate, InstallAnswer]{Declaration{
		Name: "InstallIssuer", Method: "POST", Path: "/v1/issuers/{issuer}/certificate", Permission: IssuerManage,
		Summary: "Put the certificate of a configured CA in force",
		Description: "The certificate is compared with the CA's key and request, with the laws of the tree along " +
			"its whole chain, and with the act of the ceremony's transcript. The server issues from it at " +
			"once.",
		Local: true, Time: longTime, Repeat: "A certificate that is in force is answered with 200.",
	}}
	ImportRecords = Operation[IssuerRef, ImportPage, ImportResult]{Declaration{
		Name: "ImportRecords", Method: "POST", Path: "/v1/issuers/{issuer}/records", Permission: IssuerManage,
		Summary: "Enter certificates that a CA issued before it came here, one page a call",
		Answer:  "What was entered.",
		Description: "The CA is configured and not adopted yet: its records come first, so that it answers for all " +
			"of them from its first moment. Serials that are on record already are skipped, so that a " +
			"page can be sent again.",
		Local: true, Repeat: "Serials that are on record are skipped.",
	}}
	AdoptIssuer = Operation[IssuerRef, Adoption, InstallAnswer]{Declaration{
		Name: "AdoptIssuer", Method: "POST", Path: "/v1/issuers/{issuer}/adopt", Permission: IssuerManage,
		Summary: "Take over a CA that was run elsewhere, with its key and its CRL number",
		Local:   true, Time: longTime, Repeat: "A CA that is in force is answered with 200.",
	}}
)

// IssuerRef names a CA.
type IssuerRef struct {
	Issuer string `path:"issuer"` // The issuer's id.
}

// Issuer is a CA and how it stands.
type Issuer struct {
	// The id of the CA, of the same name and key, under which all else about it is found.
	AliasOf     string `json:"alias_of,omitempty"`
	Certificate string `json:"certificate,omitempty"` // PEM.
	// Whole days until its certificate ends, below zero where it has ended.
	DaysLeft    *int   `json:"days_left,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Generation  int    `json:"generation"`
	ID          string `json:"id"`
	// here, elsewhere (offline, or another program's) or lost (it should be here and cannot be used); absent where
	// it was not looked for.
	Key           string    `json:"key,omitempty"`
	LastCRLNumber int64     `json:"last_crl_number,omitempty"`
	Name          string    `json:"name"`
	NotAfter      time.Time `json:"not_after,omitzero"`
	Parent        string    `json:"parent,omitempty"`
	Pool          string    `json:"pool,omitempty"`
	RevocationSeq int64     `json:"revocation_seq,omitempty"`
	Serial        string    `json:"serial,omitempty"`
	Stage         string    `json:"stage,omitempty"` // declared (no certificate yet), active, draining or retired.
	// Of its record: active, draining, retired or offline; declared where it has none, and then nothing is said of
	// a certificate.
	State   string `json:"state"`
	Subject string `json:"subject,omitempty"`
	// What relying parties make of it: good, revoked (by a CA above) or expired (it, or a CA above); absent where
	// it is not in use.
	Trust string   `json:"trust,omitempty"`
	Why   []string `json:"why,omitempty"` // What an operator should know of it, the gravest first.
}

// IssuerList has the CAs.
type IssuerList struct {
	Issuers []Issuer `json:"issuers"`
}

// RemovedIssuer is what a record said that is removed.
type RemovedIssuer struct {
	Fingerprint string   `json:"fingerprint"` // SHA-256 of the certificate that was there.
	ID          string   `json:"id"`
	Subject     string   `json:"subject"`
	Warnings    []string `json:"warnings"` // What a person should look at.
}

// NewIssuerCSR says how a CA's request is to be.
type NewIssuerCSR struct {
	Again bool `json:"again,omitempty"` // Make a new request though there is one for this key and name.
	// Of a key that has to be made: ec-p256, ec-p384, ec-p521, rsa-3072 or rsa-4096.
	Algorithm string `json:"algorithm,omitempty"`
	// What the CA is called, written as RFC 4514 says; when unsaid, the name in its certificate, in the
	// configuration, or in its last request.
	Subject string `json:"subject,omitempty"`
}

// IssuerCSR is the certificate request of a CA.
type IssuerCSR struct {
	Algorithm string    `json:"algorithm"`
	CreatedAt time.Time `json:"created_at"`
	CSR       string    `json:"csr"` // A PKCS#10 request in PEM.
	Issuer    string    `json:"issuer"`
	Key       string    `json:"key"`      // Where the private key is.
	KeyMade   bool      `json:"key_made"` // The key was made by this call.
	SHA256    string    `json:"sha256"`   // Of the request's DER, in hexadecimal: what is typed in the ceremony.
	Subject   string    `json:"subject"`
}

// IssuerCertificate is the certificate of a configured CA, to be put in force.
type IssuerCertificate struct {
	// PEM: the CA's certificate, then those above it that are not installed here.
	Certificate  string `json:"certificate"`
	NoTranscript bool   `json:"no_transcript,omitempty"` // There is none, because the CA above is somebody else's.
	Transcript   string `json:"transcript,omitempty"`    // The transcript of the ceremony that signed it.
}

// InstalledIssuer is a CA that is in force.
type InstalledIssuer struct {
	Issuer   Issuer   `json:"issuer"`
	Warnings []string `json:"warnings"` // What a person should look at.
}

// InstallAnswer is the CA that is in force.
type InstallAnswer struct {
	Unchanged *InstalledIssuer `status:"200"` // It was in force already.
	Installed *InstalledIssuer `status:"201"` // It is in force now.
}

// Done returns the CA, and whether it was in force already.
func (a *InstallAnswer) Done() (ca *InstalledIssuer, again bool) {
	return cmp.Or(a.Unchanged, a.Installed), a.Unchanged != nil
}

// ImportPage is one page of certificates that a CA issued before it came here.
type ImportPage struct {
	// The CA's own certificate in PEM, with which each record is verified.
	Certificate string         `json:"certificate"`
	Records     []ImportRecord `json:"records" schema:"maxItems=500"`
}

// ImportRecord is a certificate of another CA's records. One that is not here itself is known
// by its serial, subject and end.
type ImportRecord struct {
	// Its DER; what follows up to not_after is then read from it.
	Certificate    []byte     `json:"certificate,omitempty"`
	Endpoint       string     `json:"endpoint,omitempty"`
	IssuedAt       time.Time  `json:"issued_at,omitzero"`
	NotAfter       time.Time  `json:"not_after,omitzero"`
	NotBefore      time.Time  `json:"not_before,omitzero"`
	Profile        string     `json:"profile,omitempty"`
	ProfileVersion string     `json:"profile_version,omitempty"`
	Protocol       string     `json:"protocol,omitempty"`
	Requester      string     `json:"requester,omitempty"`
	Revocation     Revocation `json:"revocation,omitzero"`
	Serial         string     `json:"serial"` // Hexadecimal.
	Shard          int        `json:"shard,omitempty"`
	Subject        string     `json:"subject,omitempty"`
}

// ImportResult is what was entered.
type ImportResult struct {
	Imported int `json:"imported"` // Records that are new here.
	Known    int `json:"known"`    // Records whose serials were here.
}

// Adoption is a CA that was run elsewhere.
type Adoption struct {
	// PEM: the CA's certificate, then those above it that are not installed here.
	Certificate   string `json:"certificate"`
	CRLShards     int    `json:"crl_shards,omitempty"`      // The highest number of shards that its lists ever had.
	LastCRLNumber string `json:"last_crl_number,omitempty"` // Of its newest list, in decimal: numbers go on above it.
	Passphrase    string `json:"passphrase,omitempty"`      // Of private_key.
	// PEM of its key, encrypted or not. It is written encrypted where the configuration says, and may be left out
	// if it is there.
	PrivateKey string `json:"private_key,omitempty"`
}
