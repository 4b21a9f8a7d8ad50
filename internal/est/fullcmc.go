package est

import "net/http"

// fullcmc is not offered; RFC 7030, section 4.3.2, leaves it to the server.
func (s *Server) fullcmc(w http.ResponseWriter, _ *http.Request, _ *endpoint) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotImplemented)
	_, _ = w.Write([]byte("full CMC is not offered here: use simpleenroll (no_fullcmc)\n"))
	return nil
}
