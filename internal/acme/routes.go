package acme

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

type (
	getHandler  func(w http.ResponseWriter, r *http.Request, ep *endpoint) error
	postHandler func(w http.ResponseWriter, r *http.Request, c *call) error
)

var (
	reading = []string{http.MethodGet, http.MethodHead, http.MethodPost}
	posting = []string{http.MethodPost}
)

// Routes is everything under /acme.
func (s *Server) Routes() chi.Router {
	r := chi.NewRouter()
	r.NotFound(s.handle(nil, func(http.ResponseWriter, *http.Request, *endpoint) error {
		return s.nothingHere()
	}))
	r.HandleFunc("/{endpoint}/directory", s.handle(reading, s.public(s.directory)))
	r.HandleFunc("/{endpoint}/new-nonce", s.handle(reading, s.public(s.newNonce)))
	r.HandleFunc("/{endpoint}/renewal-info/{certid}", s.handle(reading, s.public(s.renewalInfo)))
	for path, p := range map[string]struct {
		by keyUse
		h  postHandler
	}{
		"/new-account":         {byJWK, s.newAccount},
		"/new-order":           {byKID, s.newOrder},
		"/revoke-cert":         {byEither, s.revokeCert},
		"/key-change":          {byKID, s.keyChange},
		"/acct/{id}":           {byKID, s.account},
		"/acct/{id}/orders":    {byKID, s.orders},
		"/order/{id}":          {byKID, s.order},
		"/order/{id}/finalize": {byKID, s.finalize},
		"/authz/{id}":          {byKID, s.authorization},
		"/chall/{id}/{type}":   {byKID, s.challenge},
		"/cert/{id}":           {byKID, s.certificate},
		"/cert/{id}/{chain}":   {byKID, s.certificate},
	} {
		r.HandleFunc("/{endpoint}"+path, s.handle(posting, s.signed(p.by, p.h)))
	}
	return r
}

// Directories returns the URLs of the directories, sorted.
func (s *Server) Directories() []string {
	var all []string
	for _, ep := range s.current().endpoints {
		all = append(all, ep.url+"/directory")
	}
	slices.Sort(all)
	return all
}

// nothingHere says where a client begins.
func (s *Server) nothingHere() error {
	all := s.Directories()
	if len(all) == 0 {
		return fault.New(fault.NotFound, "there is no ACME endpoint on this server")
	}
	return fault.New(fault.NotFound, "no such ACME resource; a client begins at a directory: %s",
		strings.Join(all, " "))
}

// handle puts around a handler what all ACME resources share: CORS, the index
// link, the methods, and problem documents for errors.
func (s *Server) handle(methods []string, h getHandler) http.HandlerFunc {
	answer := web.Handler(func(w http.ResponseWriter, r *http.Request) error {
		ep := s.current().endpoints[chi.URLParam(r, "endpoint")]
		if ep == nil {
			return s.nothingHere()
		}
		if !strings.HasSuffix(r.URL.Path, "/directory") { // RFC 8555, section 7.1
			w.Header().Add("Link", ep.index)
		}
		if methods != nil && !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", ")+", OPTIONS")
			return fault.New(fault.MethodNotAllowed, "%s is not allowed here; ACME resources are read by POST-as-GET",
				r.Method)
		}
		return h(w, r, ep)
	}, s.refuse)
	return func(w http.ResponseWriter, r *http.Request) {
		if !allowOrigin(w, r, methods) {
			answer(w, r)
		}
	}
}

// public lets anybody read a resource by GET, and an account by POST-as-GET, which
// every client may use for all that there is (RFC 8555, section 6.3).
func (s *Server) public(h getHandler) getHandler {
	post := s.signed(byKID, func(w http.ResponseWriter, r *http.Request, c *call) error {
		if err := c.asGET(); err != nil {
			return err
		}
		return h(w, r, c.ep)
	})
	return func(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
		if r.Method == http.MethodPost {
			return post(w, r, ep)
		}
		return h(w, r, ep)
	}
}

// signed lets a handler see only a message that passed authenticate. Every
// answer to a POST carries a fresh nonce, errors included (rule A4).
func (s *Server) signed(by keyUse, h postHandler) getHandler {
	return func(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
		w.Header().Set("Replay-Nonce", s.nonces.next())
		w.Header().Set("Cache-Control", "no-store")
		c, err := s.authenticate(r, ep, by)
		if err != nil {
			return err
		}
		return h(w, r, c)
	}
}

// reply writes a JSON object.
func reply(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}
