package web

import (
	"net/http"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
)

func TestEveryKindHasAStatus(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		if statuses[k] == 0 {
			t.Errorf("%s has no status", k)
		}
	}
	if got := Status(fault.Kind(255)); got != http.StatusInternalServerError {
		t.Errorf("an unknown kind has status %d", got)
	}
}
