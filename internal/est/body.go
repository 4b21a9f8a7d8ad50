package est

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
)

// badBody is the fault of a body that is not base64.
func badBody(text string) error {
	return fault.New(fault.Malformed, "%s", text).Because("est_body")
}

// pemBegin is how a PEM block begins.
var pemBegin = []byte("-----BEGIN ")

// decodeBody reads the body of a request: base64 of RFC 4648, section 4, with
// line ends, spaces and tabs anywhere (RFC 8951, section 3.1). Many a client
// posts what openssl writes, so one PEM block does as well, whatever is said
// before it. No header field has a say in it (rule E2).
func decodeBody(body []byte) ([]byte, error) {
	if bytes.Contains(body, pemBegin) {
		return decodePEM(body)
	}
	text := make([]byte, 0, len(body))
	for _, b := range body {
		if b != '\r' && b != '\n' && b != ' ' && b != '\t' {
			text = append(text, b)
		}
	}
	if len(text) == 0 {
		return nil, badBody("the body is empty")
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(der, text)
	if err != nil {
		if len(body) > 1 && body[0] == 0x30 && body[1] >= 0x80 {
			return nil, badBody("the body is DER as it is: send it in base64")
		}
		return nil, badBody("the body is not base64")
	}
	return der[:n], nil
}

func decodePEM(body []byte) ([]byte, error) {
	block, rest := pem.Decode(body)
	switch {
	case block == nil:
		return nil, badBody("the body begins like PEM and is not")
	case bytes.Contains(rest, pemBegin):
		return nil, badBody("the body has more than one PEM block")
	case len(block.Bytes) == 0:
		return nil, badBody("the PEM block is empty")
	}
	return block.Bytes, nil
}

// encodeBody writes one line of base64, ended by one newline: wrapped lines break
// strongSwan, a line without an end another client (rule E2).
func encodeBody(der []byte) []byte {
	return append([]byte(base64.StdEncoding.EncodeToString(der)), '\n')
}

// How the lines of answers are wrapped.
const (
	WrapAuto   = "auto"
	WrapAlways = "always"
	WrapNever  = "never"
)

// lineWidth is that of PEM (RFC 7468).
const lineWidth = 64

// wrappers are how the User-Agents begin, in lower case, that read wrapped lines only:
// OpenSSL's decoder passes over a first line of more than 1024 octets. They are listed
// in docs/est.md.
var wrappers = []string{"libest", "cisco est client"}

// wraps reports whether the base64 of an answer is wrapped.
func (ep *endpoint) wraps(r *http.Request) bool {
	agent := strings.ToLower(r.UserAgent())
	listed := slices.ContainsFunc(wrappers, func(w string) bool { return strings.HasPrefix(agent, w) })
	return ep.WrapBase64 == WrapAlways || listed && ep.WrapBase64 != WrapNever
}

// encode writes the base64 of an answer to a request.
func (ep *endpoint) encode(r *http.Request, der []byte) []byte {
	text := encodeBody(der)
	if !ep.wraps(r) {
		return text
	}
	var body []byte
	for line := range slices.Chunk(text[:len(text)-1], lineWidth) {
		body = append(append(body, line...), '\n')
	}
	return body
}
