package health

import (
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/seal"
)

// Secrets returns the check of the key-encryption keys: which lines secrets in the
// database still need, and which secrets cannot be opened. running are the keys in use,
// kept those that the next start will read.
func Secrets(uses []credential.KeyUse, running, kept *seal.Sealer) Check {
	c := Check{Name: "key encryption"}
	var says []string
	worse := func(s State, remedy, what string, args ...any) {
		says = append(says, fmt.Sprintf(what, args...))
		if s.rank() > max(c.State.rank(), 0) {
			c.State, c.Remedy = s, remedy
		}
	}
	for i, use := range credential.Lines(running, uses) {
		line := fmt.Sprintf("line %d (key %s)", use.Line, use.ID)
		switch {
		case use.Missing:
			worse(Failed, seal.Remedy+"; if it is lost, disable such EAB keys and make others",
				"cannot be opened, because key %s is missing: %s", use.ID, use.What)
		case use.What != "" && !kept.Has(use.ID):
			worse(Warning, seal.Remedy, "%s is in use and no longer there; a restart makes unreadable: %s",
				line, use.What)
		case i > 0 && use.What != "":
			worse(Warning, "run privyseal kek reseal, then take the line out",
				"%s is still needed by %s", line, use.What)
		case i > 0:
			worse(OK, "", "nothing needs %s", line)
		}
	}
	if kept.Keys()[0].ID != running.Keys()[0].ID {
		worse(Warning, "restart this node", "another key is first since the start")
	}
	c.Detail = strings.Join(says, "; ")
	return c
}
