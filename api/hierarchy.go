package api

import "time"

// The trees of CAs.
var (
	GetHierarchy = Operation[None, None, Hierarchy]{Declaration{
		Name: "GetHierarchy", Method: "GET", Path: "/v1/hierarchy", Permission: IssuerRead,
		Summary: "The CAs that are installed as trees, with what the laws at rest say of them and what they cost",
		Answer:  "All of them, each after the one above it.", Time: longTime,
	}}
	PlanHierarchy = Operation[None, HierarchyFile, HierarchyPlan]{Declaration{
		Name: "PlanHierarchy", Method: "POST", Path: "/v1/hierarchy/plan", Permission: IssuerRead,
		Summary: "What is to be done so that a hierarchy is as its file says; nothing is changed", Answer: "The plan.",
		Time: longTime, Repeat: "It changes nothing.",
	}}
	ExportHierarchy = Operation[IssuerRef, None, Stream]{Declaration{
		Name: "ExportHierarchy", Method: "GET", Path: "/v1/hierarchy/{issuer}/export", Permission: CertRead,
		Summary: "Stream a CA and all below it, with their records, for another server",
		Answer: "JSON lines: a header, each CA followed by its certificates, and an end\n" +
			"that counts them. No private key is among it. An export that fails\n" +
			"half-way breaks the connection off and has no end.",
		Types: []string{"application/jsonl"}, Line: ExportLine{},
	}}
)

// Hierarchy has the installed CAs, each after the one above it.
type Hierarchy struct {
	CAs      []HierarchyCA      `json:"cas"`
	Findings []HierarchyFinding `json:"findings,omitempty"`
}

// HierarchyCA is a CA in its tree, with what it costs.
type HierarchyCA struct {
	Certificates int64 `json:"certificates,omitempty"` // That it has issued and that have not expired.
	// Octets of CA certificates that a server below it sends at each handshake: all but the root.
	ChainBytes         int       `json:"chain_bytes"`
	Children           int       `json:"children"` // CAs right below it.
	ID                 string    `json:"id"`
	Key                string    `json:"key,omitempty"` // Its kind.
	Level              int       `json:"level"`         // 1 is a root.
	MaxChildren        int       `json:"max_children,omitempty"`
	NotAfter           time.Time `json:"not_after"`
	Parent             string    `json:"parent,omitempty"`
	PathLen            *int      `json:"path_len,omitempty"` // Absent where there is none.
	Root               string    `json:"root"`
	Signatures         int       `json:"signatures"` // Signatures that a client verifies below it for one certificate.
	State              string    `json:"state"`
	Subject            string    `json:"subject"`
	VerifyMicroseconds int64     `json:"verify_microseconds"` // What verifying those takes here, measured now.
}

// HierarchyFinding is something that the laws at rest say against a tree.
type HierarchyFinding struct {
	About    string `json:"about"`
	Severity string `json:"severity"` // error or warning.
	What     string `json:"what"`
}

// HierarchyFile is a hierarchy as it shall be.
type HierarchyFile struct {
	Hierarchy string `json:"hierarchy"` // The text of hierarchy.yaml; docs/hierarchy.md describes it.
}

// HierarchyPlan is what is to be done so that a hierarchy is as its file says.
type HierarchyPlan struct {
	Ceremonies []PlannedCeremony `json:"ceremonies"`
	Declare    string            `json:"declare,omitempty"` // YAML to add to the configuration.
	Done       bool              `json:"done"`              // Nothing is left to do.
	Name       string            `json:"name"`
	Steps      []HierarchyStep   `json:"steps"`
	Warnings   []string          `json:"warnings"`
}

// HierarchyStep is how far one CA of a plan is.
type HierarchyStep struct {
	Algorithm string `json:"algorithm,omitempty"`
	CA        string `json:"ca"`
	Detail    string `json:"detail,omitempty"`
	Key       string `json:"key"`   // offline or online.
	Level     int    `json:"level"` // 1 is a root.
	Parent    string `json:"parent,omitempty"`
	Root      string `json:"root"`
	State     string `json:"state"` // in place, undeclared, request, pending ceremony, waits for parent, or sign.
	Subject   string `json:"subject"`
	Template  string `json:"template,omitempty"`
	Years     int    `json:"years,omitempty"`
}

// PlannedCeremony is a ceremony that a plan needs.
type PlannedCeremony struct {
	File     string   `json:"file"`     // The text of ceremony.yaml.
	Requests []string `json:"requests"` // Ids of the issuers whose requests it names, each as ID.csr beside it.
	Root     string   `json:"root"`
}

// ExportLine is one line of a hierarchy's export. One of its members is there.
type ExportLine struct {
	CA     *ExportCA     `json:"ca,omitempty"`
	End    *ExportEnd    `json:"end,omitempty"`
	Header *ExportHeader `json:"header,omitempty"`
	Record *ImportRecord `json:"record,omitempty"`
}

// ExportHeader begins an export.
type ExportHeader struct {
	At     time.Time `json:"at"`
	CA     string    `json:"ca"`
	Format string    `json:"format"` // privyseal-hierarchy/1.
}

// ExportCA is a CA in a hierarchy's export.
type ExportCA struct {
	Certificate   string `json:"certificate"`   // PEM.
	CRL           []byte `json:"crl,omitempty"` // The newest full list.
	CRLShards     int    `json:"crl_shards,omitempty"`
	ID            string `json:"id"`
	LastCRLNumber string `json:"last_crl_number"`
	Offline       bool   `json:"offline,omitempty"`
	Parent        string `json:"parent,omitempty"`
}

// ExportEnd counts what an export has.
type ExportEnd struct {
	CAs     int `json:"cas"`
	Records int `json:"records"`
}
