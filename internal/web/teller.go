package web

import (
	"sync"
	"time"
)

// teller lets a line through for each key once in a minute, and counts the others. Of
// more keys than it remembers it forgets all.
type teller struct {
	now  func() time.Time
	mu   sync.Mutex
	said map[string]*said
}

type said struct {
	at     time.Time
	unsaid int
}

const maxTold = 4096

func (t *teller) may(key string) (unsaid int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if last := t.said[key]; last != nil {
		if now.Sub(last.at) < time.Minute {
			last.unsaid++
			return 0, false
		}
		unsaid = last.unsaid
	}
	if t.said == nil || len(t.said) >= maxTold {
		t.said = map[string]*said{}
	}
	t.said[key] = &said{at: now}
	return unsaid, true
}
