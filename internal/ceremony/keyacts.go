package ceremony

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/transcript"
)

// newKeyFile is the key under the new secret while the custodians change.
const newKeyFile = keyFile + ".new"

// changeQuorum divides what opens a key file anew: the custodians of old open the
// key, those of the act get the shares of a new secret, and the key file that the
// old secret opens is replaced in one step.
func (s *stage) changeQuorum(ctx context.Context, ca CA, a *ChangeQuorumAct) (outcome, error) {
	text := []string{fmt.Sprintf("opened by    %d of %s", a.Quorum.Need, strings.Join(a.Quorum.Custodians, ", "))}
	if s.real == nil {
		return outcome{text: text}, nil
	}
	before, err := ca.holders()
	if err != nil {
		return outcome{}, err
	}
	if was := s.real.journal.Pending.Opens; s.again && was != "" && was != before.opens() {
		// The key file was renamed before the interruption.
		return outcome{text: text, act: transcript.Act{Note: "new set of shares " + before.set.ID.String()}},
			before.write(ca.path(quorumFile))
	}
	if err := s.real.journal.replacing(before.opens()); err != nil {
		return outcome{}, err
	}
	set, err := s.real.reseal(ctx, ca, a, before)
	if err != nil {
		return outcome{}, err
	}
	return outcome{text: append(text, "set          "+set), act: transcript.Act{Note: "new set of shares " + set}}, nil
}

// reseal has the key opened, deals the new shares and replaces the key file.
func (r *run) reseal(ctx context.Context, ca CA, a *ChangeQuorumAct, before *holders) (set string, err error) {
	opened, err := ca.openKey(ctx) // which lets a passphrase be mistyped
	if err != nil {
		return "", err
	}
	defer ca.giveBack(opened) //nolint:errcheck // nothing is lost with it
	sealed, err := files.ReadSecret(ca.path(keyFile))
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	key, err := keys.Decrypt(sealed, ca.Secret)
	if err != nil {
		return "", err
	}
	o, h, err := r.deal(a.CA, a.Quorum)
	if err != nil {
		return "", err
	}
	text, err := keys.Encrypt(key, func() ([]byte, error) { return bytes.Clone(o.secret), nil })
	if err != nil {
		return "", err
	}
	h.KeyFile = pki.Fingerprint(text)
	if err := h.encode(); err != nil {
		return "", err
	}
	if before == nil { // a passphrase has opened it, and does until the file is replaced
		before = &holders{}
	}
	before.Next = h
	if err := errors.Join(
		files.Write(ca.path(newKeyFile), text, 0o400),
		before.write(ca.path(quorumFile)),
	); err != nil {
		return "", err
	}
	if err := os.Rename(ca.path(newKeyFile), ca.path(keyFile)); err != nil {
		return "", fmt.Errorf("replace key file: %w", err)
	}
	if err := files.SyncDir(ca.path("private")); err != nil {
		return "", err
	}
	clear(r.opened[a.CA].secret)
	r.opened[a.CA] = o
	return h.set.ID.String(), (&holders{Custodians: h.Custodians, set: h.set}).write(ca.path(quorumFile))
}

// destroy makes a CA's key file useless and removes it. Whoever may open the key
// has to open it for this, which also signs the transcript, with this act as its
// last record.
func (s *stage) destroy(ctx context.Context, ca CA, a *DestroyAct) (outcome, error) {
	open, err := s.unexpired(ca)
	if err != nil {
		return outcome{}, err
	}
	if open > 0 && !a.Override {
		return outcome{}, refuse("destroy", "%d certificates of %s are valid and could not be revoked any more: "+
			"revoke them first, or override", open, a.CA)
	}
	o := outcome{
		text: []string{fmt.Sprintf("the key file of %s is overwritten and removed; no signature will ever be made "+
			"with it again", a.CA)},
		act: transcript.Act{Name: "destroy", Note: "the key file is overwritten and removed"},
	}
	if s.real == nil || !exists(ca.path(keyFile)) {
		return o, nil
	}
	return o, s.real.shred(ctx, ca, a.CA, o)
}

// unexpired counts the valid certificates in the index.
func (s *stage) unexpired(ca CA) (int, error) {
	index, err := ca.Index()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range index {
		if e.Revoked == nil && e.NotAfter.After(ca.Now()) {
			n++
		}
	}
	return n, nil
}

func (r *run) shred(ctx context.Context, ca CA, name string, o outcome) error {
	if r.ledgers[name].ended() { // and it was interrupted before the key was gone
		return wipe(ca)
	}
	answer, err := r.console.ask("Type the name of the CA whose key is to be destroyed for good")
	if err != nil {
		return err
	}
	if answer != name {
		return refuse("not_confirmed", "%q is not %s: its key was not destroyed", answer, name)
	}
	if err := errors.Join(r.record(name, o), r.signLedger(ctx, name)); err != nil {
		return err
	}
	return wipe(ca)
}

// wipe overwrites the key file and removes it.
func wipe(ca CA) error {
	path := ca.path(keyFile)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("destroy key: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("destroy key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("destroy key: %w", err)
	}
	_, err = f.Write(make([]byte, info.Size()))
	if err = errors.Join(err, f.Sync(), f.Close(), os.Remove(path)); err != nil {
		return fmt.Errorf("destroy key: %w", err)
	}
	return files.SyncDir(ca.path("private"))
}
