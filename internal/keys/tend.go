package keys

import (
	"context"
	"time"
)

// tend keeps a key in a token awake until it is closed: a signature now and then
// where none is asked for, and every second while the key is ill, so that it
// heals although nobody uses it.
func (k *Key) tend() {
	const look = time.Second
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for idle := time.Duration(0); ; {
		select {
		case <-k.closing:
			return
		case <-ticker.C:
		}
		if idle += look; k.Healthy() == nil && idle < k.cfg.KeepAlive {
			continue
		}
		idle = 0
		_ = k.KeepAlive(context.Background()) // Healthy tells
	}
}

// reported passes on what a token does beside operations: see Event.
func (k *Key) reported(op string, err error) {
	if k.cfg.Observe != nil {
		k.cfg.Observe(Event{Ref: k.ref, Op: op, Waiting: int(k.waiting.Load()), Err: err})
	}
}
