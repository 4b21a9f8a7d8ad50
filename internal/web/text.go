package web

import (
	"net/http"
	"strconv"

	"github.com/privyseal/privyseal/internal/fault"
)

// RenderText answers a fault in one line of text: the Detail of the fault, never
// its cause.
func RenderText(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	detail := f.Detail
	if detail == "" || f.Kind == fault.Internal {
		detail = "internal error"
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds()+0.5)))
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, detail, Status(f.Kind))
}
