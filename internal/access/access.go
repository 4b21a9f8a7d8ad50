// Package access decides who may do what: people and their logins, sessions and
// tokens, grants of roles within scopes, and blocks. It proves no login and speaks no
// HTTP.
//
// All records are one set, kept in memory and replaced as a whole. Each row stands
// under a MAC whose key comes from the key-encryption key; the set's digest and a
// number that only rises stand in the database under a MAC, and in the audit chain.
// Where these disagree the set is in doubt and grants nothing, until Accept.
//
// The uids of Config.Local are administrators whatever the records say.
//
// Start with New; Peer and Bearer tell who asks, Decide whether they may.
package access

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
)

// maxRecords bounds the set, which every node holds in memory.
const maxRecords = 20_000

// changeTries bounds how often a change is decided anew because another came first.
const changeTries = 8

// Config is what Access stands on.
type Config struct {
	Store  *store.Store
	Sealer *seal.Sealer
	Now    func() time.Time
	// Local are the uids that are administrators at the socket without any record.
	Local []uint32
}

// Access holds the records. Its methods may be called from many goroutines.
type Access struct {
	cfg   Config
	rules atomic.Pointer[Rules]

	mu      sync.Mutex
	now     *snapshot // as last read
	highest int64     // number that was ever seen
}

// New returns an Access without rules of the configuration. It reads nothing yet.
func New(cfg Config) *Access {
	a := &Access{cfg: cfg}
	a.Swap(Rules{})
	return a
}

// Kinds of records.
const (
	kindPerson  = "person"
	kindLogin   = "login"
	kindGrant   = "grant"
	kindBlock   = "block"
	kindToken   = "token"
	kindSession = "session"
)

type key struct{ kind, id string }

// snapshot is the set as of one number. It is never changed.
type snapshot struct {
	state    store.AccessState
	rows     map[key]store.AccessRecord
	people   map[string]Person
	logins   map[string]LoginRecord // by subject
	grants   []Grant
	blocks   []Block
	tokens   []Token
	sessions []Session
	secrets  map[string]key // by digest
	witness  int64          // the highest number that is known of
	doubt    []string       // what does not agree; empty if all does
}

// trusted is the refusal while the records do not agree with their witnesses.
func (s *snapshot) trusted() error {
	if len(s.doubt) == 0 {
		return nil
	}
	detail := "the records of access are not as they were written (%s): only the administrators of the socket are " +
		"let in, until one of them has settled it with privyseal access accept"
	return fault.New(fault.Unavailable, detail, s.doubt[0]).Because("access_doubt")
}

// Doubt returns what does not agree, read anew from the database.
func (a *Access) Doubt(ctx context.Context) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, err := a.read(ctx)
	if err != nil {
		return nil, err
	}
	return s.doubt, nil
}

// current returns the set as the database has it now.
func (a *Access) current(ctx context.Context) (*snapshot, error) {
	st, err := a.cfg.Store.AccessState(ctx)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.now; s != nil && len(s.doubt) == 0 && s.state.Number == st.Number &&
		slices.Equal(s.state.Digest, st.Digest) && slices.Equal(s.state.MAC, st.MAC) {
		return s, nil
	}
	return a.read(ctx)
}

// read reads the set and holds it against its witnesses.
func (a *Access) read(ctx context.Context) (*snapshot, error) {
	st, rows, witness, err := a.cfg.Store.Access(ctx)
	if err != nil {
		return nil, err
	}
	s := a.build(st, rows)
	last := newest(witness)
	s.witness = max(last.Number, a.highest)
	s.doubt = append(s.doubt, a.disagree(st, rows, last)...)
	a.now, a.highest = s, max(a.highest, st.Number)
	return s, nil
}

func (a *Access) build(st store.AccessState, rows []store.AccessRecord) *snapshot {
	s := &snapshot{
		state: st, rows: map[key]store.AccessRecord{}, people: map[string]Person{},
		logins: map[string]LoginRecord{}, secrets: map[string]key{},
	}
	for _, r := range rows {
		at := key{r.Kind, r.ID}
		s.rows[at] = r
		if len(r.Digest) > 0 {
			s.secrets[string(r.Digest)] = at
		}
		err := a.cfg.Sealer.CheckMAC("access", covered(r), r.MAC)
		if err == nil {
			err = s.take(r)
		}
		if err != nil {
			s.doubt = append(s.doubt, fmt.Sprintf("%s %s was altered", r.Kind, r.ID))
		}
	}
	return s
}

