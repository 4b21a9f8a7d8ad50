package pki

// IdentifierType says how an identifier's value is to be read. The first two
// are ACME's (RFC 8555, section 9.7.7; RFC 8738); the rest name the SAN forms
// that profiles may allow.
type IdentifierType string

// Identifier types.
const (
	DNS         IdentifierType = "dns"
	IP          IdentifierType = "ip"
	Email       IdentifierType = "email"                // rfc822Name
	URI         IdentifierType = "uri"                  // uniformResourceIdentifier, SPIFFE and URN included
	UPN         IdentifierType = "upn"                  // otherName 1.3.6.1.4.1.311.20.2.3
	PermanentID IdentifierType = "permanent-identifier" // otherName 1.3.6.1.5.5.7.8.3 (RFC 4043)
	HardwareID  IdentifierType = "hardware-module"      // otherName 1.3.6.1.5.5.7.8.4 (RFC 4108)
	DirName     IdentifierType = "dirname"              // directoryName, value in RFC 4514 form
)

// Identifier is one name of a subject. Values are canonical: DNS names are
// lower-case A-labels without a trailing dot, addresses as netip prints them.
type Identifier struct {
	Type  IdentifierType `json:"type"`
	Value string         `json:"value"`
}

// Folded returns a text that is the same for two canonical identifiers if and only
// if they match as RFC 5280, section 7, means it: of all forms only directory names
// have several spellings left.
func (id Identifier) Folded() string {
	value := id.Value
	if name, err := ParseName(value); id.Type == DirName && err == nil {
		value = name.Folded()
	}
	return string(id.Type) + ":" + value
}
