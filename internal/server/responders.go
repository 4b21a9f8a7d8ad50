package server

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/owncert"
)

// responderState says what the responder of a CA cannot do, and what will end
// soon. key is the one that is not its delegate's to keep; nil for a delegate's.
func responderState(a ocsp.Answers, d *ocsp.Delegate, key *openKey, now time.Time) owncert.Health {
	var s owncert.Health
	if d != nil {
		s = d.Health()
	}
	r, err := a.Signer()
	switch {
	case s.Failed != nil:
		return s
	case err != nil:
		s.Failed = err
		return s
	case key != nil:
		s.Failed = owncert.Answers(key)
	}
	if c := r.Certificate(); c != nil && d == nil {
		s.NotAfter = c.NotAfter
		soon, err := owncert.Ends(c, now, "sign a new one where the CA's key is, and put it into the configuration")
		if s.Warning = soon; err != nil {
			s.Failed = err
		}
	}
	return s
}

// responderStates returns what there is to say of each responder, by CA.
func (srv *server) responderStates() map[string]owncert.Health {
	states := map[string]owncert.Health{}
	s := srv.signing.Load()
	for id, a := range s.ocsp.answers {
		d, key := s.ocsp.delegates[id], s.keys["ocsp-"+id]
		if d == nil && !s.cas().Get(id).Offline {
			key = s.keys[id]
		}
		states[id] = responderState(a, d, key, srv.now())
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
		check := ownCheck("ocsp "+id, needOCSP, s)
		if lost[id] != nil { // the pool goes on, and no other node would answer
			check.Needs = nil
		}
		checks = append(checks, check)
	}
	return checks
}
