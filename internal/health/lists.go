package health

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/crl"
)

// Lists returns the check of the revocation lists: expired and refused ones have
// failed, and one that ends soon or was never imported is a warning. No listener
// needs them: another node would serve the same ones. But where the lists on disk
// have revocations that the database has lost, those that needs names for the CA
// are not ready.
func Lists(all func() []crl.Status, needs func(ca string) []string) func(context.Context) []Check {
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
			case l.Lost > 0:
				what, todo := lost(l)
				worse(Failed, what, todo)
				check.Needs = append(check.Needs, needs(l.Issuer)...)
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
		slices.Sort(check.Needs)
		check.Needs = slices.Compact(check.Needs)
		return []Check{check}
	}
}

// lost says that the lists on disk know more than the database, and what to do.
func lost(l crl.Status) (what, todo string) {
	what = fmt.Sprintf("%s: the list on disk has %d revocations that the database does not have, and OCSP and "+
		"renewals go by the list: was an old backup restored?", l.Name, l.Lost)
	if l.Offline {
		return what, "privyseal crl recover " + l.Issuer + " --dry-run, then --yes"
	}
	return what, fmt.Sprintf("privyseal crl recover %s --dry-run, then --yes; with --holds also those on hold, or "+
		"privyseal crl publish %s lets holds go", l.Issuer, l.Issuer)
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
