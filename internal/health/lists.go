package health

import (
	"context"
	"strings"

	"github.com/privyseal/privyseal/internal/crl"
)

// Lists returns the check of the revocation lists: expired and refused ones have
// failed, and one that ends soon or was never imported is a warning. No listener
// needs it: another node would serve the same ones.
func Lists(all func() []crl.Status) func(context.Context) []Check {
	return func(context.Context) []Check {
		check := Check{Name: "revocation lists"}
		var says []string
		worse := func(s State, what, todo string) {
			says = append(says, what)
			if s.rank() > max(check.State.rank(), 0) {
				check.State, check.Remedy = s, todo
			}
		}
		for _, l := range all() {
			fresh := "see why it is not published: privyseal crl list, and the log"
			if l.Offline {
				fresh = "sign a new list where the key is, and privyseal crl import"
			}
			switch {
			case l.Refused != "":
				worse(Failed, l.Name+": "+l.Refused,
					"privyseal crl list says what is published; the words say what to do")
			case l.State == crl.StateExpired:
				worse(Failed, l.Name+": "+l.State, fresh)
			case l.State == crl.StateAging:
				worse(Warning, l.Name+": "+l.State, fresh)
			case l.State == crl.StateMissing && l.Offline:
				worse(Warning, l.Name+": never imported", fresh)
			}
		}
		check.Detail = strings.Join(says, "; ")
		return []Check{check}
	}
}

// ListEnds returns when each list ends.
func ListEnds(all func() []crl.Status) func() []End {
	return func() []End {
		var ends []End
		for _, l := range all() {
			if l.State != crl.StateMissing {
				ends = append(ends, End{"list", l.Name, l.NextUpdate})
			}
		}
		return ends
	}
}
