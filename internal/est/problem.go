package est

import (
	"net/http"
	"strconv"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

// status is the HTTP status of a fault: that of plain HTTP, but for two kinds. A
// limit is 503, not 429: RFC 7030 knows Retry-After with 202 and 503, and so do
// its clients.
func status(k fault.Kind) int {
	switch k {
	case fault.RateLimited:
		return http.StatusServiceUnavailable
	case fault.InvalidProfile:
		return http.StatusNotFound
	}
	return web.Status(k)
}

// refuse says in a line of text what is wrong (RFC 8951, section 5): the detail
// and the stable reason that every protocol gives for the same refusal. What the
// client is not told is in the request's log line.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	f := fault.Of(err)
	text := plainText(f)
	for _, sub := range f.Sub {
		text += "\n" + sub.Detail
	}
	h := w.Header()
	if after := retryAfter(f); after > 0 {
		h.Set("Retry-After", strconv.Itoa(seconds(after)))
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status(f.Kind))
	_, _ = w.Write([]byte(text + "\n"))
}

// plainText is the detail of a fault and its reason in brackets.
func plainText(f *fault.Error) string {
	text := f.Detail
	switch {
	case f.Kind == fault.Internal:
		return "the server failed to process the request"
	case text == "":
		text = f.Kind.String()
	}
	if f.Reason != "" {
		text += " (" + f.Reason + ")"
	}
	return text
}

// seconds rounds up, as Retry-After counts.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// retryAfter is when to come back; kinds that ask for it always say when.
func retryAfter(f *fault.Error) time.Duration {
	if f.RetryAfter > 0 {
		return f.RetryAfter
	}
	switch f.Kind {
	case fault.RateLimited:
		return time.Minute
	case fault.Unavailable, fault.Pending:
		return 5 * time.Second
	}
	return 0
}
