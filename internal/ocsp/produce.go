package ocsp

import (
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

const (
	// maxAge is how old the last look at the sequences may be for answers from
	// memory: a second (ARCHITECTURE, section 4) less the time to answer.
	maxAge = 750 * time.Millisecond
	// readTimeout and makeTimeout bound what a client waits for.
	readTimeout = 2 * time.Second
	makeTimeout = 5 * time.Second
	// unknownFor is how long an answer about a serial that is not on record is
	// kept: it may be issued, or imported, later.
	unknownFor = time.Minute
	// unknownValidity is the validity of such an answer.
	unknownValidity = 5 * time.Minute
	// logEvery is the seconds between two lines about failures.
	logEvery = 5
)

// answer is what goes to the client: an entry, or an error status.
type answer struct {
	status ResponseStatus
	entry  *entry
	nonce  bool // the entry carries the client's nonce
}

func refuse(status ResponseStatus) answer { return answer{status: status} }

// respond answers a request. In the common case that is nothing but a look-up.
func (s *Server) respond(ctx context.Context, a *authority, r *Request) answer {
	for i := range r.CertIDs {
		if !a.issued(&r.CertIDs[i]) {
			return refuse(Unauthorized) // RFC 9919, section 3.2.3
		}
	}
	now, checked := s.Now(), s.checked.Load() // before the cache is asked
	fresh := checked != nil && now.Sub(*checked) <= maxAge
	key := r.key()
	out := answer{}
	if r.kept() {
		out.entry = a.cache.get(key)
	}
	if e := out.entry; e != nil && fresh && e.valid(now.Unix()) && now.Unix() < e.until {
		if !e.used.Load() {
			e.used.Store(true)
		}
		a.counts.hits.Add(1)
	} else {
		out = s.ask(ctx, a, string(key), r, e)
	}
	if r.Nonce == nil || a.Policy.Mode != Live || out.entry == nil {
		return out
	}
	known := out.entry.reading
	if fresh && !a.Offline && !known.unknown() && checked.After(known.at) {
		known.at = *checked // nothing about these certificates had changed then
	}
	return s.live(ctx, a, r, known, out)
}

// kept reports whether answers to such a request are kept: those about one
// certificate. Of several, anybody can make as many combinations as there is
// memory.
func (r *Request) kept() bool { return len(r.CertIDs) == 1 }

// key is what an answer answers: the CertIDs as they came, because it repeats them
// octet by octet.
func (r *Request) key() []byte {
	if len(r.CertIDs) == 1 {
		return r.CertIDs[0].Raw
	}
	var all []byte
	for i := range r.CertIDs {
		all = append(all, r.CertIDs[i].Raw...)
	}
	return all
}

// ask makes an answer and shares it with everybody who asks the same meanwhile.
func (s *Server) ask(ctx context.Context, a *authority, key string, r *Request, have *entry) answer {
	made := a.flights.do(key, s.Now(), func() answer {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTimeout)
		defer cancel()
		release, err := s.slot(ctx)
		if err != nil {
			return refuse(TryLater)
		}
		defer release()
		return s.make(ctx, a, key, r.clone(), have)
	})
	if made.entry != nil {
		made.entry.used.Store(true)
	}
	return made
}

