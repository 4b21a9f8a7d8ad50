package acme

import (
	"net/http"
	"strings"
)

// allowOrigin lets a page of any origin speak ACME (RFC 8555, section 6.1):
// authority comes from signatures, never from cookies. It returns true if the
// request was a preflight, or asked for the methods, and has been answered. Who names
// no origin is no page, and some of those trip over the headers (getssl, FR18).
func allowOrigin(w http.ResponseWriter, r *http.Request, methods []string) bool {
	h := w.Header()
	h.Add("Vary", "Origin")
	page := r.Header.Get("Origin") != ""
	if page {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Link, Replay-Nonce, Location, Retry-After")
	}
	if r.Method != http.MethodOptions {
		return false
	}
	if page {
		h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Max-Age", "86400")
	}
	h.Set("Allow", strings.Join(methods, ", ")+", OPTIONS")
	w.WriteHeader(http.StatusNoContent)
	return true
}
