package health

import (
	"context"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/store"
)

// Database returns the check of the database. needs are the listeners that cannot serve
// without one.
func Database(st *store.Store, needs ...string) func(context.Context) []Check {
	return func(ctx context.Context) []Check {
		if err := st.Ping(ctx); err != nil {
			return []Check{{
				Name: "database", State: Failed, Detail: fault.Text(err), Needs: needs,
				Remedy: "see to the database; lists and kept OCSP answers go on meanwhile",
			}}
		}
		return []Check{{Name: "database"}}
	}
}

// Configuration names the nodes seen since a time that run another configuration than
// this one, which runs that of the digest. That is no reason to send clients elsewhere:
// while a new configuration goes round, it is so on every node.
func Configuration(nodes []store.Node, self, digest string, since time.Time) Check {
	check := Check{Name: "configuration", Detail: digest}
	for _, n := range nodes {
		if n.Node != self && n.ConfigDigest != digest && n.SeenAt.After(since) {
			check.State, check.Remedy = Warning, "give all nodes the same configuration and reload"
			check.Detail += fmt.Sprintf("; node %s runs %s", n.Node, n.ConfigDigest)
		}
	}
	return check
}

// Audit tells of a record that is not the one that this node saw.
func Audit(c audit.Condition) Check {
	check := Check{Name: "audit record", Detail: c.String()}
	switch {
	case len(c.Findings) > 0:
		check.State, check.Needs = Failed, []string{All}
		check.Remedy = "privyseal audit verify says what is missing; restore the newest database, or, if it is known " +
			"why: privyseal audit accept --reason TEXT"
	case c.Err != nil:
		check.State, check.Remedy = Warning, "see to the folder audit in state.dir, and to its disk"
	case c.Late:
		check.State = Warning
		check.Remedy = "run privyseal audit verify, and then privyseal audit accept --reason TEXT: from then on this " +
			"node is a witness"
	}
	return check
}

// Archive tells of audit events that cannot leave the database for a folder. failed says
// that the last attempt of this node failed, lately.
func Archive(folder string, failed bool) Check {
	check := Check{Name: "audit archive", Detail: folder}
	if err := audit.Probe(folder); err != nil {
		check.State, check.Detail = Warning, err.Error()
	} else if failed {
		check.State, check.Detail = Warning, folder+": events could not be moved there; the log says why"
	}
	if check.State == Warning {
		check.Remedy = "make the folder that audit.archive names, for the server's user to write; old audit events " +
			"stay in the database until then"
	}
	return check
}

// Parked tells of n rows that background work has given up.
func Parked(n int) []Check {
	if n == 0 {
		return nil
	}
	return []Check{{
		Name: "background work", State: Warning,
		Detail: fmt.Sprintf("%d rows could not be worked on and were ended", n),
		Remedy: "the log has their ids at error: report them",
	}}
}

// Credentials tells of credentials that are good for any name without that anybody said
// so: those of before they were bound.
func Credentials(n store.Unbound) []Check {
	if n == (store.Unbound{}) {
		return nil
	}
	return []Check{{
		Name: "credentials", State: Warning,
		Detail: fmt.Sprintf("good for any name, because they are older than bindings: %d EST users, "+
			"%d SCEP challenges, %d EAB keys", n.ESTUsers, n.SCEPChallenges, n.EABKeys),
		Remedy: "est user list, scep challenge list and eab list show them as unbound: make others with --name, " +
			"--subject or --any-name, and disable these",
	}}
}

// Own is the check of a certificate of the server's own, which a listener needs. That a
// CA cannot certify one at all is so on every node: it stands in the check, and is no
// reason to send the clients of all others elsewhere.
func Own(name, need string, s owncert.Health) Check {
	check := Check{Name: name, Detail: s.Warning}
	switch {
	case s.Failed == nil && s.Warning != "":
		check.State = Warning
	case s.Failed == nil:
	case owncert.Impossible(s.Failed):
		check.State, check.Detail = Warning, "its CA cannot certify it: "+fault.Text(s.Failed)
		check.Remedy = "take the responder or the endpoint out, or let another CA have it"
	default:
		check.State, check.Detail, check.Needs = Failed, fault.Text(s.Failed), []string{need}
	}
	return check
}
