package config

import (
	"time"

	"github.com/privyseal/privyseal/internal/keys"
)

// Audit is how the audit record is kept.
type Audit struct {
	// Key says where the key that signs checkpoints is: file:PATH or
	// credential:NAME, encrypted PKCS#8. It is not in the database, so that who rules the database cannot
	// forge the record.
	Key keys.Ref `yaml:"key" path:"key"`
	// Passphrase refers to the passphrase of the key.
	Passphrase Reference `yaml:"passphrase"`
	// Retention is how long events stay in the database before they move to
	// Archive. 0 keeps them for ever.
	Retention time.Duration `yaml:"retention,omitempty"`
	// Archive is the folder that takes the segments of events older than
	// Retention, a tenth of it or a day at a time. It must exist, and all nodes
	// share it; verify and audit verify read it.
	Archive string `yaml:"archive,omitempty" path:"file"`
}
