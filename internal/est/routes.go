package est

import (
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

// maxBody is the most that one request may have (rule E21).
const maxBody = 64 << 10

// Media types (RFC 7030, section 3.2.2; RFC 8951).
const (
	typePKCS10     = "application/pkcs10"
	typePKCS8      = "application/pkcs8"
	typeCMS        = "application/pkcs7-mime"
	typeCertsOnly  = typeCMS + "; smime-type=certs-only"
	typeResponse   = typeCMS + "; smime-type=CMC-response"
	typeEncrypted  = typeCMS + "; smime-type=server-generated-key"
	typeAttributes = "application/csrattrs"
)

// operations are the paths below an endpoint (rule E1).
var operations = map[string][]string{
	"cacerts":        reading,
	"csrattrs":       reading,
	"simpleenroll":   posting,
	"simplereenroll": posting,
	"serverkeygen":   posting,
	"fullcmc":        posting,
}

var (
	reading = []string{http.MethodGet, http.MethodHead}
	posting = []string{http.MethodPost}
)

// Routes is everything under /.well-known/est.
func (s *Server) Routes() chi.Router {
	r := chi.NewRouter()
	r.NotFound(web.Handler(func(http.ResponseWriter, *http.Request) error { return s.nothingHere() }, refuse))
	for op, h := range map[string]func(http.ResponseWriter, *http.Request, *endpoint) error{
		"cacerts":        s.cacerts,
		"csrattrs":       s.csrattrs,
		"simpleenroll":   s.simpleenroll,
		"simplereenroll": s.simplereenroll,
		"serverkeygen":   s.serverkeygen,
		"fullcmc":        s.fullcmc,
	} {
		r.HandleFunc("/"+op, s.handle(operations[op], h))
		r.HandleFunc("/{label}/"+op, s.handle(operations[op], h))
	}
	return r
}

// Mounted returns the paths of all endpoints, sorted.
func (s *Server) Mounted() []string {
	var all []string
	for label := range s.settings.Load().byLabel {
		all = append(all, strings.TrimSuffix("/.well-known/est/"+label, "/"))
	}
	slices.Sort(all)
	return all
}

// nothingHere says what there is.
func (s *Server) nothingHere() error {
	all := s.Mounted()
	if len(all) == 0 {
		return fault.New(fault.NotFound, "there is no EST endpoint on this server")
	}
	return fault.New(fault.NotFound, "there is no such EST service or operation; there is: %s, each with /%s",
		strings.Join(all, " "), strings.Join(slices.Sorted(maps.Keys(operations)), ", /"))
}

// handle finds the endpoint and puts around a handler what all operations share:
// the methods, and text for errors.
func (s *Server) handle(
	methods []string, h func(http.ResponseWriter, *http.Request, *endpoint) error,
) http.HandlerFunc {
	return web.Handler(func(w http.ResponseWriter, r *http.Request) error {
		ep := s.settings.Load().byLabel[chi.URLParam(r, "label")]
		if ep == nil {
			return s.nothingHere()
		}
		if methods != nil && !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			return fault.New(fault.MethodNotAllowed, "%s is not allowed here, only %s", r.Method,
				strings.Join(methods, " and "))
		}
		err := h(w, r, ep)
		if err != nil && ep.Auth.basic() && fault.Is(err, fault.Unauthenticated) {
			// Rule E8. In these letters, which net/http would change: libest compares them.
			w.Header()["WWW-Authenticate"] = []string{`Basic realm="EST", charset="UTF-8"`}
		}
		return err
	}, refuse)
}

// readBody reads and decodes a body of the given media type, whatever its
// parameters. A wrong type is told before a wrong body.
func readBody(r *http.Request, want string) (der []byte, err error) {
	typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || typ != want {
		return nil, fault.New(fault.UnsupportedMediaType, "the content type must be %s", want)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return nil, fault.New(fault.TooLarge, "a request may have %d octets at most", maxBody)
		}
		return nil, fault.Wrap(fault.Malformed, err, "the body cannot be read")
	}
	return decodeBody(body)
}

// reply writes a body of base64 with its length (rules E2, E3).
func (ep *endpoint) reply(w http.ResponseWriter, r *http.Request, contentType string, der []byte) {
	send(w, contentType, ep.encode(r, der), true)
}

func send(w http.ResponseWriter, contentType string, body []byte, encoded bool) {
	sendStatus(w, http.StatusOK, contentType, body, encoded)
}

func sendStatus(w http.ResponseWriter, code int, contentType string, body []byte, encoded bool) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	if encoded {
		h.Set("Content-Transfer-Encoding", "base64") // some old clients want it, nobody minds it
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}
