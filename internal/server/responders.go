package server

import (
	"context"

	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/owncert"
)

// responderStates returns what there is to say of each responder, by CA.
func (srv *server) responderStates() map[string]owncert.Health {
	states := map[string]owncert.Health{}
	s := srv.signing.Load()
	for id, a := range s.ocsp.answers {
		d, key := s.ocsp.delegates[id], s.keys["ocsp-"+id]
		if d == nil && !s.cas().Get(id).Offline {
			key = s.keys[id]
		}
		var healthy func() error
		if key != nil {
			healthy = func() error { return owncert.Answers(key) }
		}
		states[id] = a.Health(d, healthy, srv.now())
	}
	return states
}

// warnResponders logs what is new about responders, once.
func (srv *server) warnResponders(ctx context.Context) {
	srv.warning.Lock()
	defer srv.warning.Unlock()
	for id, s := range srv.responderStates() {
		if s.Warning != "" && s.Warning != srv.warned[id] && s.Failed == nil {
			srv.log.WarnContext(ctx, s.Warning, "issuer", id)
		}
		srv.warned[id] = s.Warning
	}
}

// responderHealth says which responders can sign now.
func (srv *server) responderHealth(context.Context) []health.Check {
	var checks []health.Check
	lost := srv.signing.Load().cas().Lost()
	for id, s := range srv.responderStates() {
		check := health.Own("ocsp "+id, needOCSP, s)
		if lost[id] != nil { // the pool goes on, and no other node would answer
			check.Needs = nil
		}
		checks = append(checks, check)
	}
	return checks
}
