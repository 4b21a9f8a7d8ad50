package crl

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/files"
)

// key names a series of lists.
type key struct {
	issuer string
	shard  int // 0 is the full list
	delta  bool
}

// String is the list's name in URLs, without .crl.
func (k key) String() string {
	switch {
	case k.delta:
		return k.issuer + "-delta"
	case k.shard > 0:
		return k.issuer + "/" + strconv.Itoa(k.shard)
	default:
		return k.issuer
	}
}

func (k key) kind() string {
	switch {
	case k.delta:
		return "delta"
	case k.shard > 0:
		return "shard"
	default:
		return "full"
	}
}

// file is the name of a list on disk: its own for each number, so that a reader
// of the one before is not disturbed. Ids hold neither _ nor dots.
func (k key) file(number int64) string {
	return strings.ReplaceAll(k.String(), "/", "_") + "." + strconv.FormatInt(number, 10) + ".crl"
}

// parseFile reads what file wrote.
func parseFile(name string) (key, int64, bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 3 || parts[2] != "crl" {
		return key{}, 0, false
	}
	number, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return key{}, 0, false
	}
	k := key{issuer: parts[0]}
	if id, shard, ok := strings.Cut(k.issuer, "_"); ok {
		if k.shard, err = strconv.Atoi(shard); err != nil || k.shard < 1 {
			return key{}, 0, false
		}
		k.issuer = id
	} else if id, ok := strings.CutSuffix(k.issuer, "-delta"); ok {
		k.issuer, k.delta = id, true
	}
	return k, number, true
}

// held is a list on this node's disk.
type held struct {
	key                    key
	path                   string
	number                 int64
	thisUpdate, nextUpdate time.Time
	sha256                 [sha256.Size]byte
	size, entries          int64
	sorted                 bool
}

// numberOr0 is the number, or 0 if there is no list.
func (h *held) numberOr0() int64 {
	if h == nil {
		return 0
	}
	return h.number
}

// date is thisUpdate, or long ago if there is no list.
func (h *held) date() time.Time {
	if h == nil {
		return time.Unix(0, 0)
	}
	return h.thisUpdate
}

// lent is a list whose file is open: whatever takes its place meanwhile, it can be
// read to its end, any number of times. Close gives it back.
type lent struct {
	*held          // nil if there is no list
	file  *os.File // nil if there is no list
}

func (h *held) lend() (lent, error) {
	f, err := os.Open(h.path)
	if err != nil {
		return lent{}, fmt.Errorf("open list: %w", err)
	}
	return lent{h, f}, nil
}

// content reads the list from its beginning.
func (l lent) content() io.Reader { return io.NewSectionReader(l.file, 0, l.size) }

// Close implements io.Closer.
func (l lent) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// localLists are the newest list of each series on this node's disk.
type localLists struct {
	dir   string
	mu    sync.RWMutex
	lists map[key]*held
}

// openLocal takes stock of a folder. It makes it if it must, clears away what a
// crash left, and reports lists that it cannot read.
func openLocal(dir string) (*localLists, []error, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // lists are public
		return nil, nil, fmt.Errorf("open folder of lists: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open folder of lists: %w", err)
	}
	s := &localLists{dir: dir, lists: map[key]*held{}}
	var wrong []error
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if strings.HasSuffix(f.Name(), ".tmp") {
			wrong = append(wrong, os.Remove(path))
			continue
		}
		k, number, ok := parseFile(f.Name())
		if !ok {
			continue // not ours
		}
		h, err := inspect(k, path)
		if err == nil && h.number != number {
			err = fmt.Errorf("its number is %d", h.number)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("list %s: %w", path, err), os.Rename(path, path+".bad"))
			continue
		}
		wrong = append(wrong, s.keep(h))
	}
	return s, nonNil(wrong), nil
}

func nonNil(all []error) []error {
	var out []error
	for _, err := range all {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// inspect reads a list from disk once.
func inspect(k key, path string) (*held, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	sum := sha256.New()
	in := &counter{r: io.TeeReader(f, sum)}
	l, err := newReader(in)
	if err != nil {
		return nil, err
	}
	if err := l.walk(); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, l.in); err != nil { // the signature
		return nil, err
	}
	if !l.number.IsInt64() {
		return nil, fmt.Errorf("its number %s is too large", l.number)
	}
	h := &held{
		key: k, path: path, number: l.number.Int64(), thisUpdate: l.thisUpdate, nextUpdate: l.nextUpdate,
		size: in.n, entries: l.entries, sorted: l.sorted,
	}
	sum.Sum(h.sha256[:0])
	return h, nil
}

type counter struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (s *localLists) get(k key) *held {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lists[k]
}

// lend returns the newest list of a series with its file open. keep removes a file
// only after the list that follows stands here, so that what stands here can be
// opened while the lock is held.
func (s *localLists) lend(k key) (lent, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.lists[k]
	if h == nil {
		return lent{}, nil
	}
	return h.lend()
}

// of returns the series of an issuer that the disk has.
func (s *localLists) of(id string) []key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []key
	for k := range s.lists {
		if k.issuer == id {
			all = append(all, k)
		}
	}
	return all
}

// keep puts a list on the disk unless a newer one is there, and removes the file
// of the older of the two. Whoever has that open may read on.
func (s *localLists) keep(h *held) error {
	s.mu.Lock()
	older := s.lists[h.key]
	if older != nil && older.number > h.number {
		older, h = h, older
	}
	s.lists[h.key] = h
	s.mu.Unlock()
	if older == nil || older.path == h.path {
		return nil
	}
	if err := os.Remove(older.path); err != nil {
		return fmt.Errorf("remove the list before: %w", err)
	}
	return nil
}

// receive writes a list to a temporary file of the disk and reads it back.
func (s *localLists) receive(k key, fill func(io.Writer) error) (h *held, err error) {
	f, err := os.CreateTemp(s.dir, "fetch-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("receive list: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = fill(f)
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return inspect(k, f.Name())
}

// adopt gives a received list its place, on disk first.
func (s *localLists) adopt(h *held) error {
	path := filepath.Join(s.dir, h.key.file(h.number))
	if err := os.Rename(h.path, path); err != nil {
		return errors.Join(fmt.Errorf("adopt list: %w", err), os.Remove(h.path))
	}
	h.path = path
	if err := files.SyncDir(s.dir); err != nil {
		return fmt.Errorf("adopt list: %w", err)
	}
	return s.keep(h)
}
