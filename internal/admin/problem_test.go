package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

func TestEveryKindHasAnAnswer(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		w := httptest.NewRecorder()
		f := fault.New(k, "detail of it").Because("why").About("dns", "a.test").After(1500 * time.Millisecond)
		render(w, httptest.NewRequest(http.MethodGet, "/v1/x", nil), f)
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if w.Code != web.Status(k) || p.Status != w.Code || p.Kind != k.String() || p.Reason != "why" || p.Type != "about:blank" || p.Title == "" {
			t.Errorf("%s: status %d, %+v", k, w.Code, p)
		}
		if h := w.Header(); h.Get("Content-Type") != "application/problem+json" || h.Get("Retry-After") != "2" {
			t.Errorf("%s: header %v", k, h)
		}
		if hidden := k == fault.Internal; strings.Contains(p.Detail, "detail of it") == hidden || (p.Identifier.Value == "") != hidden {
			t.Errorf("%s: detail %q, identifier %v", k, p.Detail, p.Identifier)
		}
	}
}

func TestPlainErrorsTellNothing(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	render(w, httptest.NewRequest(http.MethodGet, "/v1/x", nil), errors.New("password=hunter2"))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestSubproblems(t *testing.T) {
	t.Parallel()
	f := fault.New(fault.RejectedIdentifier, "two")
	f.Sub = []*fault.Error{fault.New(fault.RejectedIdentifier, "one").About("dns", "a.test").Because("x")}
	if p := problem(f); len(p.Subproblems) != 1 || p.Subproblems[0].Identifier.Value != "a.test" || p.Subproblems[0].Reason != "x" {
		t.Errorf("%+v", p)
	}
}
