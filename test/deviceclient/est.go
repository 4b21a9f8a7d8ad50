package deviceclient

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/privyseal/privyseal/internal/cms"
)

// EST posts PKCS#10 requests to an EST service. The HTTP client brings the
// device's certificate.
type EST struct {
	HTTP           *http.Client
	URL            string // up to /.well-known/est or a label
	User, Password string // empty is none
}

// Enrol posts a request to an operation and returns the one certificate.
func (e *EST) Enrol(ctx context.Context, operation string, csr []byte) (*x509.Certificate, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL+"/"+operation,
		bytes.NewReader([]byte(base64.StdEncoding.EncodeToString(csr))))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/pkcs10")
	if e.User != "" {
		r.SetBasicAuth(e.User, e.Password)
	}
	body, err := answer(e.HTTP, r)
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(body)))
	if err != nil {
		return nil, err
	}
	bag, err := cms.ParseSignedData(der, cms.Limits{})
	if err != nil {
		return nil, err
	}
	if len(bag.Certificates) != 1 {
		return nil, errors.New("the answer has not exactly one certificate")
	}
	return bag.Certificates[0], nil
}
