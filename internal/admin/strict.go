package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
)

// keptBody keeps what is read from it, for a second look.
type keptBody struct {
	source io.ReadCloser
	read   bytes.Buffer
}

func (b *keptBody) Read(p []byte) (int, error) {
	n, err := b.source.Read(p)
	b.read.Write(p[:n])
	return n, err
}

func (b *keptBody) Close() error { return b.source.Close() }

// refuseUnknown refuses query parameters and fields of the body that the API
// does not know. The generated code ignores them, and "dryrun": true must not
// sign.
func refuseUnknown(next api.StrictHandlerFunc, _ string) api.StrictHandlerFunc {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, request any) (any, error) {
		v := reflect.ValueOf(request)
		if err := checkQuery(r, v.FieldByName("Params")); err != nil {
			return nil, err
		}
		if body := v.FieldByName("Body"); body.IsValid() {
			if err := checkBody(r, body.Type().Elem()); err != nil {
				return nil, err
			}
		}
		return next(ctx, w, r, request)
	}
}

func checkQuery(r *http.Request, params reflect.Value) error {
	var known []string
	if params.IsValid() {
		for i := range params.NumField() {
			name, _, _ := strings.Cut(params.Type().Field(i).Tag.Get("form"), ",")
			known = append(known, name)
		}
	}
	for name, values := range r.URL.Query() {
		if !slices.Contains(known, name) {
			return fault.New(fault.Malformed, "there is no query parameter %q here; known: %s", name, strings.Join(known, ", ")).Because("parameter")
		}
		if len(values) > 1 {
			return fault.New(fault.Malformed, "query parameter %q is given twice", name).Because("parameter")
		}
	}
	return nil
}

func checkBody(r *http.Request, want reflect.Type) error {
	kept, ok := r.Body.(*keptBody)
	if !ok {
		return errors.New("check body: it was not kept")
	}
	if _, err := io.Copy(io.Discard, kept); err != nil { // what the decoder left unread
		return badBody(err)
	}
	d := json.NewDecoder(bytes.NewReader(kept.read.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(reflect.New(want).Interface()); err != nil {
		return fault.New(fault.Malformed, "the body: %w", err).Because("body")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Malformed, "the body goes on after its JSON object").Because("body")
	}
	return nil
}
