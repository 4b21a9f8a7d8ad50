package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

// pageTime is how long a client of a stream may take for one page.
const pageTime = 30 * time.Second

// Route is an operation with its handler.
type Route struct {
	api.Described
	// call reads the parameters and the body, calls the handler and returns a
	// pointer to the answer.
	call func(ctx context.Context, read func(params, body any) error) (any, error)
}

// handle puts a handler to an operation: what it takes and returns is what the
// operation declares.
func handle[P, B, R any](op api.Operation[P, B, R], f func(context.Context, P, *B) (*R, error)) Route {
	return Route{op.Describe(), func(ctx context.Context, read func(params, body any) error) (any, error) {
		var params P
		var body B
		if err := read(&params, &body); err != nil {
			return nil, err
		}
		return f(ctx, params, &body)
	}}
}

// serve is the HTTP handler of a route.
func (s *Server) serve(route Route) http.Handler {
	return web.Handler(func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		if !route.Streams() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, route.Time)
			defer cancel()
		}
		answer, err := route.call(ctx, func(params, body any) error {
			if err := readParams(r, route.Parameters(), reflect.ValueOf(params).Elem()); err != nil {
				return err
			}
			return readBody(w, r, route.MaxBody, reflect.ValueOf(body).Elem())
		})
		if err != nil {
			return late(ctx, r, route.Time, err)
		}
		if stream, ok := answer.(*api.Stream); ok {
			s.stream(w, stream)
			return nil
		}
		return answerJSON(w, route.Described, reflect.ValueOf(answer).Elem())
	}, render)
}

// late makes an error that came after the operation's time was over say so, unless
// its client had gone.
func late(ctx context.Context, r *http.Request, limit time.Duration, err error) error {
	over := errors.Is(ctx.Err(), context.DeadlineExceeded) && r.Context().Err() == nil
	if kind := fault.Of(err).Kind; !over || kind != fault.Internal && kind != fault.Unavailable {
		return err
	}
	detail := "it took longer than %s and was stopped: look how far it came before you send it again"
	return fault.Wrap(fault.Unavailable, err, fmt.Sprintf(detail, limit)).Because("time_limit")
}

// answerJSON writes the answer, or that of its members which is set, as JSON.
func answerJSON(w http.ResponseWriter, d api.Described, answer reflect.Value) error {
	for text, f := range d.ByStatus() {
		if member := answer.FieldByIndex(f.Index); !member.IsNil() {
			code, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("%s: status of %s: %w", d.Name, f.Name, err)
			}
			d.Status, d.Result = code, f.Type.Elem()
			return answerJSON(w, d, member.Elem())
		}
	}
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(answer.Interface()); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(d.Status)
	_, _ = text.WriteTo(w) // the client is gone; nobody is left to tell
	return nil
}

// stream writes an answer page by page. When it fails half-way the connection is
// broken off: a short answer must not look whole.
func (s *Server) stream(w http.ResponseWriter, answer *api.Stream) {
	w.Header().Set("Content-Type", answer.Type)
	out := http.NewResponseController(w)
	extend := func() {
		// Only a server that has no deadlines refuses this, and then none is needed.
		_ = out.SetWriteDeadline(s.cfg.Now().Add(pageTime))
	}
	if err := answer.Write(w, extend); err != nil {
		panic(http.ErrAbortHandler)
	}
}
