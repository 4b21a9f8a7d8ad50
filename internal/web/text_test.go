package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

func TestRenderText(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		w := httptest.NewRecorder()
		RenderText(w, nil, fault.New(k, "detail of it").After(1500*time.Millisecond))
		if hidden := k == fault.Internal; strings.Contains(w.Body.String(), "detail of it") == hidden {
			t.Errorf("%s: %s", k, w.Body)
		}
		if w.Header().Get("Retry-After") != "2" || w.Code < 200 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", k, w.Code, w.Header())
		}
	}
	w := httptest.NewRecorder()
	RenderText(w, nil, errors.New("password=hunter2"))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
