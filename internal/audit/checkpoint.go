// Package audit keeps the record of acts trustworthy. The store appends each
// event to the hash chain of the process that wrote it, in the transaction of the
// act; this package signs checkpoints over the heads of all chains, verifies
// chains against them, and moves old events to archive segments.
//
// The checkpoint key is not in the database, and each checkpoint is kept in the
// state folder of the node that signed it too (Folder). So whoever can write to the
// database alone can take nothing away that a checkpoint saw, not even with the
// checkpoints in the database: Verify and the next look of any node find it. He can
// add events, which the next checkpoint signs, and delete what no checkpoint saw
// yet. Who has a node's folder and the key, as its root does, is found by the
// folders of other nodes alone. docs/audit.md says it for people.
package audit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Interval is how often a node signs a checkpoint while events arrive.
const Interval = time.Minute

// The events that a process writes about its own chain.
const (
	ActionOpened = "audit.opened" // first of a chain; the detail names the node's former chain
	ActionClosed = "audit.closed" // last of a chain that ended in order
)

// ActionIntent is the event that must precede every certificate signature.
const ActionIntent = "certificate.intent"

// Keeper opens, checkpoints and closes the chain of one process.
type Keeper struct {
	store *store.Store
	key   crypto.Signer
	keyID string
	node  string // the chain's name
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	last   string // the heads of the last checkpoint, to sign only news
	folder Folder
	kept   *Kept
	seen   map[string]store.Head // the farthest of each chain that this node saw
	found  []Finding             // what contradicts it
	failed error                 // of the last attempt to keep a checkpoint
}

// NewKeeper returns the keeper of the given chain. The key signs checkpoints:
// Ed25519, ECDSA or RSA. They are kept in the folder too.
func NewKeeper(
	s *store.Store, key crypto.Signer, chain string, folder Folder, now func() time.Time, log *slog.Logger,
) (*Keeper, error) {
	id, err := pki.HashKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	return &Keeper{
		store: s, key: key, keyID: id.String(), node: chain, folder: folder, now: now, log: log,
		seen: map[string]store.Head{},
	}, nil
}

// Open writes the first event of the chain, which names the chain that this
// node's former process wrote ("" for none), and a checkpoint. Before that it reads
// what this node saw of the record.
func (k *Keeper) Open(ctx context.Context, former string) error {
	if err := k.begin(ctx); err != nil {
		return fmt.Errorf("open audit chain: %w", err)
	}
	err := k.store.AppendAudit(ctx, k.event(ActionOpened, map[string]string{"former_chain": former}))
	if err != nil {
		return fmt.Errorf("open audit chain: %w", err)
	}
	return k.Checkpoint(ctx)
}

// Run signs a checkpoint every Interval until ctx ends. A checkpoint that fails
// is logged and tried again at the next tick.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := k.Checkpoint(ctx); err != nil && ctx.Err() == nil {
				k.log.ErrorContext(ctx, "checkpoint not written", "error", err)
			}
		}
	}
}

// Close writes the last event of the chain and a checkpoint over it.
func (k *Keeper) Close(ctx context.Context) error {
	if err := k.store.AppendAudit(ctx, k.event(ActionClosed, nil)); err != nil {
		return fmt.Errorf("close audit chain: %w", err)
	}
	return k.Checkpoint(ctx)
}

func (k *Keeper) event(action string, detail map[string]string) store.Event {
	text, _ := json.Marshal(detail) // a map of strings always encodes
	return store.Event{
		Action: action, Outcome: "success", At: k.now(), Actor: "server", Subject: k.node, Detail: text,
	}
}

// Checkpoint compares the heads of all chains with what this node saw of them, and
// signs them, unless nothing was written since the last one.
func (k *Keeper) Checkpoint(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	heads, err := k.store.AuditHeads(ctx)
	if err != nil {
		return fmt.Errorf("read audit heads: %w", err)
	}
	c := store.Checkpoint{ID: store.NewID(), Node: k.node, At: k.now().UTC().Truncate(time.Microsecond), Heads: heads,
		KeyID: k.keyID}
	text := headsText(c.Heads)
	if text == k.last {
		return nil
	}
	if err := k.look(ctx, heads); err != nil {
		return fmt.Errorf("compare audit record: %w", err)
	}
	if c.Signature, err = sign(k.key, statement(c)); err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	if err := k.store.PutCheckpoint(ctx, c); err != nil {
		return fmt.Errorf("store checkpoint: %w", err)
	}
	k.last = text
	k.keep(ctx, c)
	return nil
}

// statement is what a checkpoint's signature covers: a line that says what it
// is, one for id, node and time, then a line for each head.
func statement(c store.Checkpoint) []byte {
	return fmt.Appendf(nil, "privyseal audit checkpoint v1\n%s %s %d %s\n%s",
		c.ID, c.Node, c.At.UnixMicro(), c.KeyID, headsText(c.Heads))
}

func headsText(heads []store.Head) string {
	sorted := slices.Clone(heads)
	slices.SortFunc(sorted, func(a, b store.Head) int { return strings.Compare(a.Node, b.Node) })
	var b strings.Builder
	for _, h := range sorted {
		fmt.Fprintf(&b, "%s %d %x\n", h.Node, h.Seq, h.Hash)
	}
	return b.String()
}

func sign(key crypto.Signer, message []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	digest := sha256.Sum256(message)
	return key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func verifySignature(pub crypto.PublicKey, message, signature []byte) error {
	digest := sha256.Sum256(message)
	ok := false
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, message, signature)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, digest[:], signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], signature) == nil
	default:
		return fmt.Errorf("a key of type %T signs no checkpoints", pub)
	}
	if !ok {
		return errors.New("the signature does not verify")
	}
	return nil
}
