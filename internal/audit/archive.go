package audit

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/store"
)

// maxLine bounds one event of a segment file.
const maxLine = 1 << 20

// line is an event as a segment file holds it. The detail is a string there,
// because the event's hash covers its very octets and an encoder may write raw
// JSON differently.
type line struct {
	store.Event
	Detail string
}

// Archive moves events older than before to segment files in dir, one for each
// chain, and purges them from the store. Only events at or below the head of a
// checkpoint are moved, so that the checkpoint vouches for where the store's part
// of the chain begins. A segment is on disk before its events are purged. It
// returns the files written.
func (k *Keeper) Archive(ctx context.Context, dir string, before time.Time) ([]string, error) {
	cut, err := k.cuts(ctx, before)
	if err != nil {
		return nil, err
	}
	var files []string
	for node, seq := range cut {
		file, last, err := k.writeSegment(ctx, dir, node, seq)
		if err != nil {
			return files, fmt.Errorf("archive chain %s: %w", node, err)
		}
		if file == "" {
			continue
		}
		files = append(files, file)
		if _, err := k.store.DeleteAuditBefore(ctx, node, last+1); err != nil {
			return files, fmt.Errorf("purge chain %s: %w", node, err)
		}
	}
	return files, nil
}

// cuts returns, for each chain, the highest event that a checkpoint older than
// the given time ends at.
func (k *Keeper) cuts(ctx context.Context, before time.Time) (map[string]int64, error) {
	cut := map[string]int64{}
	for after := ""; ; {
		list, err := k.store.Checkpoints(ctx, after, page)
		if err != nil {
			return nil, fmt.Errorf("read checkpoints: %w", err)
		}
		for _, c := range list {
			after = c.ID
			if !c.At.Before(before) {
				continue
			}
			for _, h := range c.Heads {
				cut[h.Node] = max(cut[h.Node], h.Seq)
			}
		}
		if len(list) < page {
			return cut, nil
		}
	}
}

func (k *Keeper) writeSegment(ctx context.Context, dir, node string, upTo int64) (file string, last int64, err error) {
	events, err := k.store.AuditEvents(ctx, node, 0, 1)
	if err != nil || len(events) == 0 || events[0].Seq > upTo {
		return "", 0, err
	}
	first := events[0].Seq
	file = filepath.Join(dir, fmt.Sprintf("audit-%s-%d-%d.jsonl", filepath.Base(node), first, upTo))
	f, err := files.Create(file, 0o600)
	if err != nil {
		return "", 0, err
	}
	defer f.Discard()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for from := first; from <= upTo; {
		events, err := k.store.AuditEvents(ctx, node, from, int(min(page, upTo-from+1)))
		if err != nil {
			return "", 0, err
		}
		if len(events) == 0 {
			return "", 0, fmt.Errorf("event %d is missing; run audit verify", from)
		}
		for _, e := range events {
			if err := enc.Encode(line{e, string(e.Detail)}); err != nil {
				return "", 0, err
			}
			from = e.Seq + 1
		}
	}
	if err := w.Flush(); err != nil {
		return "", 0, err
	}
	return file, upTo, f.Commit()
}

// Probe reports whether segments can be written to a folder.
func Probe(dir string) error {
	f, err := os.CreateTemp(dir, ".privyseal-probe-*")
	if err != nil {
		return fmt.Errorf("audit archive %s: %w", dir, fault.Cause(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// segments are the files that Archives and Dir name and that were not taken yet. A
// folder that there is not holds none: Report.Unread says what is missing then.
func (v *Verifier) segments() ([]string, error) {
	names := slices.Clone(v.Archives)
	if v.Dir != "" {
		found, err := os.ReadDir(v.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("audit archive: %w", err)
		}
		for _, f := range found {
			if ok, _ := filepath.Match("audit-*.jsonl", f.Name()); ok && !f.IsDir() {
				names = append(names, filepath.Join(v.Dir, f.Name()))
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		again := v.taken[name]
		v.taken[name] = true
		return again
	}), nil
}

// walkArchives takes the events of the segment files that are new, oldest first in
// each chain.
func (v *Verifier) walkArchives(r *Report, chains map[string]*chain) error {
	names, err := v.segments()
	if err != nil {
		return err
	}
	type segment struct {
		store.Event // the first
		name        string
	}
	var segments []segment
	for _, name := range names {
		first, err := firstEvent(name)
		if err != nil {
			return err
		}
		segments = append(segments, segment{first, name})
	}
	slices.SortFunc(segments, func(x, y segment) int { return cmp.Compare(x.Seq, y.Seq) })
	for _, s := range segments {
		if err := readSegment(s.name, func(e *store.Event) error {
			if e.Node != s.Node {
				return fmt.Errorf("audit segment %s: event %d belongs to chain %s", s.name, e.Seq, e.Node)
			}
			v.step(r, at(chains, e.Node), e)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func firstEvent(name string) (store.Event, error) {
	var first store.Event
	err := readSegment(name, func(e *store.Event) error { first = *e; return io.EOF })
	if errors.Is(err, io.EOF) {
		return first, nil
	}
	return first, errors.Join(fmt.Errorf("audit segment %s holds no event", name), err)
}

func readSegment(name string, each func(*store.Event) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("audit segment %s, line %d: %w", name, n, err)
		}
		if l.Detail != "" {
			l.Event.Detail = json.RawMessage(l.Detail)
		}
		if err := each(&l.Event); err != nil {
			return err
		}
	}
	return lines.Err()
}
