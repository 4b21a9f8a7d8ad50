package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/store"
)

// askHealth tells the board whom to ask, once everything is there.
func (srv *server) askHealth() {
	set := func() *ca.Set { return srv.signing.Load().cas() }
	cas := health.CAs{Set: set, Needs: srv.needs, Longest: srv.longest, Now: srv.now}
	for _, source := range []func(context.Context) []health.Check{
		cas.Checks, health.Lists(srv.lists.Lists, srv.needsCA), srv.responderHealth, srv.raHealth, srv.tlsHealth,
		srv.rootHealth,
		srv.configHealth, srv.auditHealth, srv.parkedHealth, srv.credentialHealth, srv.secretsHealth, srv.accessHealth,
		srv.archiveHealth,
	} {
		srv.health.Ask(source)
	}
	srv.health.AskEnds(cas.Ends)
	srv.health.AskEnds(health.ListEnds(srv.lists.Lists))
	srv.health.AskEnds(srv.ownEnds)
	srv.metrics.WatchEnds(srv.health.Ends)
}

// needs returns the listeners that cannot serve without a pool or a CA: what is
// answered over plain HTTP (lists, OCSP) goes on, and SCEP says so itself.
func (srv *server) needs(service string) (listeners []string, needed bool) {
	cfg := srv.cfg.Load()
	for _, e := range cfg.Endpoints {
		if e.Issuer != service {
			continue
		}
		needed = true
		at := map[string]string{
			config.ProtocolACME: listenHTTPS, config.ProtocolEST: listenEST, config.ProtocolSCEP: needSCEP,
		}[e.Protocol]
		if !slices.Contains(listeners, at) {
			listeners = append(listeners, at)
		}
	}
	return listeners, needed || cfg.Needs(service)
}

