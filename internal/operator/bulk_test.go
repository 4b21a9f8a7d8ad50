package operator

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
)

func TestBar(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	var out bytes.Buffer
	b := newBar(&out, func() time.Time { return now }, 100)
	b.at(10)
	if out.Len() != 0 {
		t.Errorf("at once: %q", out.String())
	}
	now = now.Add(10 * time.Second)
	b.at(50)
	b.end()
	if got := out.String(); got != "50 of 100, about 10s left\n" {
		t.Errorf("into a file: %q", got)
	}
	out.Reset()
	b.terminal = true
	b.at(75)
	b.at(110) // more than there were
	b.end()
	lines := strings.Split(out.String(), "\r")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], "["+strings.Repeat("=", 22)+strings.Repeat(" ", 8)+"] 75 of 100, about 3s left") ||
		!strings.HasPrefix(lines[2], "["+strings.Repeat("=", 30)+"] 110 of 110\x1b[K\n") {
		t.Errorf("on a terminal: %q", lines)
	}
	out.Reset()
	empty := newBar(&out, func() time.Time { return now }, 0)
	empty.terminal = true
	empty.at(0)
	empty.end()
	if !strings.Contains(out.String(), "0 of 0") {
		t.Errorf("nothing to do: %q", out.String())
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	calls := 0
	v, err := retry(t.Context(), func() (*int, error) {
		if calls++; calls == 1 {
			return nil, &api.Problem{Status: 503, RetryAfter: 1}
		}
		return &calls, nil
	})
	if err != nil || v == nil || calls != 2 {
		t.Errorf("%v, %v after %d calls", v, err, calls)
	}
	for _, refusal := range []error{&api.Problem{Status: 400}, errors.New("broken pipe")} {
		calls = 0
		if _, err := retry(t.Context(), func() (*int, error) { calls++; return nil, refusal }); !errors.Is(err, refusal) || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := retry(ctx, func() (*int, error) { return nil, &api.Problem{Status: 503} }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
