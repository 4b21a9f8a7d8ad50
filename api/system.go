package api

import (
	"encoding/json"
	"time"
)

// The server itself.
var (
	ListAuditEvents = Operation[PageParams, None, AuditPage]{Declaration{
		Name: "ListAuditEvents", Method: "GET", Path: "/v1/audit/events", Permission: AuditRead,
		Summary: "The newest audit events, newest first, page by page", Answer: "One page.",
	}}
	AcceptAudit = Operation[None, AuditAcceptance, AcceptedAudit]{Declaration{
		Name: "AcceptAudit", Method: "POST", Path: "/v1/audit/accept", Permission: AuditAccept,
		Summary: "Accept what is wrong with the audit record, for a reason that stays in it",
		Description: "Verifies the record against every checkpoint, those in this node's state folder too. What is " +
			"found is a finding no more, and the event audit.accepted says so for good.",
		Answer: "What was found and is accepted now.",
		Local:  true, Time: longTime, MaxBody: 16 << 10,
		Repeat: "When nothing is wrong any more it is refused with audit_sound.",
	}}
	ReloadConfig = Operation[None, None, ReloadResult]{Declaration{
		Name: "ReloadConfig", Method: "POST", Path: "/v1/config/reload", Permission: ConfigReload,
		Summary: "Read the configuration file again and swap it in, all or nothing",
		Answer:  "The configuration that runs now.",
		Local:   true, Time: longTime, Repeat: "What has not changed is not swapped.",
	}}
	GetHealth = Operation[None, None, Health]{Declaration{
		Name: "GetHealth", Method: "GET", Path: "/v1/health", Permission: StatusRead,
		Summary: "Is the server fit to serve, and if not, why", Answer: "The checks, whether they pass or not.",
	}}
	ResealSecrets = Operation[None, ResealRequest, ResealPage]{Declaration{
		Name: "ResealSecrets", Method: "POST", Path: "/v1/secrets/reseal", Permission: SecretsReseal,
		Summary: "Seal secrets in the database again under the first key-encryption key, one page a call",
		Answer:  "What was sealed again.",
		Description: "Seals the next page and says how to go on: call again with `next` as `cursor` until there is " +
			"none. What a call has sealed again stays so if a later one fails.",
		Local: true, Repeat: "What is sealed under the first key is passed over.",
	}}
	GetVersion = Operation[None, None, Version]{Declaration{
		Name: "GetVersion", Method: "GET", Path: "/v1/version", Permission: StatusRead,
		Summary: "What runs here", Answer: "The build.",
	}}
)

// AuditEvent is one event of the audit record.
type AuditEvent struct {
	Action    string          `json:"action"`
	Actor     string          `json:"actor"`
	At        time.Time       `json:"at"`
	Detail    json.RawMessage `json:"detail,omitempty"` // Free-form, by action.
	Hash      string          `json:"hash"`             // Hexadecimal.
	Node      string          `json:"node"`
	Outcome   string          `json:"outcome"`
	RequestID string          `json:"request_id,omitempty"`
	Seq       int64           `json:"seq"`
	Subject   string          `json:"subject,omitempty"`
}

// AuditPage is one page of the audit record.
type AuditPage struct {
	Events []AuditEvent `json:"events"`
	Next   string       `json:"next,omitempty"`
}

// AuditAcceptance says why what is wrong with the audit record is accepted.
type AuditAcceptance struct {
	Reason string `json:"reason"` // At most 1,000 octets; it goes into the audit record.
}

// AcceptedAudit is what was wrong with the audit record.
type AcceptedAudit struct {
	// In words, at most 100 of them. It is empty if the state folder had no witness, and nothing else was wrong.
	Findings []string `json:"findings"`
	Found    int      `json:"found"` // How many there were.
}

// ReloadResult is the configuration that runs.
type ReloadResult struct {
	Changed      bool   `json:"changed"`
	ConfigDigest string `json:"config_digest"`
}

// Health is how the server stands.
type Health struct {
	Checks []HealthCheck `json:"checks"`
	Ready  bool          `json:"ready"`           // No listener lacks what it needs.
	State  string        `json:"state,omitempty"` // The worst of the checks: ok, warning or failed.
}

// HealthCheck is one thing that was looked at.
type HealthCheck struct {
	Detail    string    `json:"detail,omitempty"`    // What was found, and why.
	Listeners []string  `json:"listeners,omitempty"` // The listeners that cannot serve while it fails; * is every one.
	Name      string    `json:"name"`
	OK        bool      `json:"ok"`               // Not failed; true of a warning.
	Remedy    string    `json:"remedy,omitempty"` // What an operator should do.
	Since     time.Time `json:"since,omitzero"`   // Since when it is not ok.
	State     string    `json:"state,omitempty"`  // ok, warning or failed.
}

// ResealRequest asks for one page of secrets to be sealed again.
type ResealRequest struct {
	Cursor string `json:"cursor,omitempty"`  // `next` of the page before.
	DryRun bool   `json:"dry_run,omitempty"` // Count only.
}

// ResealPage is what came of one page.
type ResealPage struct {
	Checked  int              `json:"checked"`
	Keys     []SealingKey     `json:"keys,omitempty"` // Of the last page: which keys are needed now.
	Next     string           `json:"next,omitempty"`
	Resealed int              `json:"resealed"` // In a dry run: what would be.
	Unopened []UnopenedSecret `json:"unopened,omitempty"`
}

// SealingKey is a key-encryption key and what needs it.
type SealingKey struct {
	ID      string `json:"id"`                // Tells nothing of the key.
	Line    int    `json:"line,omitempty"`    // Of key_encryption. The first one seals.
	Missing bool   `json:"missing,omitempty"` // It is needed, and key_encryption does not have it.
	Needs   string `json:"needed_by,omitempty"`
	Secrets int    `json:"secrets"` // That are of use and sealed under it.
}

// UnopenedSecret is a secret that cannot be opened.
type UnopenedSecret struct {
	ID   string `json:"id"`
	Key  string `json:"key,omitempty"` // That it is sealed under.
	Kind string `json:"kind"`
	Why  string `json:"why"` // missing_key or altered.
}

// Version is the build.
type Version struct {
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	Version string `json:"version"`
}
