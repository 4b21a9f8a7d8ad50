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
	if f, alternative := d.ByStatus()[strconv.Itoa(resp.StatusCode)]; alternative {
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
	req, err := d.request(ctx, c.base, reflect.ValueOf(params), body)
	if err != nil {
		return nil, fmt.Errorf("call operator API: %w", err)
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call operator API: %w", err)
	}
	alternatives := d.ByStatus()
	_, success := alternatives[strconv.Itoa(resp.StatusCode)]
	if success || len(alternatives) == 0 && resp.StatusCode == d.Status {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	p := &Problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(p); err != nil || p.Status == 0 {
		return nil, &Problem{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode),
			Detail: "the answer was not a problem document: is this Privyseal?"}
	}
	return nil, p
}

// request writes what is set of the parameters, and the body.
func (d Described) request(
	ctx context.Context, base string, params reflect.Value, body any,
) (*http.Request, error) {
	path, query := d.Path, url.Values{}
	for _, p := range d.Parameters() {
		v := params.FieldByIndex(p.Field.Index)
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(v.String()))
		case !v.IsZero():
			text := fmt.Sprint(v.Interface())
			if at, ok := v.Interface().(time.Time); ok {
				text = at.Format(time.RFC3339Nano)
			}
			query.Set(p.Name, text)
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
	target := base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, d.Method, target, content)
	if err == nil && content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}
