package ceremony

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/quorum"
)

// quorumFile is the public record of a CA's set of shares and who holds them.
const quorumFile = "quorum.json"

// holders is quorumFile's content.
type holders struct {
	Custodians []string        `json:"custodians,omitempty"` // of share 1, 2, …
	Record     json.RawMessage `json:"set,omitempty"`
	set        quorum.Set
	// Next takes the place of all this as soon as the key file has this hash, so
	// that custodians change in one step, the renaming of the key file.
	Next    *holders `json:"next,omitempty"`
	KeyFile string   `json:"key_file_sha256,omitempty"`
}

// holders returns the record of the set of shares that opens the CA's key, nil
// where a passphrase or PIN does.
func (ca CA) holders() (*holders, error) {
	text, err := os.ReadFile(ca.path(quorumFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read custodians: %w", err)
	}
	h := &holders{}
	if err := json.Unmarshal(text, h); err != nil {
		return nil, fmt.Errorf("read custodians %s: %w", ca.path(quorumFile), err)
	}
	if h.Next != nil {
		key, err := os.ReadFile(ca.path(keyFile))
		if err != nil {
			return nil, fmt.Errorf("read custodians: %w", err)
		}
		if pki.Fingerprint(key) == h.Next.KeyFile {
			h = h.Next
		}
	}
	if len(h.Custodians) == 0 { // a passphrase is about to be replaced by shares
		return nil, nil
	}
	if h.set, err = quorum.ParseSet(h.Record); err != nil {
		return nil, fmt.Errorf("read custodians %s: %w", ca.path(quorumFile), err)
	}
	if len(h.Custodians) != h.set.Of {
		return nil, fmt.Errorf("read custodians %s: %d names for %d shares", ca.path(quorumFile), len(h.Custodians),
			h.set.Of)
	}
	return &holders{Custodians: h.Custodians, set: h.set}, nil
}

func (h *holders) encode() error {
	text, err := h.set.Text()
	h.Record = text
	return err
}

func (h *holders) write(path string) error {
	if len(h.Custodians) > 0 {
		if err := h.encode(); err != nil {
			return err
		}
	}
	out, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("write custodians: %w", err)
	}
	return files.Write(path, append(out, '\n'), 0o644)
}

// opened is a CA's key in this run: what opens it, and who opened it.
type opened struct {
	secret     []byte
	typed      bool // as a passphrase, and so perhaps mistyped
	set        string
	shares     []int
	custodians []string
}

// secret returns what opens a CA's key. It asks for it at the first use in this
// run and remembers it until the end.
func (r *run) secret(name string) keys.Secret {
	return func() ([]byte, error) {
		if o := r.opened[name]; o != nil {
			return bytes.Clone(o.secret), nil
		}
		o, err := r.unlock(name)
		if err != nil {
			return nil, fmt.Errorf("open the key of %s: %w", name, err)
		}
		r.opened[name] = o
		return bytes.Clone(o.secret), nil
	}
}

func (r *run) unlock(name string) (*opened, error) {
	ca := r.cas[name]
	h, err := ca.holders()
	if err != nil {
		return nil, err
	}
	a, err := r.file.authority(name)
	if err != nil {
		return nil, err
	}
	_, inFile := strings.CutPrefix(string(ca.key()), "file:")
	switch {
	case h != nil:
		return r.collect(name, h)
	case !inFile:
		pin, err := r.console.askSecret("PIN of the token with the key of %s", name)
		return &opened{secret: pin}, err
	case exists(ca.path(keyFile)):
		secret, err := r.console.askSecret("Passphrase of the key of %s", name)
		return &opened{secret: secret, typed: true}, err
	case a.Quorum != nil:
		o, h, err := r.deal(name, *a.Quorum)
		if err != nil {
			return nil, err
		}
		// From now on the shares are what opens the key that is about to be made.
		return o, h.write(ca.path(quorumFile))
	}
	return r.newPassphrase(name)
}

// collect asks custodians for their shares until there are enough.
func (r *run) collect(name string, h *holders) (*opened, error) {
	c := r.console
	c.say("\nThe key of %s opens with %d of %d shares of set %s. The custodians: %s.",
		name, h.set.Need, h.set.Of, h.set.ID, strings.Join(h.Custodians, ", "))
	collector := quorum.Collect(h.set)
	defer collector.Clear()
	for collector.Missing() > 0 {
		c.say("\nThe next custodian, alone at the keyboard (%d more needed). What you type is not shown.",
			collector.Missing())
		share, err := r.askShare()
		if err != nil {
			return nil, err
		}
		if err := collector.Add(share); err != nil {
			c.say("REFUSED: %v", err)
			continue
		}
		c.say("Share %d, %s: taken.", share.Number(), h.Custodians[share.Number()-1])
	}
	secret, err := collector.Secret()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	o := &opened{secret: quorum.Passphrase(secret), set: h.set.ID.String(), shares: collector.Numbers()}
	for _, n := range o.shares {
		o.custodians = append(o.custodians, h.Custodians[n-1])
	}
	return o, nil
}