// needsCA returns the listeners that are not ready while it is not known what a CA
// has revoked: those that it issues for, and the socket, by which it is settled, only
// if there is no other.
func (srv *server) needsCA(id string) []string {
	set := srv.signing.Load().cas()
	at := set.Get(id)
	if at == nil {
		return []string{health.Operators} // a reload is taking it out
	}
	var all []string
	for _, c := range append(slices.Clone(set.Below(at)), at) {
		some, _ := srv.needs(c.Service())
		all = append(all, some...)
	}
	if len(all) == 0 {
		return []string{health.Operators}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// needSCEP and needOCSP are parts of the plain listener, which goes on without them.
const (
	needSCEP = "http/scep"
	needOCSP = "http/ocsp"
)

// longest returns the longest life of a certificate that endpoints offer of a pool
// or a CA.
func (srv *server) longest(service string) time.Duration {
	most, profiles := time.Duration(0), srv.pipeline.Rules().Profiles
	for _, e := range srv.cfg.Load().Endpoints {
		for _, name := range e.Profiles {
			if p := profiles[name]; p != nil && e.Issuer == service {
				most = max(most, p.MaxValidity())
			}
		}
	}
	return most
}

func (srv *server) databaseHealth(ctx context.Context) []health.Check {
	if err := srv.store.Ping(ctx); err != nil {
		return []health.Check{{
			Name: "database", State: health.Failed, Detail: fault.Text(err),
			Needs:  []string{listenHTTPS, listenEST, listenSocket, needSCEP},
			Remedy: "see to the database; lists and kept OCSP answers go on meanwhile",
		}}
	}
	return []health.Check{{Name: "database"}}
}

// configHealth names the nodes that run another configuration. That is no reason
// to send clients elsewhere: while a new configuration goes round, it is so on every
// node.
func (srv *server) configHealth(ctx context.Context) []health.Check {
	nodes, err := srv.store.Nodes(ctx)
	if err != nil {
		return nil // the database check says so
	}
	ours := srv.cfg.Load().Digest()
	check := health.Check{Name: "configuration", Detail: ours}
	for _, n := range nodes {
		if n.Node != srv.node.Name && n.ConfigDigest != ours && srv.now().Sub(n.SeenAt) < aliveFor {
			check.State, check.Remedy = health.Warning, "give all nodes the same configuration and reload"
			check.Detail += fmt.Sprintf("; node %s runs %s", n.Node, n.ConfigDigest)
		}
	}
	return []health.Check{check}
}

// auditHealth tells of a record that is not the one that this node saw.
func (srv *server) auditHealth(context.Context) []health.Check {
	c := srv.audit.Condition()
	check := health.Check{Name: "audit record", Detail: c.String()}
	switch {
	case len(c.Findings) > 0:
		check.State, check.Needs = health.Failed, []string{health.All}
		check.Remedy = "privyseal audit verify says what is missing; restore the newest database, or, if it is known " +
			"why: privyseal audit accept --reason TEXT"
	case c.Err != nil:
		check.State, check.Remedy = health.Warning, "see to the folder audit in state.dir, and to its disk"
	case c.Late:
		check.State = health.Warning
		check.Remedy = "run privyseal audit verify, and then privyseal audit accept --reason TEXT: from then on this " +
			"node is a witness"
	}
	return []health.Check{check}
}

// parkedHealth tells of rows that background work has given up.
func (srv *server) parkedHealth(context.Context) []health.Check {
	n := srv.acme.Parked()
	if n == 0 {
		return nil
	}
	return []health.Check{{
		Name: "background work", State: health.Warning,
		Detail: fmt.Sprintf("%d rows could not be worked on and were ended", n),
		Remedy: "the log has their ids at error: report them",
	}}
}

// credentialHealth tells of credentials that are good for any name without that
// anybody said so: those of before they were bound.
func (srv *server) credentialHealth(ctx context.Context) []health.Check {
	n, err := srv.store.CountUnbound(ctx, srv.now())
	if err != nil || n == (store.Unbound{}) {
		return nil // the database check says so
	}
	return []health.Check{{
		Name: "credentials", State: health.Warning,
		Detail: fmt.Sprintf("good for any name, because they are older than bindings: %d EST users, "+
			"%d SCEP challenges, %d EAB keys", n.ESTUsers, n.SCEPChallenges, n.EABKeys),
		Remedy: "est user list, scep challenge list and eab list show them as unbound: make others with --name, " +
			"--subject or --any-name, and disable these",
	}}
}

// secretsHealth reads the key-encryption keys anew: a line that was taken out too early
// is told while this process still has it.
func (srv *server) secretsHealth(ctx context.Context) []health.Check {
	uses, err := srv.secrets.Uses(ctx)
	if err != nil {
		return nil // the database check says so
	}
	kept, err := srv.cfg.Load().Sealer()
	if err != nil {
		return []health.Check{{
			Name: "key encryption", State: health.Warning, Detail: "key_encryption: " + err.Error(),
			Remedy: "put back what was there: the next start fails",
		}}
	}
	return []health.Check{health.Secrets(uses, srv.sealer, kept)}
}

// accessHealth says whether the records of access are as they were written.
func (srv *server) accessHealth(ctx context.Context) []health.Check {
	doubt, err := srv.access.Doubt(ctx)
	if err != nil || len(doubt) == 0 {
		return nil // the database check says so, or all is well
	}
	return []health.Check{{
		Name: "access", State: health.Failed, Detail: strings.Join(doubt, "; "),
		Remedy: "find out who changed the database; look at privyseal access list, then privyseal access accept --reason",
	}}
}

// warnOfSecrets logs what the start finds of that.
func (srv *server) warnOfSecrets(ctx context.Context) {
	for _, c := range srv.secretsHealth(ctx) {
		if c.State != health.OK && c.State != "" {
			srv.log.WarnContext(ctx, c.Name+": "+c.Detail, "remedy", c.Remedy)
		}
	}
}

// archiveHealth tells of audit events that cannot leave the database.
func (srv *server) archiveHealth(context.Context) []health.Check {
	a := srv.cfg.Load().Audit
	if a.Retention == 0 {
		return nil
	}
	check := health.Check{Name: "audit archive", Detail: a.Archive}
	failed := srv.unkept.Load() // another node may have taken over since
	if err := audit.Probe(a.Archive); err != nil {
		check.State, check.Detail = health.Warning, err.Error()
	} else if failed != nil && srv.now().Sub(*failed) < 3*purgeEvery {
		check.State, check.Detail = health.Warning, a.Archive+": events could not be moved there; the log says why"
	}
	if check.State == health.Warning {
		check.Remedy = "make the folder that audit.archive names, for the server's user to write; old audit events " +
			"stay in the database until then"
	}
	return []health.Check{check}
}

// ownCheck is the check of a certificate of our own. That a CA cannot certify one
// at all is so on every node: it stands in the check, and is no reason to send
// the clients of all others elsewhere.
func ownCheck(name, need string, s owncert.Health) health.Check {
	check := health.Check{Name: name, Detail: s.Warning}
	switch {
	case s.Failed == nil && s.Warning != "":
		check.State = health.Warning
	case s.Failed == nil:
	case owncert.Impossible(s.Failed):
		check.State, check.Detail = health.Warning, "its CA cannot certify it: "+fault.Text(s.Failed)
		check.Remedy = "take the responder or the endpoint out, or let another CA have it"
	default:
		check.State, check.Detail, check.Needs = health.Failed, fault.Text(s.Failed), []string{need}
	}
	return check
}

// ownEnds returns when the certificates of the server's own end.
func (srv *server) ownEnds() []health.End {
	var all []health.End
	add := func(kind, id string, s owncert.Health) {
		if !s.NotAfter.IsZero() {
			all = append(all, health.End{Kind: kind, ID: id, At: s.NotAfter})
		}
	}
	for id, s := range srv.responderStates() {
		add("responder", id, s)
	}
	for name, s := range srv.scep.Health() {
		add("ra", name, s)
	}
	for name, p := range srv.tls {
		for i, c := range p.All() {
			id := name
			if i > 0 {
				id += "-" + strings.ToLower(c.Leaf.PublicKeyAlgorithm.String())
			}
			all = append(all, health.End{Kind: "tls", ID: id, At: c.Leaf.NotAfter})
		}
	}
	return all
}

// report is the operator API's view of health.
func (srv *server) report(ctx context.Context) api.Health { return view(srv.health.Report(ctx)) }

func view(r health.Report) api.Health {
	out := api.Health{Ready: r.Ready, State: string(r.State), Checks: []api.HealthCheck{}}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, api.HealthCheck{
			Name: c.Name, OK: c.State != health.Failed, State: string(c.State), Detail: c.Detail, Remedy: c.Remedy,
			Since: c.Since.UTC(), Listeners: c.Needs,
		})
	}
	return out
}

// healthz says that the process answers; whether it can work is /readyz.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}
