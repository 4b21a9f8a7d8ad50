package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/work"
)

// unfinishedOrders are orders that nobody finishes: at start all that this node
// left, those of any node that are overdue, and those that a person approved.
func (s *Server) unfinishedOrders(ctx context.Context, start bool) ([]string, error) {
	node := ""
	if start {
		node = s.Node
	}
	return s.Store.UnfinishedOrders(ctx, node, s.Now(), s.Now().Add(-takeOver), sweepLimit)
}

func (s *Server) readJob(ctx context.Context, id string) (*job, work.Key, error) {
	o, authzs, err := s.Store.Order(ctx, id)
	if err != nil {
		return nil, work.Key{}, unreadable(err)
	}
	account, err := s.Store.Account(ctx, o.AccountID)
	if err != nil {
		return nil, work.Key{}, unreadable(err)
	}
	return &job{order: *o, authzs: authzs, eabKID: account.EABKID, done: make(chan struct{})}, keyOf(id, account), nil
}

// claimJob makes this node the one that finishes an order. The time since which
// it is processed stays in the job, so that an old order is given up sooner.
func (s *Server) claimJob(ctx context.Context, j *job, _ bool) (bool, error) {
	var err error
	now := s.Now()
	if j.order.Status == statusWaiting {
		err = s.Store.ResumeOrder(ctx, j.order.ID, s.Node, now)
		j.order.Status, j.order.ProcessingAt = statusProcessing, &now
	} else {
		err = s.Store.TakeOrder(ctx, j.order, s.Node, now)
	}
	if fault.Is(err, fault.Conflict) {
		return false, nil
	}
	return err == nil, err
}

// dueAttempts are attempts that nobody makes: those of a process that ended, or
// that found the queue full.
func (s *Server) dueAttempts(ctx context.Context, start bool) ([]string, error) {
	return s.Store.PendingChallenges(ctx, s.due(start), sweepLimit)
}

// due is until when an attempt's claim must have ended for another to take it.
// Where no other process can be at work, none has to be waited for at start.
func (s *Server) due(start bool) time.Time {
	if start && s.Alone {
		return s.Now().Add(claimFor)
	}
	return s.Now()
}

func (s *Server) readAttempt(ctx context.Context, id string) (*attempt, work.Key, error) {
	z, err := s.Store.Authorization(ctx, id)
	if err != nil {
		return nil, work.Key{}, unreadable(err)
	}
	account, err := s.Store.Account(ctx, z.AccountID)
	if err != nil {
		return nil, work.Key{}, unreadable(err)
	}
	return &attempt{Authorization: *z, endpoint: account.Endpoint, eabKID: account.EABKID}, keyOf(id, account), nil
}

func (s *Server) claimAttempt(ctx context.Context, a *attempt, start bool) (bool, error) {
	until := s.Now().Add(claimFor)
	a.claimed = until
	return s.Store.ClaimChallenge(ctx, a.ID, s.due(start), until)
}

// unreadable tells a row that is gone or broken from a database that is away.
func unreadable(err error) error {
	switch {
	case isNotFound(err):
		return work.ErrGone
	case errors.Is(err, store.ErrCorrupt):
		return fmt.Errorf("%w: %w", work.ErrRow, err)
	}
	return err
}

// parked is what a client reads of an order or a challenge that the server
// cannot work on. It is for the operator to look into: the cause is in the log.
var parked = fault.New(fault.Unavailable,
	"the server failed to work on this, and its operator can see why: place a new order").Because("parked")

func (s *Server) parkOrder(ctx context.Context, id string) error {
	s.Observe(Event{What: "finalize", Outcome: "parked"})
	return ended(s.Store.EndOrder(ctx, id, problemJSON(parked), s.parkedEvent("order.failed", "order:"+id)))
}

func (s *Server) parkAttempt(ctx context.Context, id string) error {
	s.Observe(Event{What: "validation", Outcome: "parked"})
	return ended(s.Store.EndChallenge(ctx, id, problemJSON(parked), *s.parkedEvent("authorization.validated", id)))
}

func (s *Server) parkedEvent(action, subject string) *store.Event {
	detail, _ := json.Marshal(map[string]string{"reason": parked.Reason}) // strings only: cannot fail
	return &store.Event{
		At: s.Now(), Action: action, Outcome: "failure", Actor: "server", Subject: subject, Detail: detail,
	}
}

// ended forgives that a row has ended already.
func ended(err error) error {
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}
