package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/test/acmeclient"
	"github.com/privyseal/privyseal/test/meter"
)

// honest are clients that get certificates, each by an account of its own.
type honest struct {
	accounts []*acmeclient.Client
	key      *ecdsa.PrivateKey
	orders   atomic.Int64
}

func newHonest(ctx context.Context, t *target, workers int) (*honest, error) {
	hc, err := t.client(ctx, customers, workers)
	if err != nil {
		return nil, err
	}
	h := &honest{}
	if h.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	for range workers {
		c, err := acmeclient.New(ctx, hc, t.server.Directory("default"), t.responder)
		if err != nil {
			return nil, err
		}
		if err := c.Register(ctx); err != nil {
			return nil, err
		}
		h.accounts = append(h.accounts, c)
	}
	return h, nil
}

// one gets one certificate.
func (h *honest) one(ctx context.Context, worker int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	name := fmt.Sprintf("h%d.lab.test", h.orders.Add(1))
	_, err := h.accounts[worker].Certify(ctx, h.key, func(string, time.Duration) {}, name)
	return err
}

// capacity returns how many certificates a second all clients get that ask again as
// soon as they have one.
func (h *honest) capacity(ctx context.Context, d time.Duration) (float64, error) {
	var issued, failed atomic.Int64
	var working sync.WaitGroup
	began := time.Now()
	for w := range h.accounts {
		working.Go(func() {
			for time.Since(began) < d && ctx.Err() == nil {
				if err := h.one(ctx, w); err != nil {
					fmt.Fprintln(os.Stderr, "abuse: capacity:", err)
					failed.Add(1)
					return
				}
				issued.Add(1)
			}
		})
	}
	working.Wait()
	if failed.Load() > 0 {
		return 0, errFailed
	}
	return float64(issued.Load()) / time.Since(began).Seconds(), ctx.Err()
}

// ask asks for certificates at a rate and returns the 99th percentile of what one takes,
// in milliseconds, from the moment at which it should have been asked for: a queue
// behind slow answers counts.
func (h *honest) ask(ctx context.Context, rate float64, d time.Duration) (p99 float64, err error) {
	const step = "flow"
	total := max(int(rate*d.Seconds()), 1)
	var times meter.Timings
	var next, failed atomic.Int64
	var working sync.WaitGroup
	began := time.Now()
	for w := range h.accounts {
		working.Go(func() {
			for n := next.Add(1) - 1; n < int64(total) && ctx.Err() == nil; n = next.Add(1) - 1 {
				due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
				if pause(ctx, time.Until(due)) != nil {
					return
				}
				if err := h.one(ctx, w); err != nil {
					fmt.Fprintln(os.Stderr, "abuse: honest client:", err)
					failed.Add(1)
				}
				times.Add(step, time.Since(due))
			}
		})
	}
	working.Wait()
	if n := failed.Load(); n > 0 {
		return 0, fmt.Errorf("%w: %d of %d", errFailed, n, total)
	}
	_, p99 = times.Quantiles(step)
	return p99, ctx.Err()
}
