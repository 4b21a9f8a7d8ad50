package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/owncert"
)

// askHealth tells the board whom to ask, once everything is there.
func (srv *server) askHealth() {
	set := func() *ca.Set { return srv.signing.Load().cas() }
	cas := health.CAs{Set: set, Needs: srv.needs, Longest: srv.longest, Now: srv.now}
	for _, source := range []func(context.Context) []health.Check{
		cas.Checks, health.Lists(srv.lists.Lists, srv.needsCA), srv.responderHealth, srv.raHealth, srv.tlsHealth,
		srv.rootHealth, srv.recordsHealth, srv.secretsHealth, srv.accessHealth,
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

// recordsHealth is what the database and the audit record have to say. Where the database
// does not answer, its own check says so.
func (srv *server) recordsHealth(ctx context.Context) []health.Check {
	cfg, now := srv.cfg.Load(), srv.now()
	checks := append(health.Parked(srv.acme.Parked()), health.Audit(srv.audit.Condition()))
	if a := cfg.Audit; a.Retention != 0 {
		failed := srv.unkept.Load() // another node may have taken over since
		checks = append(checks, health.Archive(a.Archive, failed != nil && now.Sub(*failed) < 3*purgeEvery))
	}
	if nodes, err := srv.store.Nodes(ctx); err == nil {
		checks = append(checks, health.Configuration(nodes, srv.node.Name, cfg.Digest(), now.Add(-aliveFor)))
	}
	if n, err := srv.store.CountUnbound(ctx, now); err == nil {
		checks = append(checks, health.Credentials(n)...)
	}
	return checks
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
func (srv *server) report(ctx context.Context) api.Health { return srv.health.Report(ctx).API() }

// healthz says that the process answers; whether it can work is /readyz.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}
