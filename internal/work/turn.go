package work

// Turn is an item's time with a worker.
type Turn struct {
	enter   func(target string) bool
	entered map[string]bool
	refused string
}

// Enter asks whether the attempt may turn to a target, such as the address that
// it is about to connect to. If not, the attempt has to end with Wait, which
// makes room for others and leaves the item's number of tries as it is.
func (t *Turn) Enter(target string) bool {
	target = "target " + target
	if t.entered[target] {
		return true
	}
	if !t.enter(target) {
		t.refused = target
		return false
	}
	if t.entered == nil {
		t.entered = map[string]bool{}
	}
	t.entered[target] = true
	return true
}

// enter counts an attempt at a target. Three quarters of the workers may be busy
// with one: more than a single source gets, so that it cannot keep others from a
// target that they share, and less than all. Who waits for the target goes before
// who just came.
func (q *Queue[T]) enter(target, lent string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.free(target) || q.waiting[target] != nil && lent != target {
		return false
	}
	q.running[target]++
	return true
}

func (q *Queue[T]) free(target string) bool {
	n := q.cfg.Bounds.Running
	return q.running[target] < n-n/4
}

// wait puts an item aside until its target is lent to it. An attempt that ends
// with Wait though no target refused it is simply made again.
func (q *Queue[T]) wait(e *entry[T], target string) {
	if target == "" || q.free(target) && q.waiting[target] == nil {
		e.lent = target
		q.ready.push(e)
		return
	}
	if q.waiting[target] == nil {
		q.waiting[target] = &fair[T]{}
	}
	q.waiting[target].push(e)
}

// lend lets one of those that wait for a target try it, if it is free. Each
// attempt at the target lends to one when it ends, and so does one to which the
// target was lent and that did not come to it, so that nobody is forgotten.
func (q *Queue[T]) lend(target string) {
	f := q.waiting[target]
	if f == nil || !q.free(target) {
		return
	}
	e := f.pop(func(Key) (bool, bool) { return true, true })
	if f.size == 0 {
		delete(q.waiting, target)
	}
	e.lent = target
	q.ready.pushFront(e)
}
