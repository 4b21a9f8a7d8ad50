package limit

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// unprovedByKey is how many requests of one key may wait at an endpoint: a device
// begins again with a new transaction a few times.
const unprovedByKey = 20

// unprovedRetry is when to come again where requests have to be decided first.
const unprovedRetry = 10 * time.Minute

// UnprovedRequest takes one new request that proves nothing and that a person has
// to decide. identity is what such requests of one key are stored under, prefix
// how the identities of all such requests begin. Two at once may both find the last
// place.
func (l *Limiter) UnprovedRequest(ctx context.Context, endpoint, prefix, identity, source string) error {
	all, own, err := l.store.CountPendingRequests(ctx, endpoint, prefix, identity, l.now())
	if err != nil {
		return err
	}
	full := func(format string, n int) error {
		return fault.New(fault.RateLimited, format, n).Because("unproved_waiting").After(unprovedRetry)
	}
	switch {
	case own >= unprovedByKey:
		return full("%d requests of this key wait at this endpoint for an operator's decision: "+
			"poll for one of them", own)
	case l.cfg.UnprovedWaiting > 0 && all >= l.cfg.UnprovedWaiting:
		return full("%d requests wait at this endpoint for an operator's decision, the most that may: "+
			"have some decided", all)
	}
	return l.take(ctx, "unproved "+source, l.cfg.Unproved, "too many requests without a proof from this source")
}