// take reads one row's body.
func (s *snapshot) take(r store.AccessRecord) error {
	switch r.Kind {
	case kindPerson:
		p, err := decode[Person](r)
		s.people[r.ID] = p
		return err
	case kindLogin:
		l, err := decode[LoginRecord](r)
		s.logins[r.ID] = l
		return err
	case kindGrant:
		return into(&s.grants, r)
	case kindBlock:
		return into(&s.blocks, r)
	case kindToken:
		return into(&s.tokens, r)
	case kindSession:
		return into(&s.sessions, r)
	}
	return errors.New("a kind that this release does not know")
}

func decode[T any](r store.AccessRecord) (v T, err error) {
	if err = json.Unmarshal([]byte(r.Body), &v); err != nil {
		err = fmt.Errorf("read %s %s: %w", r.Kind, r.ID, err)
	}
	return v, err
}

func into[T any](all *[]T, r store.AccessRecord) error {
	v, err := decode[T](r)
	*all = append(*all, v)
	return err
}

// edit is what a change does to the set: rows to write, without number and MAC, and
// rows to remove.
type edit struct {
	put, drop []store.AccessRecord
	event     store.Event
}

func (e *edit) write(kind, id string, digest []byte, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write %s: %w", kind, err)
	}
	e.put = append(e.put, store.AccessRecord{Kind: kind, ID: id, Digest: digest, Body: string(text)})
	return nil
}

func (e *edit) remove(kind, id string) {
	e.drop = append(e.drop, store.AccessRecord{Kind: kind, ID: id})
}

// change decides on the set and writes what decide made of it; another change that
// came first makes it decide again. A set in doubt is not changed.
func (a *Access) change(ctx context.Context, decide func(*snapshot, *edit) error) error {
	for range changeTries {
		s, err := a.current(ctx)
		if err == nil {
			err = s.trusted()
		}
		if err != nil {
			return err
		}
		var e edit
		if err := decide(s, &e); err != nil {
			return err
		}
		err = a.save(ctx, s, s.state.Number, &e)
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New(fault.Unavailable, "the records of access are changed by others at this moment: send it again")
}

// save writes an edit of s under the number after the last. What has ended goes with it.
func (a *Access) save(ctx context.Context, s *snapshot, last int64, e *edit) error {
	next := store.AccessState{Number: last + 1}
	a.sweep(s, e)
	rows := s.after(e, next.Number)
	adds := slices.ContainsFunc(e.put, func(r store.AccessRecord) bool { return r.Kind != kindBlock })
	if len(rows) > maxRecords && adds { // who fills the set is blocked all the same
		return fault.New(fault.Conflict, "there are %d records of access, the most that there may be", maxRecords).
			Because("access_full")
	}
	for i := range e.put {
		if e.put[i].Number = next.Number; e.put[i].Digest == nil { // as SQLite reads an empty one
			e.put[i].Digest = []byte{}
		}
		e.put[i].MAC = a.cfg.Sealer.MAC("access", covered(e.put[i]))
	}
	next.Digest = setDigest(rows)
	next.MAC = a.cfg.Sealer.MAC("access state", coveredState(next))
	detail, err := json.Marshal(witnessed{next.Number, hex.EncodeToString(next.Digest)})
	if err != nil {
		return fmt.Errorf("change access: %w", err)
	}
	witness := store.Event{
		At: a.cfg.Now(), Action: store.AccessStateAction, Outcome: "success", Actor: e.event.Actor,
		Subject: fmt.Sprintf("access:%d", next.Number), RequestID: e.event.RequestID, Detail: detail,
	}
	return a.cfg.Store.SaveAccess(ctx, s.state.Number, next, e.put, e.drop, e.event, witness)
}

// after returns the rows as they are after an edit, by kind and id.
func (s *snapshot) after(e *edit, number int64) []store.AccessRecord {
	rows := make(map[key]store.AccessRecord, len(s.rows)+len(e.put))
	for at, r := range s.rows {
		rows[at] = r
	}
	for _, r := range e.put {
		r.Number = number
		rows[key{r.Kind, r.ID}] = r
	}
	for _, r := range e.drop {
		delete(rows, key{r.Kind, r.ID})
	}
	all := make([]store.AccessRecord, 0, len(rows))
	for _, r := range rows {
		all = append(all, r)
	}
	slices.SortFunc(all, func(x, y store.AccessRecord) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.ID, y.ID))
	})
	return all
}

// sweep removes sessions that are over.
func (a *Access) sweep(s *snapshot, e *edit) {
	for _, one := range s.sessions {
		if !a.cfg.Now().Before(one.ExpiresAt) {
			e.remove(kindSession, one.ID)
		}
	}
}
