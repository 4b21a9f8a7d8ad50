package acme

import (
	"context"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// validationWait is how long the answer to a challenge waits for its validation.
const validationWait = time.Second

const (
	validators = 64 // validations at the same time
	finalizers = 32 // issuances at the same time
	backlog    = 4096
	sweepEvery = 5 * time.Second
	sweepLimit = 500
)

// workers do what a client does not wait for. Whatever they hold is a row in the
// store as well: a task that is dropped because the queue is full, or because
// the process dies, is found by the sweep of this or another node.
type workers struct {
	s           *Server
	validations chan attempt
	jobs        chan *job
	delays      []time.Duration // before the second, third … attempt
	patience    time.Duration   // how long a challenge waits for its first attempt

	mu   sync.Mutex
	busy map[string]bool // ids of authorizations and orders held here
}

// attempt is a challenge to validate.
type attempt struct {
	store.Authorization
	endpoint string        // of the account
	recorded chan struct{} // closed once its outcome is on record; nil if nobody waits
}

// job is an order to finish. When done is closed, the order's status, error and
// certificate say how far it came.
type job struct {
	order     store.Order
	authzs    []store.Authorization
	csr       *pki.CSR // nil: to be parsed from the order
	requestID string
	tries     int   // that failed because something was away
	err       error // why the order is invalid, if this job made it so
	done      chan struct{}
}

func newWorkers(s *Server) *workers {
	return &workers{
		s: s, validations: make(chan attempt, backlog), jobs: make(chan *job, backlog),
		delays: retryDelays, patience: validationWait, busy: map[string]bool{},
	}
}

// Run validates challenges and finishes orders until ctx ends, first those that
// were left when the last process stopped. It returns when nothing runs any more.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range validators {
		wg.Go(func() { s.work.validateAll(ctx) })
	}
	for range finalizers {
		wg.Go(func() { s.work.finalizeAll(ctx) })
	}
	s.work.sweep(ctx, true)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return nil
		case <-tick.C:
			s.work.sweep(ctx, false)
		}
	}
}

// hold marks an id as worked on here; false if it is already.
func (w *workers) hold(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[id] {
		return false
	}
	w.busy[id] = true
	return true
}

func (w *workers) release(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, id)
}

func (w *workers) held(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy[id]
}

// validate queues a challenge whose start is on record.
func (w *workers) validate(a attempt) {
	if !w.hold(a.ID) {
		a.answer()
		return
	}
	w.requeue(a)
}

func (w *workers) requeue(a attempt) {
	select {
	case w.validations <- a:
	default:
		w.release(a.ID) // the sweep finds it when it is due
		a.answer()
	}
}

// answer tells who waits that there is something to read.
func (a *attempt) answer() {
	if a.recorded != nil {
		close(a.recorded)
		a.recorded = nil
	}
}

// finalize queues an order; false if it is not, or is queued already.
func (w *workers) finalize(j *job) bool {
	if !w.hold(j.order.ID) {
		return false
	}
	select {
	case w.jobs <- j:
		return true
	default:
		w.release(j.order.ID)
		return false
	}
}

// sweep finds what nobody works on: at start everything that this node left, and
// from time to time what is overdue, whoever left it.
func (w *workers) sweep(ctx context.Context, start bool) {
	if err := w.sweepChallenges(ctx, start); err != nil && ctx.Err() == nil {
		w.s.Log.WarnContext(ctx, "pending challenges not read", "error", err)
	}
	if err := w.sweepOrders(ctx, start); err != nil && ctx.Err() == nil {
		w.s.Log.WarnContext(ctx, "processing orders not read", "error", err)
	}
}
