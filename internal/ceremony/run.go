package ceremony

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// Options are what a run is told beside the file.
type Options struct {
	Tool    string // program and version, for the transcript
	Program string // the program's file
	Sheets  string // folder for the custodians' sheets; empty: they are shown
	DryRun  bool   // show the plan and stop
	Again   bool   // hold a ceremony that was held before
}

// run is one ceremony under way.
type run struct {
	file    *File
	path    string
	dir     string
	config  string // SHA-256 of the file
	in      *inputs
	cas     map[string]CA
	console Console
	options Options
	now     func() time.Time
	journal *journal
	opened  map[string]*opened
	ledgers map[string]*ledger
	people  map[string]*keys.Key
	shared  openKeys

	toolHash string   // SHA-256 of the program
	warnings []string // what preflight found
}

// Run holds the ceremony that a file describes: it rehearses all acts with
// throw-away keys, shows what will happen, has the requests confirmed, performs
// the acts, signs the transcript and fills the out folder. A run that was
// interrupted is gone on with by the same call.
func Run(ctx context.Context, path string, c Console, o Options, now func() time.Time) error {
	unlock, err := alone(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	r, err := newRun(path, c, o, now)
	if err != nil {
		return err
	}
	defer r.forget()
	if err := r.preflight(); err != nil {
		return err
	}
	plan, err := r.rehearse(ctx)
	if err != nil {
		return err
	}
	r.show(plan)
	if o.DryRun {
		return nil
	}
	if err := r.confirm(); err != nil {
		return err
	}
	if err := r.meet(ctx); err != nil {
		return err
	}
	for n := range r.file.Acts {
		if r.journal.done(n) {
			continue
		}
		if err := r.act(ctx, n, plan[n]); err != nil {
			return err
		}
	}
	if err := r.sign(ctx); err != nil {
		return err
	}
	return r.finish()
}

// alone takes a ceremony's folder for this process: two at once might take the
// same number for two lists. The lock is gone when the process is.
func alone(dir string) (unlock func(), err error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the ceremony's folder: %w", err)
	}
	if err := files.Lock(folder); err != nil {
		_ = folder.Close()
		if errors.Is(err, files.ErrLocked) {
			return nil, fmt.Errorf("another ceremony is being held in %s: end that one first", dir)
		}
		return nil, fmt.Errorf("lock the ceremony's folder: %w", err)
	}
	return func() { _ = files.Unlock(folder) }, nil
}

func newRun(path string, c Console, o Options, now func() time.Time) (*run, error) {
	file, text, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &run{
		file: file, path: path, dir: filepath.Dir(path), config: pki.Fingerprint(text), console: c, options: o,
		now: now,
		cas: map[string]CA{}, opened: map[string]*opened{}, ledgers: map[string]*ledger{},
		people: map[string]*keys.Key{}, shared: openKeys{},
	}
	if r.in, err = readInputs(r.dir, file.Acts); err != nil {
		return nil, err
	}
	if r.journal, err = openJournal(r.dir, filepath.Base(path), r.config); err != nil {
		return nil, err
	}
	for i := range file.CAs {
		a := &file.CAs[i]
		r.cas[a.Name] = CA{
			Dir: r.abs(a.folder()), Key: a.Key, Secret: r.secret(a.Name), Now: now, Record: r.journal.signing,
			shared: r.shared, retry: r.retry(a.Name),
		}
		if err := r.checkAuthority(a); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	for _, act := range file.Acts {
		if err := errors.Join(r.checkNamed(act), r.checkPublished(act)); err != nil {
			return nil, err
		}
	}
	if err := r.checkOut(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *run) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.dir, path)
}

// preflight looks at the machine. What it finds is shown and goes into the
// transcript; what is fatal ends the run before anything is done.
func (r *run) preflight() error {
	sum, err := FileHash(r.options.Program)
	if err != nil {
		return fmt.Errorf("read own program: %w", err)
	}
	r.toolHash = sum
	var found Findings
	for i := range r.file.CAs {
		name := r.file.CAs[i].Name
		fit := Fitness{CA: r.cas[name], Tool: r.options.Program, ToolHash: r.file.ToolHash}
		if last := r.ledgers[name].Last(); !last.IsZero() {
			fit.Before = []Moment{{"the transcript of " + name + " ends", last}}
		}
		for _, f := range Preflight(fit) {
			if !slices.Contains(found, f) {
				found = append(found, f)
			}
		}
	}
	r.warnings = found.Warnings()
	if found.Worst() == Fatal {
		return refuse("preflight", "this machine is not fit for the ceremony:\n%s", found.Text())
	}
	return nil
}

// checkAuthority compares a CA's folder with the file.
func (r *run) checkAuthority(a *Authority) error {
	ca := r.cas[a.Name]
	h, err := ca.holders()
	if err != nil {
		return err
	}
	if (exists(ca.path(certFile)) || exists(ca.path(quorumFile))) && !h.sameCustodians(a.Quorum) &&
		!r.journal.resumed() {
		return refuse("quorum", "the custodians in %s are not those of this file: leave quorum out, or let the act "+
			"change-quorum change them; a folder that a founding left behind is to be removed first",
			ca.path(quorumFile))
	}
	l, err := openLedger(ca)
	if err != nil {
		return err
	}
	r.ledgers[a.Name] = l
	if err := l.holds(ca); err != nil {
		return fmt.Errorf("the transcript %s does not hold, restore the folder from its copy: %w", l.path, err)
	}
	ca.Listed = l.listed()
	r.cas[a.Name] = ca
	if at := l.held(r.config); !at.IsZero() && !r.options.Again && !r.journal.resumed() {
		return refuse("held", "this ceremony was held on %s and is in the transcript: --again holds it once more",
			at.Format(time.RFC3339))
	}
	return nil
}

