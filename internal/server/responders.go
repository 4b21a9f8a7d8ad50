package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/ocsp"
)

// A responder certificate needs a person when less than a quarter of its life is
// left, and of a long one less than a month: a delegate of ours has a successor
// long before, that of an offline CA waits for a ceremony.
const (
	responderShare = 4
	responderMost  = 30 * 24 * time.Hour
)

// responderState says what a responder cannot do (err), and what will end soon.
func responderState(of *ca.CA, a ocsp.Answers, now time.Time) (soon string, err error) {
	r, err := a.Signer()
	if err != nil || r.Certificate() == nil {
		return "", err
	}
	c := r.Certificate()
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return "", errors.New("its responder certificate has expired")
	case left >= min(c.NotAfter.Sub(c.NotBefore)/responderShare, responderMost):
		return "", nil
	}
	next := "its successor should be here"
	if of.Offline {
		next = "sign a new one where the CA's key is, and put it into the configuration"
	}
	return fmt.Sprintf("its responder certificate expires on %s: %s", c.NotAfter.UTC().Format(time.DateOnly), next), nil
}

// warnResponders logs each responder that will stop soon, once.
func (h *house) warnResponders(ctx context.Context) {
	h.warning.Lock()
	defer h.warning.Unlock()
	s := h.signing.Load()
	for id, a := range s.ocsp.answers {
		soon, err := responderState(s.cas().Get(id), a, h.now())
		if err != nil {
			continue // told by others
		}
		if soon != "" && soon != h.warned[id] {
			h.log.WarnContext(ctx, soon, "issuer", id)
		}
		h.warned[id] = soon
	}
}

// responderEnd is when a responder certificate in use ends.
type responderEnd struct {
	at    time.Time
	alarm bool // soon, or before now
}

// responderExpiry returns when the responder certificates in use end, by CA.
func (h *house) responderExpiry() map[string]responderEnd {
	ends := map[string]responderEnd{}
	s := h.signing.Load()
	for id, a := range s.ocsp.answers {
		if r, err := a.Signer(); err == nil && r.Certificate() != nil {
			soon, err := responderState(s.cas().Get(id), a, h.now())
			ends[id] = responderEnd{r.Certificate().NotAfter, soon != "" || err != nil}
		}
	}
	return ends
}

// responderHealth says which responders can sign now.
func (h *house) responderHealth(context.Context) []api.HealthCheck {
	s := h.signing.Load()
	var checks []api.HealthCheck
	for id, a := range s.ocsp.answers {
		soon, err := responderState(s.cas().Get(id), a, h.now())
		check := api.HealthCheck{Name: "ocsp " + id, OK: err == nil, Detail: soon}
		if err != nil {
			check.OK = s.cas().Get(id).Lost != nil // the pool goes on, and no other node would answer
			check.Detail = strings.TrimSpace(fault.Text(err))
		}
		checks = append(checks, check)
	}
	return checks
}
