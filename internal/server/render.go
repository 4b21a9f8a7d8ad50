package server

import (
	"net/http"
	"strconv"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

// renderText answers a fault in one line of text.
func renderText(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	detail := f.Detail
	if detail == "" || f.Kind == fault.Internal {
		detail = "internal error"
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds()+0.5)))
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, detail, web.Status(f.Kind))
}