// confirm has the requests compared with what their owners say, and the plan
// accepted.
func (r *run) confirm() error {
	for n, act := range r.file.Acts {
		if r.journal.done(n) {
			continue
		}
		for _, name := range act.requests() {
			if err := r.confirmInput(n, name); err != nil {
				return err
			}
		}
	}
	return r.console.confirm(fmt.Sprintf("\n%d acts are to be performed.", len(r.file.Acts)-len(r.journal.Acts)))
}

// requests are the files whose fingerprints are typed for an act.
func (a Act) requests() []string {
	switch {
	case a.SignCA != nil && a.SignCA.CSR != "":
		return []string{a.SignCA.CSR}
	case a.CrossSign != nil:
		return []string{a.CrossSign.Certificate}
	case a.ReplaceCA != nil:
		return []string{a.ReplaceCA.CSR}
	case a.Responder != nil:
		return []string{a.Responder.CSR}
	}
	return nil
}

func (r *run) confirmInput(n int, name string) error {
	var der []byte
	var text string
	if csr := r.in.requests[name]; csr != nil {
		der, text = csr.Raw, requestFacts(csr)
	} else {
		der, text = r.in.others[name].Raw, facts(r.in.others[name])
	}
	act, _ := r.file.Acts[n].name()
	r.console.say("\nThe input of act %d, %s, is %s:\n%s", n+1, act, name, text)
	typed, err := r.console.ask("Type its SHA-256 fingerprint, as its owner gave it to you")
	if err != nil {
		return err
	}
	digits := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(typed))
	if want := pki.Fingerprint(der); digits != want {
		return refuse("fingerprint", "act %d: the SHA-256 fingerprint of %s is %s, which is not what was typed: "+
			"nothing was done", n+1, name, want)
	}
	r.console.say("It is the one.")
	return nil
}

// act performs one act, checks what came of it, and records it.
func (r *run) act(ctx context.Context, n int, rehearsed outcome) error {
	act := r.file.Acts[n]
	name, by := act.name()
	ca := r.cas[by]
	r.console.say("\nAct %d of %d: %s by %s", n+1, len(r.file.Acts), name, by)
	s := &stage{file: r.file, in: r.in, cas: r.cas, real: r}
	if err := r.resume(s, n); err != nil {
		return err
	}
	if err := ca.makeDirs(); err != nil {
		return err
	}
	if act.Destroy == nil || !s.again || !r.ledgers[by].ended() {
		if err := r.begin(by); err != nil {
			return err
		}
	}
	if r.journal.Pending == nil || r.journal.Pending.Act != n {
		if err := r.vacant(ctx, act); err != nil {
			return err
		}
		if err := r.journal.begun(n); err != nil {
			return err
		}
	}
	o, err := s.perform(ctx, act)
	if err == nil {
		err = r.check(by, rehearsed, o)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("act %d, %s: %w", n+1, name, err), r.failed(by, name, err))
	}
	if act.Destroy == nil { // which has recorded itself, while its key was there
		if err := r.record(by, o); err != nil {
			return err
		}
	}
	d := done{Act: n, CA: by, SaveAs: o.saveAs}
	if o.certificate != nil {
		d.Serial = pki.SerialFromBig(o.certificate.SerialNumber)
	}
	r.console.say("%s", o.summary())
	return r.journal.finished(d)
}

// vacant refuses an act that would make a key in a token under a name that has
// one. From when the journal says that the act was begun, a key there is its own.
func (r *run) vacant(ctx context.Context, act Act) error {
	name, take := "", false
	switch {
	case act.Root != nil:
		name, take = act.Root.CA, act.Root.UseKey
	case act.SignCA != nil && act.SignCA.New != "":
		name, take = act.SignCA.New, act.SignCA.UseKey
	}
	ca := r.cas[name]
	if ca.Key == "" || take {
		return nil
	}
	key, err := keys.Open(ctx, ca.Key, ca.Secret, keys.Config{})
	switch {
	case errors.Is(err, keys.ErrNoKey):
		return nil
	case err != nil:
		return err
	}
	return errors.Join(refuse("exists", "the token holds a key of the name in %s already: name another, or say "+
		"use_key: true", ca.Key), key.Close())
}

// resume finds out what the act had done before it was interrupted.
func (r *run) resume(s *stage, n int) error {
	p := r.journal.Pending
	if p == nil || p.Act != n {
		return nil
	}
	s.again = true
	act := s.file.Acts[n]
	_, by := act.name()
	ca := r.cas[by]
	made, err := s.made(act)
	switch {
	case made != nil || err != nil:
		s.settled = made
	case p.Serial != "":
		s.settled, err = Settle(ca, p.Serial)
		if err == nil && s.settled == nil {
			r.console.say("The act was interrupted while it signed: serial %s is entered as revoked, and another is "+
				"taken.", p.Serial)
			err = r.journal.begun(n)
		}
	}
	return err
}
