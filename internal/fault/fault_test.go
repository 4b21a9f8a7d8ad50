package fault

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestEveryKindHasAName(t *testing.T) {
	seen := map[string]Kind{}
	for _, k := range Kinds() {
		name := k.String()
		if name == "" {
			t.Errorf("kind %d has no name", k)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("kinds %d and %d are both named %q", k, other, name)
		}
		seen[name] = k
	}
	if got := Kind(255).String(); got != "unknown" {
		t.Errorf("Kind(255) = %q, want unknown", got)
	}
}

func TestOf(t *testing.T) {
	if Of(nil) != nil {
		t.Error("Of(nil) is not nil")
	}
	if got := Of(io.EOF); got.Kind != Internal || got.Detail != "" || !errors.Is(got, io.EOF) {
		t.Errorf("a plain error became %#v, want Internal with a hidden cause", got)
	}
	wrapped := errors.Join(errors.New("while finalizing"), New(NotReady, "order is pending"))
	if !Is(wrapped, NotReady) || Is(nil, NotReady) {
		t.Error("Is does not find the fault in the chain")
	}
}

func TestWrapHidesTheCause(t *testing.T) {
	e := Wrap(Unavailable, errors.New("dial 10.0.0.7:5432: refused"), "the database is away")
	if strings.Contains(e.Detail, "10.0.0.7") || !strings.Contains(e.Error(), "10.0.0.7") {
		t.Errorf("detail %q, log text %q: the cause belongs in the log only", e.Detail, e.Error())
	}
}

func TestCopiesLeaveTheOriginal(t *testing.T) {
	e := New(Denied, "no")
	_ = e.Because("path_length").About("dns", "a.test").After(5)
	if e.Reason != "" || e.Identifier.Type != "" || e.RetryAfter != 0 {
		t.Errorf("a modifier changed its receiver: %#v", e)
	}
}
