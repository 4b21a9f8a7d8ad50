package est

import (
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// exporterLabel is that of the channel binding tls-exporter (RFC 9266).
const exporterLabel = "EXPORTER-Channel-Binding"

// bind checks that the request was made for this very connection: its challenge
// password is the channel binding in base64 (RFC 7030, section 3.5). TLS 1.3 has
// no tls-unique, there tls-exporter is taken. Who demands a binding keeps its
// listener at TLS 1.2, because the clients in the field know tls-unique alone
// (rule E17).
func (c *client) bind(ep *endpoint, csr *pki.CSR, conn *tls.ConnectionState) error {
	password := csr.ChallengePassword
	switch {
	case ep.Challenge == ChallengeIgnore:
		return nil
	case password == "" && ep.Challenge == ChallengeRequired:
		return fault.New(fault.BadCSR, "certificate request: it must have the tls-unique of this connection as its "+
			"challenge password").Because("binding_required")
	case password == "":
		return nil
	case conn == nil:
		return refuseBinding()
	}
	for _, b := range bindings(conn) {
		if subtle.ConstantTimeCompare([]byte(password), []byte(base64.StdEncoding.EncodeToString(b.value))) == 1 {
			c.binding = b.name
			return nil
		}
	}
	return refuseBinding()
}

func refuseBinding() error {
	return fault.New(fault.BadCSR, "certificate request: its challenge password is not the channel binding of this "+
		"connection").Because("binding_differs")
}

type binding struct {
	name  string
	value []byte
}

// bindings are those that the connection has.
func bindings(conn *tls.ConnectionState) []binding {
	var all []binding
	if len(conn.TLSUnique) > 0 {
		all = append(all, binding{"tls-unique", conn.TLSUnique})
	}
	// A context of length zero, not nil: in TLS 1.2 the two differ. It fails
	// without the extended master secret, and then there is none.
	if value, err := conn.ExportKeyingMaterial(exporterLabel, []byte{}, 32); err == nil {
		all = append(all, binding{"tls-exporter", value})
	}
	return all
}
