package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// dropUnset takes parameters without a value out of the query: the generated
// code writes the zero value of every optional one.
func dropUnset(_ context.Context, r *http.Request) error {
	unset := map[string]string{"limit": "0"}
	query, kept := r.URL.Query(), url.Values{}
	for name, values := range query {
		v := values[0]
		zeroTime := strings.HasPrefix(name, "expires_") && strings.HasPrefix(v, "0001-01-01")
		if v != "" && v != unset[name] && !zeroTime {
			kept.Set(name, v)
		}
	}
	r.URL.RawQuery = kept.Encode()
	return nil
}

// answer decodes a success, or returns the *Problem that came instead.
func answer[T any](resp *http.Response, err error) (*T, error) {
	body, err := stream(resp, err)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	v := new(T)
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(v); err != nil {
		return nil, fmt.Errorf("decode answer of %s: %w", resp.Request.URL.Path, err)
	}
	return v, nil
}

// stream returns the body of a success, or the *Problem that came instead.
func stream(resp *http.Response, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, fmt.Errorf("call operator API: %w", err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	p := &Problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(p); err != nil || p.Status == 0 {
		return nil, &Problem{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode),
			Detail: "the answer was not a problem document: is this socket Privyseal's?"}
	}
	return nil, p
}
