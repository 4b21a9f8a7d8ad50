package est

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"

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
// one of the known clients, a line without an end another (rule E2).
func encodeBody(der []byte) []byte {
	body := make([]byte, base64.StdEncoding.EncodedLen(len(der))+1)
	base64.StdEncoding.Encode(body, der)
	body[len(body)-1] = '\n'
	return body
}