// askShare reads a share line by line; a line that was mistyped is asked for again.
func (r *run) askShare() (quorum.Share, error) {
	for {
		var text []byte
		for line := 1; line <= quorum.ShareLines; {
			typed, err := r.console.askSecret("  line %d of your sheet", line)
			if err != nil {
				return quorum.Share{}, err
			}
			if err := quorum.CheckLine(line, string(typed)); err != nil {
				r.console.say("  %s", unseen(err))
				clear(typed)
				continue
			}
			text = append(append(text, typed...), '\n')
			clear(typed)
			line++
		}
		share, err := quorum.ParseShare(string(text))
		clear(text)
		if err == nil {
			return share, nil
		}
		r.console.say("REFUSED: %v", err)
	}
}

// unseen is what is said of a mistyped line: where the mistake is, and not the
// word, which would be in a recording of the ceremony.
func unseen(err error) string {
	where, _, quoted := strings.Cut(err.Error(), ": \"")
	if quoted {
		return where + ": not a word of these sheets"
	}
	return err.Error()
}

// deal makes a secret and hands its shares to the custodians one by one. Each
// reads the own share back from paper.
func (r *run) deal(name string, q Quorum) (*opened, *holders, error) {
	secret := quorum.NewSecret()
	defer clear(secret)
	set, shares, err := quorum.Split(secret, q.Need, len(q.Custodians))
	if err != nil {
		return nil, nil, err
	}
	r.console.say("\nWhat opens the key of %s is divided: any %d of %s. The set of shares is %s.",
		name, q.Need, strings.Join(q.Custodians, ", "), set.ID)
	o := &opened{secret: quorum.Passphrase(secret), set: set.ID.String()}
	for i, share := range shares {
		if err := r.hand(name, q.Custodians[i], set, share); err != nil {
			return nil, nil, err
		}
		o.shares, o.custodians = append(o.shares, i+1), append(o.custodians, q.Custodians[i])
	}
	return o, &holders{Custodians: q.Custodians, set: set}, nil
}

// hand shows a custodian's sheet, or writes it to the folder for sheets, and has
// it read back.
func (r *run) hand(name, custodian string, set quorum.Set, share quorum.Share) error {
	c := r.console
	sheet := share.Sheet(quorum.Sheet{Ceremony: r.file.Name, Custodian: custodian, Opens: "the key of " + name,
		Date: r.now()})
	if r.options.Sheets != "" {
		path := filepath.Join(r.options.Sheets, fmt.Sprintf("%s-%s-%d.txt", name, set.ID, share.Number()))
		if err := files.Write(path, []byte(sheet), 0o600); err != nil {
			return err
		}
		c.say("\n%s: your sheet is %s. Print it; nobody else reads it.", custodian, path)
	} else {
		if _, err := c.ask("\n%s alone looks at the screen. Press Enter to see share %d", custodian,
			share.Number()); err != nil {
			return err
		}
		c.say("%s", sheet)
		if _, err := c.ask("Write the five lines down, compare them, then press Enter"); err != nil {
			return err
		}
		c.Clear()
	}
	for {
		c.say("%s: type your share from the paper. What you type is not shown.", custodian)
		again, err := r.askShare()
		if err != nil {
			return err
		}
		if again.Number() == share.Number() && set.Check(again) == nil {
			c.say("Share %d, %s: right.", share.Number(), custodian)
			return nil
		}
		c.say("REFUSED: that is another share than yours")
	}
}

// maxTries is how often a passphrase may be mistyped. A PIN never: tokens lock.
const maxTries = 3

// retry returns what forgets a wrong passphrase, so that it is asked for again.
func (r *run) retry(name string) func() bool {
	tries := 0
	return func() bool {
		tries++
		if o := r.opened[name]; o == nil || !o.typed || tries >= maxTries {
			return false
		}
		clear(r.opened[name].secret)
		delete(r.opened, name)
		r.console.say("That is not the passphrase.")
		return true
	}
}

// minPassphrase keeps out what a program would try first.
const minPassphrase = 12

func (r *run) newPassphrase(name string) (*opened, error) {
	secret, err := r.console.askSecret("A new passphrase for the key of %s, at least %d characters", name,
		minPassphrase)
	if err != nil {
		return nil, err
	}
	again, err := r.console.askSecret("The same once more")
	if err != nil {
		return nil, err
	}
	defer clear(again)
	switch {
	case !bytes.Equal(secret, again):
		return nil, fault.New(fault.Denied, "the two passphrases differ")
	case len(secret) < minPassphrase:
		return nil, fault.New(fault.Denied, "the passphrase has %d characters: want at least %d", len(secret),
			minPassphrase)
	}
	return &opened{secret: secret}, nil
}

// forget wipes what opens the keys and closes them.
func (r *run) forget() {
	_ = r.shared.close() // nothing is lost with them
	for _, key := range r.people {
		_ = key.Close()
	}
	for _, o := range r.opened {
		clear(o.secret)
	}
	r.opened = nil
}

// opens names what opens the key.
func (h *holders) opens() string {
	if h == nil {
		return "passphrase"
	}
	return h.set.ID.String()
}

// sameCustodians reports whether a file's quorum is the one on record.
func (h *holders) sameCustodians(q *Quorum) bool {
	return q == nil || h != nil && q.Need == h.set.Need && slices.Equal(q.Custodians, h.Custodians)
}