// slot waits for its turn.
func (s *Server) slot(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// make reads the records and signs, or gives what it has where that still says
// the same.
func (s *Server) make(ctx context.Context, a *authority, key string, ids []CertID, have *entry) answer {
	now := s.Now()
	usable := have != nil && have.valid(now.Unix())
	read, err := s.lookUp(ctx, a, serials(ids))
	if err != nil {
		return s.withoutRecords(a, have, usable, now, err)
	}
	if usable && now.Unix() < have.until && have.reading.same(read) {
		a.counts.confirmed.Add(1)
		return answer{entry: have}
	}
	if read.unknown() && a.Policy.Unknown == UnknownUnauthorized {
		return refuse(Unauthorized)
	}
	e, err := s.sign(ctx, a, key, ids, nil, read)
	if err != nil {
		s.failed(a, "sign OCSP response", err)
		if usable && have.reading.same(read) { // rule O9
			a.counts.stale.Add(1)
			return answer{entry: have}
		}
		return refuse(TryLater)
	}
	if len(ids) == 1 {
		a.keep(e)
	}
	return answer{entry: e}
}

// withoutRecords answers while the database does not: what is kept may be given
// for as long as the policy says, though another node may know better.
func (s *Server) withoutRecords(a *authority, have *entry, usable bool, now time.Time, err error) answer {
	s.failed(a, "read status", err)
	if checked := s.checked.Load(); usable && checked != nil && now.Sub(*checked) <= a.Policy.Outage {
		a.counts.stale.Add(1)
		return answer{entry: have}
	}
	return refuse(TryLater)
}

// live signs an answer for one request, with its nonce. When nobody can sign now,
// the answer that is kept is better than none; the client sees that its nonce is
// missing.
func (s *Server) live(ctx context.Context, a *authority, r *Request, known reading, kept answer) answer {
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	release, err := s.slot(ctx)
	if err != nil {
		return refuse(TryLater)
	}
	defer release()
	e, err := s.sign(ctx, a, "", r.CertIDs, r.Nonce, known)
	if err != nil {
		s.failed(a, "sign OCSP response", err)
		a.counts.stale.Add(1)
		return kept
	}
	return answer{entry: e, nonce: true}
}

func serials(ids []CertID) []pki.Serial {
	out := make([]pki.Serial, len(ids))
	for i := range ids {
		out[i] = ids[i].Serial()
	}
	return out
}

// clone copies what outlives the request.
func (r *Request) clone() []CertID {
	ids := slices.Clone(r.CertIDs)
	for i := range ids {
		ids[i].Raw, ids[i].number = slices.Clone(ids[i].Raw), slices.Clone(ids[i].number)
	}
	return ids
}

var errSignerGone = errors.New("the responder certificate has expired")

// sign makes the answer that says what was read.
func (s *Server) sign(
	ctx context.Context, a *authority, key string, ids []CertID, nonce []byte, read reading,
) (*entry, error) {
	responder, err := a.facts.Load().signer()
	if err != nil {
		return nil, err
	}
	from, to, err := a.period(read, s.Now(), responder.Certificate())
	if err != nil {
		return nil, err
	}
	data := Data{Responder: responder.KeyHash(), ProducedAt: from, Nonce: nonce}
	if a.Offline {
		data.ProducedAt = s.Now() // the list is older
	}
	for i, id := range ids {
		data.Responses = append(data.Responses, a.single(id, read.standings[i], data.ProducedAt, from, to))
	}
	tbs, err := data.Encode()
	if err != nil {
		return nil, err
	}
	basic, err := responder.SignOCSP(ctx, tbs, nonce == nil)
	if err != nil {
		return nil, err
	}
	body, err := wrap(basic)
	if err != nil {
		return nil, err
	}
	a.counts.signed.Add(1)
	if nonce != nil { // it is written once, and no cache may keep it
		return &entry{body: body, header: header{length: []string{strconv.Itoa(len(body))}}}, nil
	}
	e := newEntry(key, body, read, from, to)
	if c := responder.Certificate(); c != nil {
		e.signer = pki.SerialFromBig(c.SerialNumber)
	}
	return e, nil
}

// period returns thisUpdate and nextUpdate: the policy's validity, cut where the
// delegate's certificate or the list ends (rule O6).
func (a *authority) period(read reading, now time.Time, delegate *x509.Certificate) (from, to time.Time, err error) {
	from = read.at.Truncate(time.Second)
	validity := a.Policy.Validity
	if read.unknown() {
		validity = min(validity, unknownValidity)
	}
	to = from.Add(validity)
	if a.Offline {
		to = now.Truncate(time.Second).Add(validity)
	}
	if !read.end.IsZero() && to.After(read.end) {
		to = read.end
	}
	if delegate != nil && to.After(delegate.NotAfter) {
		to = delegate.NotAfter
	}
	if !to.After(now) {
		return from, to, errSignerGone
	}
	return from, to, nil
}

func (a *authority) single(id CertID, st standing, produced, from, to time.Time) Single {
	out := Single{CertID: id.Raw, Status: st.status, Reason: st.reason, RevokedAt: st.revokedAt, ThisUpdate: from,
		NextUpdate: to}
	if out.RevokedAt.After(from) { // a clock was ahead; a date to come means not yet
		out.RevokedAt = from
	}
	if st.status == Unknown && a.Policy.Unknown == UnknownRevoked {
		out.Status = NotIssued
	}
	if a.Policy.ArchiveCutoff > 0 && !st.notAfter.IsZero() && st.notAfter.Before(produced) { // RFC 6960, section 4.4.4
		out.ArchiveCutoff = produced.Add(-a.Policy.ArchiveCutoff)
	}
	return out
}

func newEntry(key string, body []byte, read reading, from, to time.Time) *entry {
	life := to.Sub(from)
	e := &entry{key: key, body: body, reading: read, from: from.Unix(), to: to.Unix(), until: to.Unix()}
	if read.unknown() {
		e.until = min(e.until, from.Add(unknownFor).Unix())
	}
	// Half of the life, give or take a tenth, so that what was signed together is
	// not signed anew together.
	//nolint:gosec,forbidigo // jitter
	e.refresh = from.Add(life*2/5 + time.Duration(rand.Int64N(int64(life/5)+1))).Unix()
	e.header = newHeader(body, e.from, e.to, e.until)
	return e
}

// keep puts an answer into the cache, unless a change that may concern it was
// applied since its records were read (invariant 6), or its signer was distrusted
// since it was asked.
func (a *authority) keep(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.reading.sequence >= a.known && e.reading.witness == a.witness && !a.distrusted[e.signer] {
		a.cache.put(e)
	}
}

// failed counts a failure, and logs one of an authority's every few seconds: while
// a key or the database is away, every request would be a line.
func (s *Server) failed(a *authority, what string, err error) {
	a.counts.failures.Add(1)
	now, last := s.Now().Unix(), a.logged.Load()
	if now-last < logEvery && now >= last || !a.logged.CompareAndSwap(last, now) {
		return
	}
	s.Log.Error("OCSP: "+what, "issuer", a.ID, "error", err)
}

// flights lets one caller work for all who want the same. Nobody joins work that
// began more than maxAge ago: it may not know of a revocation that he should see.
type flights struct {
	mu   sync.Mutex
	open map[string]*flight
}

type flight struct {
	began  time.Time
	done   chan struct{}
	answer answer
}

func (f *flights) do(key string, now time.Time, work func() answer) answer {
	f.mu.Lock()
	if other := f.open[key]; other != nil && now.Sub(other.began) <= maxAge {
		f.mu.Unlock()
		<-other.done
		return other.answer
	}
	if f.open == nil {
		f.open = map[string]*flight{}
	}
	own := &flight{began: now, done: make(chan struct{}), answer: refuse(InternalError)}
	f.open[key] = own
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		if f.open[key] == own {
			delete(f.open, key)
		}
		f.mu.Unlock()
		close(own.done)
	}()
	own.answer = work()
	return own.answer
}
