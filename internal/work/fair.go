package work

import "slices"

// fair is a queue that serves sources in turn, of each source its owners in
// turn, and of each owner the items in the order in which they came.
type fair[T any] struct {
	sources rota[*rota[*fifo[T]]]
	size    int
}

type fifo[T any] struct{ entries []*entry[T] }

// rota holds values by name, the one whose turn is next at the front.
type rota[V any] struct {
	order []string
	of    map[string]V
}

// at returns the value of a name, which gets the last place if it is new.
func (r *rota[V]) at(name string, fresh func() V) V {
	v, ok := r.of[name]
	if !ok {
		if r.of == nil {
			r.of = map[string]V{}
		}
		v = fresh()
		r.of[name] = v
		r.order = append(r.order, name)
	}
	return v
}

// served gives the name at place i the last place, or none if nothing is left of it.
func (r *rota[V]) served(i int, left bool) {
	name := r.order[i]
	r.order = slices.Delete(r.order, i, i+1)
	if left {
		r.order = append(r.order, name)
	} else {
		delete(r.of, name)
	}
}

func (f *fair[T]) line(k Key) *fifo[T] {
	owners := f.sources.at(k.Source, func() *rota[*fifo[T]] { return &rota[*fifo[T]]{} })
	return owners.at(k.Owner, func() *fifo[T] { return &fifo[T]{} })
}

func (f *fair[T]) push(e *entry[T]) {
	l := f.line(e.key)
	l.entries = append(l.entries, e)
	f.size++
}

// pushFront puts an item before the others of its owner.
func (f *fair[T]) pushFront(e *entry[T]) {
	l := f.line(e.key)
	l.entries = slices.Insert(l.entries, 0, e)
	f.size++
}

// pop takes the first item in turn whose source and owner may have one; nil if
// there is none.
func (f *fair[T]) pop(may func(Key) (bySource, byOwner bool)) *entry[T] {
	for i, source := range f.sources.order {
		owners := f.sources.of[source]
		for j, owner := range owners.order {
			l := owners.of[owner]
			bySource, byOwner := may(l.entries[0].key)
			if !bySource {
				break
			}
			if !byOwner {
				continue
			}
			e := l.entries[0]
			l.entries = slices.Delete(l.entries, 0, 1)
			owners.served(j, len(l.entries) > 0)
			f.sources.served(i, len(owners.order) > 0)
			f.size--
			return e
		}
	}
	return nil
}
