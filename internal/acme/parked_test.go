package acme

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/logtest"
)

// A row on which a worker panics, or that cannot be read, is ended, logged and
// counted; the next start does not try it again, and others are served.
func TestFS19_RowsThatCannotBeWorkedOnAreParked(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, st *store.Store) {
		e := newIdleEnv(t, st)
		var log logtest.Buffer
		e.server.Log = slog.New(slog.NewTextHandler(&log, nil))
		e.restart()
		stop := e.run(t)
		c := e.account(t)
		_, corrupt := c.ready("corrupt.localhost")
		o, panics := c.ready("panics.localhost")
		stop()
		e.restart()
		pending, _ := c.order("pending.localhost")
		_, r := c.respond(pending.Authorizations[0], "http-01")
		want(t, r, http.StatusOK)
		want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "panics.localhost"))), http.StatusOK)
		if err := st.StartFinalize(t.Context(), idOf(corrupt), csr(t, nil, "corrupt.localhost"), st.Node(),
			e.now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		storetest.Exec(t, url, `UPDATE orders SET identifiers = '{}' WHERE id = '`+idOf(corrupt)+`'`)

		validator, pipeline := e.server.Validator, e.server.Pipeline
		e.server.Validator, e.server.Pipeline = nil, nil // whoever works on a row panics
		stop = e.run(t)
		eventually(t, "three rows are parked", func() bool { return e.server.Parked() == 3 })
		stop()
		e.server.Validator, e.server.Pipeline = validator, pipeline
		for _, id := range []string{idOf(corrupt), idOf(panics), idOf(pending.Authorizations[0])} {
			if !log.Has("level=ERROR", "id="+id) {
				t.Errorf("%s is not in the log: %s", id, log.String())
			}
		}
		if !log.Has("nil pointer", "goroutine", "internal/acme/validate.go") {
			t.Errorf("no stack in the log: %s", log.String())
		}

		e.restart()
		e.run(t)
		c.issue(nil, "others.localhost")
		if got := decodeInto[orderView](t, c.read(panics)); got.Status != statusInvalid ||
			!strings.Contains(string(got.Error), "place a new order") {
			t.Errorf("%+v %s", got, got.Error)
		}
		if status, r := c.await(pending.Authorizations[0], statusPending); status != statusInvalid {
			t.Errorf("%s", r.body)
		}
		if n := e.server.Parked(); n != 0 {
			t.Errorf("%d rows were parked again after the restart", n)
		}
		storetest.Exec(t, url, `UPDATE orders SET identifiers = '[]' WHERE id = '`+idOf(corrupt)+`'`)
		if got := decodeInto[orderView](t, c.read(corrupt)); got.Status != statusInvalid {
			t.Errorf("%+v", got)
		}
	})
}
