package keys

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// The table in docs/hsm.md is the one that errors are made of.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/hsm.md")
	if err != nil {
		t.Fatal(err)
	}
	for code, c := range ckrs {
		does := "fails"
		switch {
		case c.verdict&pin != 0:
			does = "stops"
		case c.verdict&heals != 0:
			does = "reconnects"
		}
		row := fmt.Sprintf("| `%s` | 0x%02X | %s | %s | %s |\n", c.name, code, does, c.words, c.next)
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/hsm.md lacks: %s", row)
		}
	}
}

// A failure after which a retry also failed is certain only if both are.
func TestCertaintyOfTwoTries(t *testing.T) {
	t.Parallel()
	certain, open := error(&tokenError{code: 0xB3}), error(&tokenError{code: 0x30})
	for _, c := range []struct {
		first, second error
		notSigned     bool
	}{
		{certain, certain, true},
		{certain, open, false},
		{open, certain, false},
		{open, open, false},
		{errNoConnection, certain, true},
		{errReplaced, open, false},
		{certain, fmt.Errorf("%w: reconnect: %w", ErrNotSigned, open), true}, // what failed was the connecting
		{open, fmt.Errorf("%w: reconnect: %w", ErrNotSigned, certain), false},
	} {
		if err := after(c.first, c.second); errors.Is(err, ErrNotSigned) != c.notSigned {
			t.Errorf("%v, then %v: %v", c.first, c.second, err)
		}
	}
	if err := error(&tokenError{code: 0x7FFFFFFF}); errors.Is(err, ErrNotSigned) || says(err, heals) || !strings.Contains(err.Error(), "0x7FFFFFFF") {
		t.Errorf("an unknown code: %v", err)
	}
}
