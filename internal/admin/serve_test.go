package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
)

// asked is what an operation with that handler answers.
func asked[R any](
	ctx context.Context, d api.Declaration, f func(context.Context, api.None, *api.None) (*R, error),
) *httptest.ResponseRecorder {
	s := &Server{cfg: Config{Now: time.Now}}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/x", nil)
	s.serve(handle(api.Operation[api.None, api.None, R]{Declaration: d}, f)).ServeHTTP(w, r)
	return w
}

// An operation ends at its limit with a reason of its own; other refusals stay, and
// so does what came of a client that went away.
func TestTimeLimit(t *testing.T) {
	t.Parallel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, tt := range map[string]struct {
		ctx    context.Context
		err    error // nil: that of the context
		status int
		reason string
	}{
		"over":      {t.Context(), nil, http.StatusServiceUnavailable, "time_limit"},
		"database":  {t.Context(), fault.New(fault.Unavailable, "away"), http.StatusServiceUnavailable, "time_limit"},
		"a refusal": {t.Context(), fault.New(fault.Conflict, "used").Because("used"), http.StatusConflict, "used"},
		"gone":      {gone, nil, http.StatusInternalServerError, ""},
	} {
		late := func(ctx context.Context, _ api.None, _ *api.None) (*api.Version, error) {
			<-ctx.Done()
			if tt.err == nil {
				return nil, ctx.Err()
			}
			return nil, tt.err
		}
		w := asked(tt.ctx, api.Declaration{Time: time.Nanosecond}, late)
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != tt.status || p.Reason != tt.reason {
			t.Errorf("%s: %d %s, want %d %q", name, w.Code, w.Body, tt.status, tt.reason)
		}
	}
}

// A stream has no limit as a whole, and one that fails half-way is broken off.
func TestStreamBreaksOff(t *testing.T) {
	t.Parallel()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // net/http compares the same way
			t.Errorf("panicked with %v, want http.ErrAbortHandler", p)
		}
	}()
	asked(t.Context(), api.Declaration{}, func(ctx context.Context, _ api.None, _ *api.None) (*api.Stream, error) {
		if _, limited := ctx.Deadline(); limited {
			t.Error("the stream has a deadline")
		}
		return &api.Stream{Type: "text/plain", Write: func(w io.Writer, extend func()) error {
			extend()
			_, _ = io.WriteString(w, "half")
			return errors.New("the database went away")
		}}, nil
	})
	t.Error("a stream that failed looks whole")
}

// The longest body is that of the longest list that is imported.
func TestMaxBody(t *testing.T) {
	t.Parallel()
	if MaxBody != 2*crl.MaxImport {
		t.Errorf("bodies have %d octets at most, lists %d", MaxBody, crl.MaxImport)
	}
	for _, route := range new(Server).Operations() {
		if route.MaxBody > MaxBody {
			t.Errorf("%s takes more than the listener", route.Name)
		}
	}
}

// What decode.go would hand to encoding/json, which takes fields in any case and
// twice, is in no body.
func TestBodiesAreStrict(t *testing.T) {
	t.Parallel()
	for _, route := range new(Server).Operations() {
		strict(t, route.Name, route.Body)
	}
}

func strict(t *testing.T, where string, typ reflect.Type) {
	t.Helper()
	leaf := typ
	for leaf.Kind() == reflect.Slice || leaf.Kind() == reflect.Pointer {
		leaf = leaf.Elem()
	}
	switch {
	case leaf == reflect.TypeFor[time.Time]():
	case leaf.Kind() == reflect.Map, leaf.Kind() == reflect.Interface:
		t.Errorf("%s is a %s: decode.go does not read it strictly", where, leaf)
	case leaf.Kind() != reflect.Struct:
	case typ.Kind() == reflect.Pointer, typ.Kind() == reflect.Slice && typ.Elem() != leaf:
		t.Errorf("%s is a %s: decode.go does not read it strictly", where, typ)
	default:
		for i, name := range fieldsOf(leaf) {
			if name == "" || name == "-" || leaf.Field(i).Anonymous {
				t.Errorf("%s.%s has no name in JSON", where, leaf.Field(i).Name)
			}
			strict(t, where+"."+name, leaf.Field(i).Type)
		}
	}
}
