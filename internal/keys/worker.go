package keys

import (
	"context"
	"time"
)

// job is an operation on its way to the backend, and result what came of it.
type job struct {
	ctx  context.Context //nolint:containedctx // it lives as long as the operation
	run  operation
	done chan<- result // has room
}

type result struct {
	out []byte
	err error
}

// start runs a job beside its caller, who has taken a slot for it and may leave
// before it ends. The slot stays taken until the backend returns, however late,
// so that a device that hangs holds at most `parallel` goroutines at work.
func (k *Key) start(j job) {
	select {
	case k.jobs <- j:
	default:
		go k.work(j)
	}
}

// linger is how long a worker waits for another job. One that has grown its
// stack in a backend saves the next operation that cost.
const linger = time.Second

// work does a job, and others that come along.
func (k *Key) work(j job) {
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for {
		out, err := j.run(j.ctx)
		<-k.slots // before the answer: a caller may come back at once
		j.done <- result{out, err}
		timer.Reset(linger)
		select {
		case j = <-k.jobs:
		case <-k.closing:
			return
		case <-timer.C:
			return
		}
	}
}
