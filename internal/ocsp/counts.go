package ocsp

import "sync/atomic"

// counts are an authority's counters. They survive a reload.
type counts struct {
	get, post                                       atomic.Int64
	successful, malformed, internal, later, refused atomic.Int64
	hits, signed, confirmed, stale                  atomic.Int64
	refreshed, removed, failures                    atomic.Int64
}

func (c *counts) status(out answer) {
	switch {
	case out.entry != nil:
		c.successful.Add(1)
	case out.status == MalformedRequest:
		c.malformed.Add(1)
	case out.status == TryLater:
		c.later.Add(1)
	case out.status == Unauthorized:
		c.refused.Add(1)
	default:
		c.internal.Add(1)
	}
}

// Stats are what a server counted about one authority since it was started.
type Stats struct {
	IssuerID  string
	Methods   map[string]int64         // requests by HTTP method
	Responses map[ResponseStatus]int64 // answers by status
	Hits      int64                    // from memory, nothing else done
	Signed    int64                    // signatures made
	Confirmed int64                    // from memory after the record was read again
	Stale     int64                    // from memory because key or database was away
	Refreshed int64                    // signed anew in the background
	Removed   int64                    // removed from memory by a revocation
	Failures  int64                    // of the key or the database
	Kept      int                      // answers in memory now
	KeptSize  int                      // octets that they take
}

// Stats returns the counters of all authorities.
func (s *Server) Stats() []Stats {
	var out []Stats
	for a := range s.each {
		c := a.counts
		kept, octets := a.cache.size()
		out = append(out, Stats{
			IssuerID: a.ID,
			Methods:  map[string]int64{"GET": c.get.Load(), "POST": c.post.Load()},
			Responses: map[ResponseStatus]int64{
				Successful: c.successful.Load(), MalformedRequest: c.malformed.Load(), InternalError: c.internal.Load(),
				TryLater: c.later.Load(), Unauthorized: c.refused.Load(),
			},
			Hits: c.hits.Load(), Signed: c.signed.Load(), Confirmed: c.confirmed.Load(), Stale: c.stale.Load(),
			Refreshed: c.refreshed.Load(), Removed: c.removed.Load(), Failures: c.failures.Load(), Kept: kept,
			KeptSize: octets,
		})
	}
	return out
}
