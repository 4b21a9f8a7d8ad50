package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// Bounds of the committer: how many writes may wait, how many share a commit,
// and how long one may have waited before it is turned away untried.
const (
	queueSize = 4096
	batchSize = 256
	maxWait   = batchTimeout
)

// write is what one caller wants committed as a whole.
//
// The guards decide: every compare-and-swap and every insert that may find its
// row taken is one. If a guard touches another number of rows than it needs, the
// write is lost and its caller gets lost(index of that guard). The effects of
// the winners follow in the same transaction, then their audit events.
//
// The guards of all callers of a batch run before the effects of any. So a guard
// must not depend on what another write does in its effects, other than by
// losing to it or being ordered before it.
type write struct {
	what    string
	guards  []*stmt
	effects []*stmt
	events  []Event
	lost    func(guard int) error

	state    atomic.Int32 // waiting, running or given up
	deadline time.Time
	err      error
	done     chan struct{}
}

const (
	waiting int32 = iota
	running
	givenUp
)

// committer is one goroutine that takes all writes of this node. The
// writes that arrive while a commit is in flight form the next batch; a caller
// that is alone waits for nobody. It also owns the head of the node's audit chain.
type committer struct {
	store *Store
	queue chan *write

	mu     sync.RWMutex // guards closed against sends
	closed bool
	ended  chan struct{}

	// The goroutine alone uses what follows.
	head      Head
	headKnown bool
}

func newCommitter(s *Store) *committer {
	c := &committer{store: s, queue: make(chan *write, queueSize), ended: make(chan struct{})}
	go c.loop()
	return c
}

func (c *committer) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
	}
	c.mu.Unlock()
	<-c.ended
}

// commit hands a write to the committer and waits for its verdict. A caller that
// goes away before its turn is skipped; one whose write is being committed waits
// for the outcome, which is bounded, so that nothing is left in doubt.
func (s *Store) commit(ctx context.Context, w *write) error {
	w.done = make(chan struct{})
	w.deadline = s.cfg.Now().Add(maxWait)
	if err := s.committer.submit(w); err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		if w.state.CompareAndSwap(waiting, givenUp) {
			return failed(w.what, ctx.Err())
		}
		<-w.done
		return w.err
	}
}

func (c *committer) submit(w *write) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return failed(w.what, errors.New("the store is closed"))
	}
	select {
	case c.queue <- w:
		return nil
	default:
		return failed(w.what, errors.New("the queue of writes is full"))
	}
}

func (c *committer) loop() {
	defer close(c.ended)
	company := false
	for w := range c.queue {
		if company {
			time.Sleep(c.store.engine.gather())
		}
		batch := c.take(nil, w)
		for len(batch) < batchSize && len(c.queue) > 0 {
			batch = c.take(batch, <-c.queue)
		}
		company = len(batch) > 1
		c.commitAll(batch)
	}
}

// take adds w to the batch unless its caller has gone or waited too long.
func (c *committer) take(batch []*write, w *write) []*write {
	switch {
	case w == nil || !w.state.CompareAndSwap(waiting, running):
		return batch
	case c.store.cfg.Now().After(w.deadline):
		w.finish(failed(w.what, errors.New("waited too long for the database")))
		return batch
	default:
		return append(batch, w)
	}
}

func (w *write) finish(err error) {
	w.err = err
	close(w.done)
}

// commitAll commits a batch as one transaction. When that is impossible because
// a write lost with part of it done, or because the database refused a
// statement, nothing is kept and the writes are committed one by one.
func (c *committer) commitAll(batch []*write) {
	if len(batch) == 0 {
		return
	}
	began := time.Now() //nolint:forbidigo // only whether it failed quickly
	verdicts, err := c.try(batch)
	for tries := 0; err != nil && tries < staleTries && disconnected(err) && time.Since(began) < quickly; tries++ {
		verdicts, err = c.try(batch) // on another connection: nothing was committed
	}
	if err == nil {
		for i, w := range batch {
			w.finish(verdicts[i])
		}
		return
	}
	if away(err) {
		for _, w := range batch {
			w.finish(failed(w.what, err))
		}
		return
	}
	for i, w := range batch {
		err := c.alone(w)
		w.finish(err)
		if err != nil && errors.Is(err, errAway) {
			for _, rest := range batch[i+1:] {
				rest.finish(failed(rest.what, errAway))
			}
			return
		}
	}
}

