package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/api"
)

// FuzzBody reads bodies for every operation. What is taken is read by encoding/json
// alike and comes back the same; what is refused is not repeated.
func FuzzBody(f *testing.F) {
	routes := new(Server).Operations()
	for i, text := range []string{
		`{}`, `{"profile":"p","csr":"c","names":[{"type":"dns","value":"a"}],"not_after":"2030-01-02T03:04:05Z"}`,
		`{"records":[{"serial":"1","certificate":"AAAA","shard":1,"revocation":{"reason":"r"}}]}`, `null`,
		`{"max_uses":0}`, `{"A":"hunter2!"}`, `{"passphrase":"hunter2!","passphrase":"hunter2!"}`, `{"limit":1e999}`,
		`{"private_key":["hunter2!"]} {}`, `[[[[`, `{"hunter2!":1}`, "{\"reason\":\"\xff\"}",
	} {
		f.Add(byte(i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, n byte, text []byte) {
		body := routes[int(n)%len(routes)].Body
		got := reflect.New(body)
		if err := decode(text, got.Elem()); err != nil {
			if strings.Contains(err.Error(), "hunter2!") {
				t.Errorf("the error repeats what was sent: %v", err)
			}
			return
		}
		want := reflect.New(body)
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(want.Interface()); err != nil || d.More() {
			t.Fatalf("taken, but not by encoding/json: %v", err)
		}
		one, err := json.Marshal(got.Interface())
		if err != nil {
			return // a time whose year JSON cannot say, after a shift of time zones
		}
		if two, err := json.Marshal(want.Interface()); err != nil || !bytes.Equal(one, two) {
			t.Errorf("read as %s, not %s: %v", one, two, err)
		}
		again := reflect.New(body)
		if err := decode(one, again.Elem()); err != nil {
			t.Errorf("%s was taken and is not taken again: %v", one, err)
		}
	})
}

// FuzzQuery reads queries for every operation: what is taken has known names only,
// each once.
func FuzzQuery(f *testing.F) {
	routes := new(Server).Operations()
	for i, text := range []string{
		"", "name=a&limit=7", "name=a&name=b", "expires_after=2030-01-02", "a;b", "%zz", "limit=9e9", "LIMIT=1",
	} {
		f.Add(byte(i), text)
	}
	f.Fuzz(func(t *testing.T, n byte, query string) {
		route := routes[int(n)%len(routes)]
		into := reflect.New(route.Params).Elem()
		var known []api.Param
		for _, p := range route.Parameters() {
			if p.In == "query" {
				known = append(known, p)
			}
		}
		if err := readParams(&http.Request{URL: &url.URL{RawQuery: query}}, known, into); err != nil {
			return
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("taken: %v", err)
		}
		for _, p := range known {
			if len(values[p.Name]) > 1 {
				t.Errorf("%s was taken twice", p.Name)
			}
			delete(values, p.Name)
		}
		if len(values) > 0 {
			t.Errorf("unknown parameters were taken: %v", values)
		}
	})
}
