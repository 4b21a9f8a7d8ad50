package challenge

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// Expected says where an attempt looks, and for what: the first URL and the body
// (http-01; RFC 8555, section 8.3), the name and the TXT record (dns-01; section 8.4),
// or the server name and the acmeIdentifier extension's DER in hexadecimal (tls-alpn-01;
// RFC 8737, section 3). Both are empty for another type, or an address that is none.
func (t Task) Expected() (at, value string) {
	digest := sha256.Sum256([]byte(t.KeyAuthorization))
	switch t.Type {
	case HTTP01:
		return "http://" + urlHost(t.Identifier.Value) + "/.well-known/acme-challenge/" + t.Token, t.KeyAuthorization
	case DNS01:
		return "_acme-challenge." + t.Identifier.Value, base64.RawURLEncoding.EncodeToString(digest[:])
	case TLSALPN01:
		name, err := serverName(t.Identifier)
		if err != nil {
			return "", ""
		}
		return name, hex.EncodeToString(append([]byte{0x04, sha256.Size}, digest[:]...))
	}
	return "", ""
}
