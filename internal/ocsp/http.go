package ocsp

import (
	"bytes"
	"encoding/base64"
	"errors"

	"net/http"
	"strings"
	"sync"
)

// Prefix is where all responders are; the id of an authority follows.
const Prefix = "/ocsp/"

// maxPath is the longest base64 text of a GET. What is longer is sent by POST
// (RFC 9919, section 5, has 255 octets).
const maxPath = 4096

// The values of headers that are always the same. They are shared and never
// changed.
var (
	contentType = []string{"application/ocsp-response"}
	noStore     = []string{"no-store"}
	errorLength = []string{"5"}
)

// Direct answers requests below Prefix and reports whether it did. It is meant
// to stand before every router: cleaning the path or redirecting corrupts base64
// (rule O2).
func (s *Server) Direct(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(rawPath(r), Prefix) {
		return false
	}
	s.ServeHTTP(w, r)
	return true
}

// ServeHTTP answers POST and GET. All OCSP errors are HTTP 200 (rule O1).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(rawPath(r), Prefix)
	id, text, _ := strings.Cut(rest, "/")
	a := (*s.authorities.Load())[id]
	if !ok || a == nil {
		http.Error(w, "there is no OCSP responder of this name", http.StatusNotFound)
		return
	}
	buffer, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	var der []byte
	var err error
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		a.counts.get.Add(1)
		der, err = DecodePath((*buffer)[:0], text)
	case http.MethodPost:
		a.counts.post.Add(1)
		if der, err = readBody(w, r, (*buffer)[:0]); tooLarge(err) {
			http.Error(w, "an OCSP request of more than 16 KiB is not read", http.StatusRequestEntityTooLarge)
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "OCSP takes GET and POST", http.StatusMethodNotAllowed)
		return
	}
	out := refuse(MalformedRequest)
	if err == nil {
		if request, err := ParseRequest(der); err == nil {
			out = s.respond(r.Context(), a, request)
		}
	}
	s.write(w, r, a, out)
}

// buffers hold a decoded request while it is answered.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 2048)
	return &b
}}

// write sends an answer with the header of rule O11.
func (s *Server) write(w http.ResponseWriter, r *http.Request, a *authority, out answer) {
	a.counts.status(out)
	h := w.Header()
	h["Content-Type"] = contentType
	if out.entry == nil {
		h["Cache-Control"] = noStore
		h["Content-Length"] = errorLength
		_, _ = w.Write(out.status.body()) // a client that went away
		return
	}
	e := out.entry
	h["Content-Length"] = e.header.length
	if out.nonce {
		h["Cache-Control"] = noStore
		_, _ = w.Write(e.body)
		return
	}
	h["Etag"] = e.header.etag
	h["Last-Modified"] = e.header.modified
	h["Expires"] = e.header.expires
	h["Cache-Control"] = e.cacheControl(s.Now().Unix())
	if match := r.Header["If-None-Match"]; len(match) > 0 && r.Method != http.MethodPost &&
		matches(match, e.header.etag[0]) {
		delete(h, "Content-Length")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(e.body)
}

// matches reports whether If-None-Match names the tag (RFC 9110, section 13.1.2).
func matches(fields []string, tag string) bool {
	for _, field := range fields {
		for _, candidate := range strings.Split(field, ",") {
			candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
			if candidate == tag || candidate == "*" {
				return true
			}
		}
	}
	return false
}

// readBody reads a POST. Its content type is not looked at: clients differ, and
// what is not a request does not parse.
func readBody(w http.ResponseWriter, r *http.Request, into []byte) ([]byte, error) {
	b := bytes.NewBuffer(into)
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, MaxRequest))
	return b.Bytes(), err
}

func tooLarge(err error) bool {
	var limit *http.MaxBytesError
	return errors.As(err, &limit)
}

// rawPath is the path as the client sent it, without its query. A proxy may have
// made the request line absolute.
func rawPath(r *http.Request) string {
	uri := r.RequestURI
	if !strings.HasPrefix(uri, "/") {
		_, after, ok := strings.Cut(uri, "://")
		if !ok {
			return ""
		}
		slash := strings.IndexByte(after, '/')
		if slash < 0 {
			return ""
		}
		uri = after[slash:]
	}
	if query := strings.IndexByte(uri, '?'); query >= 0 {
		uri = uri[:query]
	}
	return uri
}

// DecodePath appends the request that a GET's path holds to buffer: base64, with
// percent-encoding or without, as clients write it and proxies change it (rule
// O2). Slashes before it are dropped, a space is a plus, padding may be missing.
func DecodePath(buffer []byte, text string) ([]byte, error) {
	text = strings.TrimLeft(text, "/")
	if len(text) > maxPath {
		return nil, malformed("the path is too long")
	}
	start := len(buffer)
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '%' {
			if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
				return nil, malformed("a broken percent-encoding in the path")
			}
			c = fromHex(text[i+1])<<4 | fromHex(text[i+2])
			i += 2
		}
		if c == ' ' {
			c = '+'
		}
		buffer = append(buffer, c)
	}
	encoded := bytes.TrimLeft(buffer[start:], "/") // %2F before it
	encoded = bytes.TrimRight(encoded, "=")
	if len(encoded) == 0 {
		return nil, malformed("the path holds no request")
	}
	n, err := base64.RawStdEncoding.Decode(encoded, encoded)
	if err != nil {
		return nil, malformed("the path is not base64")
	}
	return encoded[:n], nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func fromHex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
