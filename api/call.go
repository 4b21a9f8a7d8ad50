package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds an answer that is read into memory; streams are not.
const maxAnswer = 64 << 20

// Call makes the operation's request and returns its answer, or the *Problem that
// came instead. It waits a little longer than the server may take.
func (o Operation[P, B, R]) Call(ctx context.Context, c *Client, params P, body B) (*R, error) {
	d, out := o.Describe(), new(R)
	if stream, ok := any(out).(*Stream); ok {
		resp, err := d.send(ctx, c, params, body)
		if err != nil {
			return nil, err
		}
		stream.Type, stream.Body = resp.Header.Get("Content-Type"), resp.Body
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.Time+answerTime)
	defer cancel()
	resp, err := d.send(ctx, c, params, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	into := any(out)
	if alternatives := d.ByStatus(); alternatives != nil {
		f := alternatives[strconv.Itoa(resp.StatusCode)]
		member := reflect.New(f.Type.Elem())
		reflect.ValueOf(out).Elem().FieldByIndex(f.Index).Set(member)
		into = member.Interface()
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return nil, fmt.Errorf("decode answer of %s: %w", resp.Request.URL.Path, err)
	}
	return out, nil
}

// send returns the response if it is one of the declared successes.
func (d Described) send(ctx context.Context, c *Client, params, body any) (*http.Response, error) {
	req, err := d.request(ctx, reflect.ValueOf(params), body)
	if err != nil {
		return nil, fmt.Errorf("call operator API: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call operator API: %w", err)
	}
	if alternatives := d.ByStatus(); resp.StatusCode == d.Status && alternatives == nil ||
		alternatives[strconv.Itoa(resp.StatusCode)].Index != nil {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	p := &Problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(p); err != nil || p.Status == 0 {
		return nil, &Problem{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode),
			Detail: "the answer was not a problem document: is this socket Privyseal's?"}
	}
	return nil, p
}

// request writes what is set of the parameters, and the body.
func (d Described) request(ctx context.Context, params reflect.Value, body any) (*http.Request, error) {
	path, query := d.Path, url.Values{}
	for _, p := range d.Parameters() {
		v := params.FieldByIndex(p.Field.Index)
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(v.String()))
		case !v.IsZero():
			query.Set(p.Name, text(v))
		}
	}
	var content io.Reader
	if d.Body != reflect.TypeFor[None]() {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	target := "http://privyseal" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, d.Method, target, content)
	if err == nil && content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

// text is a parameter's value as the query has it.
func text(v reflect.Value) string {
	if at, ok := v.Interface().(time.Time); ok {
		return at.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v.Interface())
}
