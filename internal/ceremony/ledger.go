package ceremony

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/transcript"
)

// transcriptFile is the record of everything that a CA has ever done.
const transcriptFile = "transcript.json"

// ledger is a CA's transcript and its file.
type ledger struct {
	*transcript.Transcript
	path  string
	begun bool // in this run
}

func openLedger(ca CA) (*ledger, error) {
	path := ca.path(transcriptFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	t, err := transcript.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &ledger{Transcript: t, path: path}, nil
}

// holds reports whether the CA may go on with its transcript: what it signs next
// covers all that is in it.
func (l *ledger) holds(ca CA) error {
	if !exists(ca.path(certFile)) {
		return nil
	}
	chain, err := ca.Chain()
	if err != nil {
		return err
	}
	return l.GoesOn(chain[0].PublicKey)
}

func (l *ledger) write() error { return files.Write(l.path, l.Bytes(), 0o644) }

// held returns when a ceremony of the given file was completed, zero if never.
func (l *ledger) held(config string) time.Time {
	for i, rec := range l.Records() {
		if rec.Ceremony == nil || rec.Ceremony.ConfigHash != config {
			continue
		}
		for _, later := range l.Records()[i+1:] {
			if later.Signatures != nil {
				return later.Time
			}
			if later.Ceremony != nil {
				break
			}
		}
	}
	return time.Time{}
}

// listed returns the highest number of a list in it, nil if there is none.
func (l *ledger) listed() *big.Int {
	var highest *big.Int
	for _, rec := range l.Records() {
		if rec.Act == nil {
			continue
		}
		n, ok := new(big.Int).SetString(rec.Act.CRLNumber, 10)
		if ok && (highest == nil || n.Cmp(highest) > 0) {
			highest = n
		}
	}
	return highest
}

// open reports whether something is in it that no signature covers.
func (l *ledger) open() bool {
	n := len(l.Records())
	return n > 0 && l.Records()[n-1].Signatures == nil
}

// ended reports whether the destruction of the key is its last act, and signed.
func (l *ledger) ended() bool {
	n := len(l.Records())
	if n < 2 || l.open() {
		return false
	}
	last := l.Records()[n-2].Act
	return last != nil && last.Name == "destroy" && last.Failed == ""
}

// begin opens the ceremony in the transcript of a CA, once in a run.
func (r *run) begin(name string) error {
	l := r.ledgers[name]
	if l.begun {
		return nil
	}
	opening, err := r.opening(name)
	if err != nil {
		return err
	}
	if err := l.Begin(opening, r.now()); err != nil {
		return err
	}
	l.begun = true
	return l.write()
}

// opening is how a ceremony begins in the transcript of a CA.
func (r *run) opening(name string) (transcript.Ceremony, error) {
	opening := transcript.Ceremony{
		Name: r.file.Name, CA: name, Reason: r.file.Reason, Tool: r.options.Tool, ToolHash: r.toolHash,
		Configuration: filepath.Base(r.path), ConfigHash: r.config, Warnings: r.warnings,
	}
	for _, p := range r.file.Present {
		c := transcript.Custodian{Name: p.Name}
		if key := r.people[p.Name]; key != nil {
			spki, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				return opening, fmt.Errorf("key of %s: %w", p.Name, err)
			}
			c.Key = spki
		}
		opening.Custodians = append(opening.Custodians, c)
	}
	return opening, nil
}

// recordable refuses what the transcript could not hold, before anything is
// signed that it would have to.
func (r *run) recordable(name string, o outcome) error {
	var scratch transcript.Transcript
	opening, err := r.opening(name)
	if err != nil {
		return err
	}
	return errors.Join(scratch.Begin(opening, r.now()), scratch.Append(o.act, r.now()))
}

// record enters what an act has done, unless that happened just before the run
// was interrupted.
func (r *run) record(name string, o outcome) error {
	l, a := r.ledgers[name], o.act
	if a.Certificate != "" && len(l.Find(a.Certificate)) > 0 {
		return nil
	}
	if k := r.opened[name]; k != nil {
		a.Quorum, a.Shares, a.Custodians = k.set, k.shares, k.custodians
	}
	if err := l.Append(a, r.now()); err != nil {
		return err
	}
	return l.write()
}

// failed enters that an act was not done.
func (r *run) failed(name, act string, why error) error {
	l := r.ledgers[name]
	text := why.Error()
	if len(text) > 1000 {
		text = text[:1000]
	}
	if err := l.Append(transcript.Act{Name: act, Failed: printable(text)}, r.now()); err != nil {
		return err
	}
	return l.write()
}

// meet opens the keys of those who sign the transcript.
func (r *run) meet(ctx context.Context) error {
	for _, p := range r.file.Present {
		if p.Key == "" {
			continue
		}
		key, err := keys.Open(ctx, r.relative(p.Key), func() ([]byte, error) {
			return r.console.askSecret("%s, who signs the transcript: passphrase or PIN of your key", p.Name)
		}, keys.Config{})
		if err != nil {
			return fmt.Errorf("key of %s: %w", p.Name, err)
		}
		r.people[p.Name] = key
	}
	return nil
}

// relative makes the path of a file: reference relative to the ceremony's file.
func (r *run) relative(ref keys.Ref) keys.Ref {
	const file = "file:"
	if len(ref) > len(file) && ref[:len(file)] == file {
		return keys.Ref(file + r.abs(string(ref[len(file):])))
	}
	return ref
}

// sign closes the transcript of every CA that has acted.
func (r *run) sign(ctx context.Context) error {
	for i := range r.file.CAs {
		name := r.file.CAs[i].Name
		if err := r.signLedger(ctx, name); err != nil {
			return fmt.Errorf("sign the transcript of %s: %w", name, err)
		}
	}
	return nil
}

func (r *run) signLedger(ctx context.Context, name string) error {
	l, ca := r.ledgers[name], r.cas[name]
	if !l.open() || !exists(ca.path(certFile)) {
		return nil
	}
	key, err := ca.openKey(ctx)
	if err != nil {
		return err
	}
	defer ca.giveBack(key) //nolint:errcheck // nothing is lost with it
	signers := []transcript.Signer{{Name: transcript.CASigner, Key: key}}
	for _, p := range r.file.Present {
		if k := r.people[p.Name]; k != nil {
			signers = append(signers, transcript.Signer{Name: p.Name, Key: k})
		}
	}
	if err := l.Sign(r.now(), signers...); err != nil {
		return err
	}
	r.console.say("\nThe transcript of %s is signed. Its head is %s.", name, l.Head())
	return l.write()
}