// attempts bounds how often a single write is tried again after the database
// aborted it for reasons of its own: a deadlock, a serialisation failure, or
// another process that wrote to this node's audit chain.
const attempts = 4

// alone commits one write in its own transaction.
func (c *committer) alone(w *write) error {
	var err error
	for range attempts {
		var verdicts []error
		if verdicts, err = c.try([]*write{w}); err == nil {
			return verdicts[0]
		}
		if errors.Is(err, errPartial) {
			return w.verdict()
		}
		if away(err) {
			return failed(w.what, errors.Join(errAway, err))
		}
		if !transient(err) {
			break
		}
	}
	if taken(err) {
		return fault.Wrap(fault.Conflict, err, "it exists already")
	}
	return failed(w.what, err)
}

var (
	errPartial = errors.New("a write lost with part of it done")
	errAway    = errors.New("the database is away")
)

// try runs a batch in one transaction and returns the verdict of each write; an
// error means that nothing of it was kept, or ErrOutcomeUnknown.
func (c *committer) try(batch []*write) (verdicts []error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	tx, err := c.store.engine.begin(ctx)
	if err != nil {
		return nil, errors.Join(errAway, err)
	}
	defer func() {
		if err != nil {
			c.headKnown = false
			tx.rollback()
		}
	}()
	if err = c.guards(ctx, tx, batch); err != nil {
		return nil, err
	}
	winners, verdicts, err := judge(batch)
	if err != nil {
		return nil, err
	}
	if len(winners) == 0 {
		tx.rollback()
		return verdicts, nil
	}
	stmts, head, err := c.effects(ctx, winners)
	if err != nil {
		return nil, err
	}
	revoking, last := raisesSequence(winners), stmts
	if st := c.store.engine.announcement(); revoking && st != nil {
		last = append(last[:len(last):len(last)], st)
	}
	if err = tx.commit(ctx, last); err != nil {
		return nil, err
	}
	c.head = head
	c.count(winners, stmts)
	if revoking {
		c.store.watchers.tell(Change{})
	}
	return verdicts, nil
}

func (c *committer) guards(ctx context.Context, tx txn, batch []*write) error {
	var stmts []*stmt
	for _, w := range batch {
		for _, st := range w.guards {
			st.n = 0
		}
		stmts = append(stmts, w.guards...)
	}
	if len(stmts) == 0 {
		return nil
	}
	return tx.run(ctx, stmts)
}

// judge tells winners from losers. A loser that changed something spoils the
// batch.
func judge(batch []*write) (winners []*write, verdicts []error, err error) {
	verdicts = make([]error, len(batch))
	for i, w := range batch {
		if verdicts[i] = w.verdict(); verdicts[i] == nil {
			winners = append(winners, w)
			continue
		}
		for _, st := range w.guards {
			if st.n > 0 && !st.read {
				return nil, nil, errPartial
			}
		}
	}
	return winners, verdicts, nil
}

// verdict returns what the guards decided.
func (w *write) verdict() error {
	for i, st := range w.guards {
		if st.need == anyRows || st.n == st.need {
			continue
		}
		if w.lost != nil {
			return w.lost(i)
		}
		return fault.New(fault.Conflict, "it was changed in the meantime")
	}
	return nil
}

// effects returns what the winners have done after the guards, audit events
// last, and the audit head that will hold once it is committed.
func (c *committer) effects(ctx context.Context, winners []*write) ([]*stmt, Head, error) {
	var stmts []*stmt
	var events []Event
	for _, w := range winners {
		stmts = append(stmts, w.effects...)
		events = append(events, w.events...)
	}
	if len(events) == 0 {
		return stmts, c.head, nil
	}
	if !c.headKnown {
		head, err := c.store.auditHead(ctx, c.store.cfg.Node)
		if err != nil {
			return nil, Head{}, err
		}
		c.head, c.headKnown = head, true
	}
	inserts, head := chain(c.head, events)
	return append(stmts, inserts...), head, nil
}

func (c *committer) count(winners []*write, stmts []*stmt) {
	rows := int64(0)
	for _, w := range winners {
		for _, st := range w.guards {
			if !st.read {
				rows += st.n
			}
		}
	}
	for _, st := range stmts {
		rows += st.n
	}
	c.store.commits.Add(1)
	c.store.rows.Add(rows)
}
