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

// sealedRows is a place in the database that keeps sealed secrets.
type sealedRows struct {
	kind   string // such as "EAB key"
	column store.SealedColumn
	names  func(id string) []string // under one of which the secret of a row is sealed
}

// sealed are all of them. A cursor has the index of one.
var sealed = []sealedRows{
	{"EAB key", store.SealedEABKeys, func(kid string) []string { return []string{eabName(kid)} }},
	// Those of SharedSecret have a name of their own, those of owncert.Sealed the row's.
	{"shared secret", store.SealedSecrets, func(name string) []string { return []string{secretName(name), name} }},
}

// signed are the places whose rows package access makes anew.
var signed = []sealedRows{
	{kind: "access record", column: store.AccessMACs}, {kind: "access", column: store.AccessStateMACs},
}

// Resealer seals secrets again that are sealed under a key-encryption key other than
// the first, so that this key can be taken away. It begins anew each time: what is
// sealed under the first key is passed over, so whatever ended it half-way, or does
// the same on another node, does no harm.
type Resealer struct {
	store  *store.Store
	sealer *seal.Sealer
	now    func() time.Time
}

// NewResealer returns what seals the secrets in st again. A Resealer that only counts
// needs no sealer.
func NewResealer(st *store.Store, sealer *seal.Sealer, now func() time.Time) *Resealer {
	return &Resealer{st, sealer, now}
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
	Key      seal.KeyID // that it is sealed under, as it says
	Err      error      // is seal.ErrKey, ErrBroken or ErrFormat
}

// Page seals one page again; a dry run only looks. The cursor is empty or that of the
// page before. The event lacks its subject and detail.
func (r *Resealer) Page(ctx context.Context, cursor string, dryRun bool, ev store.Event) (*Resealed, error) {
	at, after, err := parseResealCursor(cursor)
	if err != nil {
		return nil, err
	}
	rows := sealed[at]
	page, err := r.store.SealedPage(ctx, rows.column, after, resealPage)
	if err != nil {
		return nil, fmt.Errorf("reseal: %w", err)
	}
	done := &Resealed{Checked: len(page), Next: strconv.Itoa(at+1) + "/"}
	switch {
	case len(page) == resealPage:
		done.Next = strconv.Itoa(at) + "/" + hex.EncodeToString([]byte(page[len(page)-1].ID))
	case at+1 == len(sealed):
		done.Next = ""
	}
	again := r.again(rows, page, done)
	if done.Again = len(again); dryRun || len(again) == 0 {
		return done, nil
	}
	ev.Subject = "kek:" + r.sealer.Keys()[0].ID.String()
	if ev.Detail, err = json.Marshal(map[string]any{"kind": rows.kind, "secrets": len(again)}); err != nil {
		return nil, fmt.Errorf("reseal: %w", err)
	}
	n, err := r.store.Reseal(ctx, rows.column, again, ev)
	done.Again = int(n)
	if err != nil {
		return nil, fmt.Errorf("reseal: %w", err)
	}
	return done, nil
}

// parse reads a cursor: the place, and the last row that was looked at.
func parseResealCursor(cursor string) (at int, after string, err error) {
	if cursor == "" {
		return 0, "", nil
	}
	place, id, _ := strings.Cut(cursor, "/")
	at, err = strconv.Atoi(place)
	last, hexErr := hex.DecodeString(id)
	if err != nil || hexErr != nil || at < 0 || at >= len(sealed) {
		return 0, "", fault.New(fault.Malformed, "the cursor is not one of ours")
	}
	return at, string(last), nil
}

// again seals the secrets of a page that need it, and notes those that do not open.
func (r *Resealer) again(rows sealedRows, page []store.Sealed, done *Resealed) []store.SealedAgain {
	var again []store.SealedAgain
	for _, row := range page {
		name, plain, err := r.open(rows.names(row.ID), row.Sealed)
		switch {
		case err != nil:
			key, _ := seal.KeyOf(row.Sealed) // zero where it is no sealed secret
			done.Unopened = append(done.Unopened, Unopened{rows.kind, row.ID, key, err})
		case r.sealer.Stale(row.Sealed):
			again = append(again, store.SealedAgain{ID: row.ID, Was: row.Sealed, Becomes: r.sealer.Seal(name, plain)})
		}
		clear(plain)
	}
	return again
}

func (r *Resealer) open(names []string, secret []byte) (name string, plain []byte, err error) {
	for _, name = range names {
		if plain, err = r.sealer.Open(name, secret); !errors.Is(err, seal.ErrBroken) {
			break
		}
	}
	return name, plain, err
}

// KeyUse is a key-encryption key and what needs it.
type KeyUse struct {
	seal.KEK
	Missing bool // it is not among the keys that were asked about
	Secrets int
	What    string // in words, such as "2 EAB keys (0a1b… and others), shared secret acme-nonce"
}

// Uses returns the keys that secrets which are of use are sealed under, by id, without
// their lines.
func (r *Resealer) Uses(ctx context.Context) ([]KeyUse, error) {
	var uses []KeyUse
	for _, rows := range slices.Concat(sealed, signed) {
		counts, err := r.store.CountSealed(ctx, rows.column, seal.HeadSize, r.now())
		if err != nil {
			return nil, fmt.Errorf("count sealed secrets: %w", err)
		}
		for _, n := range counts {
			id, err := seal.KeyOf(n.Head)
			if err != nil {
				continue // what is no sealed secret is told by a reseal
			}
			at := slices.IndexFunc(uses, func(u KeyUse) bool { return u.ID == id })
			if at < 0 {
				at, uses = len(uses), append(uses, KeyUse{KEK: seal.KEK{ID: id}})
			}
			words := rows.kind + " " + n.First
			if n.Rows > 1 {
				words = fmt.Sprintf("%d %ss (%s and others)", n.Rows, rows.kind, n.First)
			}
			uses[at].Secrets += n.Rows
			uses[at].What = strings.TrimPrefix(uses[at].What+", "+words, ", ")
		}
	}
	slices.SortFunc(uses, func(x, y KeyUse) int { return cmp.Compare(x.ID.String(), y.ID.String()) })
	return uses, nil
}

// Lines returns the keys of a sealer, in their order, with what needs each, then those
// that are needed and missing.
func Lines(s *seal.Sealer, uses []KeyUse) []KeyUse {
	var lines []KeyUse
	for _, k := range s.Keys() {
		use := KeyUse{}
		if at := slices.IndexFunc(uses, func(u KeyUse) bool { return u.ID == k.ID }); at >= 0 {
			use = uses[at]
		}
		use.KEK = k
		lines = append(lines, use)
	}
	for _, use := range uses {
		if !s.Has(use.ID) {
			use.Missing = true
			lines = append(lines, use)
		}
	}
	return lines
}

// Lines returns the keys of the Resealer's own sealer, with what needs each.
func (r *Resealer) Lines(ctx context.Context) ([]KeyUse, error) {
	uses, err := r.Uses(ctx)
	if err != nil {
		return nil, err
	}
	return Lines(r.sealer, uses), nil
}
