package ocsp

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// cache keeps answers about one certificate each by the octets of the CertID that
// they answer. A CertID of this issuer is DER, so those octets are nothing but the
// serial, the hash and whether its parameters are NULL or absent: one certificate
// has as many answers as hashOIDs has rows, twice.
//
// The cache is ours because what it needs is not what a general cache offers: a
// look-up by octets that allocates nothing, removal of exactly the answers about
// given serials under the lock that insertion takes too, and a walk over what is
// due. A full shard drops answers that were not asked for since it was last looked
// at.
type cache struct {
	seed   maphash.Seed
	shards [shards]shard
	max    int // of one shard, in octets
}

const shards = 16

type shard struct {
	mu      sync.RWMutex
	entries map[string]*entry
	octets  int // that the entries take
}

// entry is an answer, ready to be written.
type entry struct {
	key      string
	body     []byte
	reading  reading // what it was made from
	from, to int64   // thisUpdate and nextUpdate, Unix seconds
	until    int64   // it is not given from memory from then on
	refresh  int64   // it is signed anew from then on
	used     atomic.Bool
	signer   pki.Serial // of the delegate's certificate; "" where the CA's key signed

	header header
}

// header holds the values of the HTTP header as net/http wants them, so that an
// answer allocates none.
type header struct {
	length, etag, modified, expires, control []string
}

const shardSample = 8

// newCache returns a cache of at most so many octets.
func newCache(octets int) *cache {
	c := &cache{seed: maphash.MakeSeed(), max: octets / shards}
	for i := range c.shards {
		c.shards[i].entries = map[string]*entry{}
	}
	return c
}

func (c *cache) shard(key []byte) *shard {
	return &c.shards[maphash.Bytes(c.seed, key)%uint64(len(c.shards))]
}

func (c *cache) get(key []byte) *entry {
	s := c.shard(key)
	s.mu.RLock()
	e := s.entries[string(key)]
	s.mu.RUnlock()
	return e
}

func (c *cache) put(e *entry) {
	s := c.shard([]byte(e.key))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(s.entries[e.key])
	cost := e.cost()
	if cost > c.max {
		return
	}
	for s.octets+cost > c.max {
		s.evict()
	}
	s.entries[e.key] = e
	s.octets += cost
}

// drop takes an entry out, if there is one.
func (s *shard) drop(e *entry) {
	if e != nil {
		delete(s.entries, e.key)
		s.octets -= e.cost()
	}
}

// entryOverhead is what an entry takes beside its key and its answer: itself, the
// fields of its header, what it was made from, and its place in the map, which may
// be half empty.
const entryOverhead = 1100

// cost is how many octets of memory an entry takes. It never changes.
func (e *entry) cost() int { return entryOverhead + len(e.key) + cap(e.body) + cap(e.body)/8 }

// evict drops the best of a few entries to drop: one that nobody asked for.
func (s *shard) evict() {
	var victim *entry
	seen := 0
	for _, e := range s.entries { // starts anywhere
		used := e.used.Swap(false)
		if victim == nil || !used {
			victim = e
		}
		if seen++; !used || seen == shardSample {
			break
		}
	}
	s.drop(victim)
}

// remove drops the entries for which drop holds and returns them.
func (c *cache) remove(drop func(*entry) bool) []*entry {
	var gone []*entry
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if drop(e) {
				s.drop(e)
				gone = append(gone, e)
			}
		}
		s.mu.Unlock()
	}
	return gone
}

// each calls see for every entry.
func (c *cache) each(see func(*entry)) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		for _, e := range s.entries {
			see(e)
		}
		s.mu.RUnlock()
	}
}

// size returns how many entries there are, and how many octets they take.
func (c *cache) size() (entries, octets int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		entries += len(s.entries)
		octets += s.octets
		s.mu.RUnlock()
	}
	return entries, octets
}

// about reports whether the entry answers for one of the serials.
func (e *entry) about(serials map[pki.Serial]bool) bool {
	for _, st := range e.reading.standings {
		if serials[st.serial] {
			return true
		}
	}
	return false
}

// valid reports whether the entry may be given to a client at a time: it is
// neither from the future (the clock went back) nor past its end.
func (e *entry) valid(now int64) bool { return e.from <= now && now < e.to }

// httpAge is how long a cache between us and the client may keep an answer
// (RFC 9919, section 7.2), if the answer itself lives longer: a revocation
// should not hide there for long.
const httpAge = 5 * time.Minute

// newHeader makes the header of an answer (rule O11).
func newHeader(body []byte, from, to, until int64) header {
	sum := sha256.Sum256(body)
	at := func(unix int64) []string { return []string{time.Unix(unix, 0).UTC().Format(http.TimeFormat)} }
	return header{
		length: []string{strconv.Itoa(len(body))}, etag: []string{`"` + hex.EncodeToString(sum[:]) + `"`},
		modified: at(from), expires: at(to), control: maxAgeHeader(min(int64(httpAge/time.Second), until-from)),
	}
}

// maxAgeHeader is the Cache-Control of an answer that may be kept n seconds.
func maxAgeHeader(n int64) []string {
	return []string{"max-age=" + strconv.FormatInt(max(n, 0), 10) + ", public, no-transform, must-revalidate"}
}

// cacheControl returns the prepared value while it ends before the answer does,
// and a shorter one near the end.
func (e *entry) cacheControl(now int64) []string {
	if left := e.to - now - 1; left < int64(httpAge/time.Second) {
		return maxAgeHeader(left)
	}
	return e.header.control
}
