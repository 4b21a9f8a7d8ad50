package acme

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
	"github.com/privyseal/privyseal/internal/work"
)

// validationWait is how long the answer to a challenge waits for its validation.
const validationWait = time.Second

const (
	sweepEvery = 5 * time.Second
	sweepLimit = 2 * 8000 // more than a queue holds, so that what it holds hides nothing
)

// bounds hold for validations and for orders, each. An account that fills its
// share is told; so are all that come from an address that does.
var bounds = work.Bounds{Running: 64, Held: 8000, HeldOwner: 500, HeldSource: 2000}

// workers do what a client does not wait for. Whatever they hold is a row in the
// store as well.
type workers struct {
	validations *work.Queue[*attempt]
	orders      *work.Queue[*job]
	delays      []time.Duration // before the second, third … attempt
	patience    time.Duration   // how long a challenge waits for its first attempt
}

func newWorkers(s *Server) *workers {
	return &workers{
		validations: work.New(work.Config[*attempt]{
			Name: "validations", Bounds: bounds, Every: sweepEvery, Log: s.Log,
			List: s.dueAttempts, Read: s.readAttempt, Claim: s.claimAttempt, Do: s.validate, Park: s.parkAttempt,
		}),
		orders: work.New(work.Config[*job]{
			Name: "orders", Bounds: bounds, Every: sweepEvery, Log: s.Log,
			List: s.unfinishedOrders, Read: s.readJob, Claim: s.claimJob, Do: s.finish, Park: s.parkOrder,
		}),
		delays: retryDelays, patience: validationWait,
	}
}

// Run validates challenges and finishes orders until ctx ends, first those that
// were left when the last process stopped. It returns when nothing runs any more.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.work.validations.Run(ctx) })
	wg.Go(func() { s.work.orders.Run(ctx) })
	wg.Wait()
	return nil
}

// Parked is how many rows, orders and authorizations, were given up since the
// start because the server panicked on them or could not read them. Each is in
// the log, at error, with its id; more than none is a reason for an alarm.
func (s *Server) Parked() int { return s.work.validations.Parked() + s.work.orders.Parked() }

// keyOf says whose a row is: the account's, and the address's that the account
// was made from, so that many accounts are no more than one.
func keyOf(id string, a *store.Account) work.Key {
	source := a.CreatedFrom
	if ip, err := netip.ParseAddr(source); err == nil {
		source = web.Source(ip)
	}
	return work.Key{ID: id, Owner: a.ID, Source: source}
}

// tooMany refuses what does not fit into a queue, before anything is on record.
func tooMany(what string, err error) error {
	var full *work.Full
	if !errors.As(err, &full) {
		return err
	}
	text := fmt.Sprintf("this server has %d %s, the most that it takes: ask again later", full.Most, what)
	switch full.Who {
	case "owner":
		text = fmt.Sprintf("the account has %d %s, the most that it may have: wait until some are decided",
			full.Most, what)
	case "source":
		text = fmt.Sprintf("the accounts made from this account's address have %d %s, the most that they may have: "+
			"wait until some are decided", full.Most, what)
	}
	return fault.New(fault.RateLimited, "%s", text).Because("too_much_under_way").After(10 * time.Second)
}
