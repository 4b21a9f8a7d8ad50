package credential

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
)

// resealPage is how many secrets one commit seals again.
const resealPage = 200

// SealedRows is a place in the database that keeps sealed secrets.
type SealedRows struct {
	Kind   string // such as "EAB key"
	Column store.SealedColumn
	Names  func(id string) []string // under one of which the secret of a row is sealed
}

// The places that keep sealed secrets.
var (
	SealedEAB = SealedRows{"EAB key", store.SealedEABKeys, func(kid string) []string { return []string{eabName(kid)} }}
	// Those of SharedSecret have a name of their own, those of owncert.Sealed the row's.
	SealedShared = SealedRows{"shared secret", store.SealedSecrets,
		func(name string) []string { return []string{secretName(name), name} }}
)

// Resealer seals secrets again that are sealed under a key-encryption key other than
// the first, so that this key can be taken away. It begins anew each time: what is
// sealed under the first key is passed over, so whatever ended it half-way, or does
// the same on another node, does no harm.
type Resealer struct {
	Store  *store.Store
	Sealer *seal.Sealer
	Rows   []SealedRows
	Now    func() time.Time
}

// Resealed is what came of one page.
type Resealed struct {
	Checked, Again int        // Again are those that were sealed again, or would be
	Unopened       []Unopened // those that could not be opened
	Next           string     // the cursor of the next page; empty after the last
}

// Unopened is a secret that cannot be opened.
type Unopened struct {
	Kind, ID string
	Err      error // is seal.ErrKey, ErrBroken or ErrFormat
}

// Page seals one page again; a dry run only looks. The cursor is empty or that of the
// page before. The event lacks its subject and detail.
func (r *Resealer) Page(ctx context.Context, cursor string, dryRun bool, ev store.Event) (*Resealed, error) {
	at, after, err := r.parse(cursor)
	if err != nil {
		return nil, err
	}
	rows := r.Rows[at]
	page, err := r.Store.SealedPage(ctx, rows.Column, after, resealPage)
	if err != nil {
		return nil, fmt.Errorf("reseal: %w", err)
	}
	done := &Resealed{Checked: len(page), Next: strconv.Itoa(at+1) + "/"}
	switch {
	case len(page) == resealPage:
		done.Next = strconv.Itoa(at) + "/" + hex.EncodeToString([]byte(page[len(page)-1].ID))
	case at+1 == len(r.Rows):
		done.Next = ""
	}
	again := r.again(rows, page, done)
	if done.Again = len(again); dryRun || len(again) == 0 {
		return done, nil
	}
	ev.Subject = "kek:" + r.Sealer.Keys()[0].ID.String()
	if ev.Detail, err = json.Marshal(map[string]any{"kind": rows.Kind, "secrets": len(again)}); err != nil {
		return nil, fmt.Errorf("reseal: %w", err)
	}
	n, err := r.Store.Reseal(ctx, rows.Column, again, ev)
	done.Again = int(n)
	if err != nil {
		return nil, fmt.Errorf("reseal: %w", err)
	}
	return done, nil
}

// parse reads a cursor: the place, and the last row that was looked at.
func (r *Resealer) parse(cursor string) (at int, after string, err error) {
	if cursor == "" {
		return 0, "", nil
	}
	place, id, _ := strings.Cut(cursor, "/")
	at, err = strconv.Atoi(place)
	last, hexErr := hex.DecodeString(id)
	if err != nil || hexErr != nil || at < 0 || at >= len(r.Rows) {
		return 0, "", fault.New(fault.Malformed, "the cursor is not one of ours").Because("cursor")
	}
	return at, string(last), nil
}

// again seals the secrets of a page that need it, and notes those that do not open.
func (r *Resealer) again(rows SealedRows, page []store.Sealed, done *Resealed) []store.SealedAgain {
	var again []store.SealedAgain
	for _, row := range page {
		name, plain, err := r.open(rows.Names(row.ID), row.Sealed)
		switch {
		case err != nil:
			done.Unopened = append(done.Unopened, Unopened{rows.Kind, row.ID, err})
		case r.Sealer.Stale(row.Sealed):
			again = append(again, store.SealedAgain{ID: row.ID, Was: row.Sealed, Becomes: r.Sealer.Seal(name, plain)})
		}
		clear(plain)
	}
	return again
}

func (r *Resealer) open(names []string, sealed []byte) (name string, plain []byte, err error) {
	for _, name = range names {
		if plain, err = r.Sealer.Open(name, sealed); !errors.Is(err, seal.ErrBroken) {
			break
		}
	}
	return name, plain, err
}

// KeyUse is what needs a key-encryption key.
type KeyUse struct {
	ID      seal.KeyID
	Secrets int
	What    string // in words, such as "2 EAB keys (0a1b… and others), shared secret acme-nonce"
}

// Uses returns the keys that secrets which are of use are sealed under, by id.
func (r *Resealer) Uses(ctx context.Context) ([]KeyUse, error) {
	uses := map[seal.KeyID]KeyUse{}
	for _, rows := range r.Rows {
		counts, err := r.Store.CountSealed(ctx, rows.Column, seal.HeadSize, r.Now())
		if err != nil {
			return nil, fmt.Errorf("count sealed secrets: %w", err)
		}
		for _, n := range counts {
			id, err := seal.KeyOf(n.Head)
			if err != nil {
				continue // what is no sealed secret is told by a reseal
			}
			words := rows.Kind + " " + n.First
			if n.Rows > 1 {
				words = fmt.Sprintf("%d %ss (%s and others)", n.Rows, rows.Kind, n.First)
			}
			use := uses[id]
			use.ID, use.Secrets = id, use.Secrets+n.Rows
			use.What = strings.TrimPrefix(use.What+", "+words, ", ")
			uses[id] = use
		}
	}
	all := make([]KeyUse, 0, len(uses))
	for _, use := range uses {
		all = append(all, use)
	}
	slices.SortFunc(all, func(x, y KeyUse) int { return cmp.Compare(x.ID.String(), y.ID.String()) })
	return all, nil
}
