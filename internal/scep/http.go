package scep

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

// maxMessage is the largest pkiMessage (rule S28).
const maxMessage = 64 << 10

// suffixes are what clients append to a path, or think that it must end in
// (rule S1).
var suffixes = []string{
	"", "/", "/pkiclient.exe", "/cgi-bin/pkiclient.exe", "/mscep.dll", "/certsrv/mscep/mscep.dll",
	"/certsrv/mscep/mscep.dll/pkiclient.exe",
}

// Routes is everything under /scep.
func (s *Server) Routes() http.Handler {
	r := chi.NewRouter()
	for _, suffix := range suffixes {
		r.HandleFunc("/{endpoint}"+suffix, web.Handler(s.serve, refuse))
	}
	r.NotFound(web.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return s.nothingAt(r.URL.Path)
	}, refuse))
	return r
}

// Elsewhere answers at the paths of Options.Paths, and leaves all others to next.
func (s *Server) Elsewhere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ep := s.elsewhere(r.URL.Path)
		if ep == nil {
			next.ServeHTTP(w, r)
			return
		}
		if route := chi.RouteContext(r.Context()); route != nil { // for metrics
			route.RoutePatterns = append(route.RoutePatterns, "/{scep-path}")
		}
		web.Handler(func(w http.ResponseWriter, r *http.Request) error { return s.serveAt(w, r, ep) }, refuse)(w, r)
	})
}

func (s *Server) elsewhere(path string) *endpoint {
	for _, ep := range s.current() {
		if slices.Contains(ep.Paths, path) {
			return ep
		}
	}
	return nil
}

// Mounted returns the paths of all endpoints, sorted.
func (s *Server) Mounted() []string {
	var all []string
	for path, ep := range s.current() {
		all = append(append(all, "/scep/"+path), ep.Paths...)
	}
	slices.Sort(all)
	return all
}

// nothingAt says what there is instead of a path.
func (s *Server) nothingAt(path string) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/scep/"), "/")
	if s.current()[name] != nil {
		return fault.New(fault.NotFound, "the SCEP endpoint is /scep/%s itself; these may follow: %s",
			name, strings.Join(suffixes[1:], " ")).Because("scep_path")
	}
	all := s.Mounted()
	if len(all) == 0 {
		return fault.New(fault.NotFound, "there is no SCEP endpoint on this server").Because("scep_path")
	}
	return fault.New(fault.NotFound, "there is no such SCEP endpoint; there is: %s", strings.Join(all, " ")).
		Because("scep_path")
}

// operations are those that are asked for by GET, but for PKIOperation.
var operations = map[string]func(*Server, http.ResponseWriter, *http.Request, *endpoint) error{
	"getcacaps":     (*Server).getCACaps,
	"getcacert":     (*Server).getCACert,
	"getnextcacert": (*Server).getNextCACert,
}

var operationNames = map[string]string{"getcacaps": "GetCACaps", "getcacert": "GetCACert",
	"getnextcacert": "GetNextCACert"}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	ep := s.current()[chi.URLParam(r, "endpoint")]
	if ep == nil {
		return s.nothingAt(r.URL.Path)
	}
	return s.serveAt(w, r, ep)
}

func (s *Server) serveAt(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	operation, _ := parameter(r.URL.RawQuery, "operation")
	name := strings.ToLower(operation)
	answer := operations[name]
	switch {
	case name == "pkioperation":
		return s.pkiOperation(w, r, ep)
	case answer == nil:
		return fault.New(fault.Malformed, "the parameter operation is none of GetCACaps, GetCACert, GetNextCACert, "+
			"PKIOperation").Because("scep_operation")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		return fault.New(fault.MethodNotAllowed, "%s is asked for by GET", operationNames[name])
	}
	began, status := s.Now(), "SUCCESS"
	err := answer(s, w, r, ep)
	if err != nil {
		status = statusError
	}
	s.Observe(Event{Endpoint: ep.Name, Message: operationNames[name], Status: status, Took: s.Now().Sub(began)})
	return err
}

// statusError is the status of an operation that HTTP answered.
const statusError = "error"

// pkiOperation reads a pkiMessage from wherever it stands and writes the answer
// to it.
func (s *Server) pkiOperation(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	began, event := s.Now(), Event{Endpoint: ep.Name, Message: messageType(0).String(), Status: statusError}
	message, err := readMessage(w, r)
	if err == nil {
		var rep *reply
		if rep, err = s.operate(r.Context(), ep, web.Source(web.Client(r)), message, &event); err == nil {
			web.Note(r.Context(), slog.String("scep_message", event.Message), slog.String("scep_status", event.Status),
				slog.String("transaction", rep.transactionID))
			if rep.cause != nil {
				web.Note(r.Context(), slog.String("error", rep.cause.Error()))
			}
			write(w, typePKIAnswer, rep.der)
		}
	}
	event.Took = s.Now().Sub(began)
	s.Observe(event)
	return err
}

// readMessage returns the DER of the message: the body of a POST, whatever its
// type is said to be (rule S4), or the parameter of a GET.
func readMessage(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	switch r.Method {
	case http.MethodGet:
		message, err := queryMessage(r.URL.RawQuery)
		if err == nil && len(message) > maxMessage {
			err = errTooLarge
		}
		return message, err
	case http.MethodPost:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return nil, errTooLarge
		}
		if err != nil {
			return nil, fault.Wrap(fault.Malformed, err, "the body cannot be read")
		}
		if len(body) == 0 { // old clients post the query of a GET
			if _, ok := parameter(r.URL.RawQuery, "message"); ok {
				return queryMessage(r.URL.RawQuery)
			}
			return nil, fault.New(fault.Malformed, "the body is empty").Because("scep_empty")
		}
		return body, nil
	}
	w.Header().Set("Allow", "GET, POST")
	return nil, fault.New(fault.MethodNotAllowed, "PKIOperation is asked for by GET or POST")
}

var errTooLarge error = fault.New(fault.TooLarge, "the message has more than %d octets", maxMessage).
	Because("scep_size")
