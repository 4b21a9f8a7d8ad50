package ceremony

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/opensslca"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/transcript"
)

// Import says what CA of another program is to be taken over.
type Import struct {
	From   opensslca.Source // without its Secret, which is asked for
	Into   string           // the folder to be made
	Out    string           // the folder of what leaves the machine
	Reason string           // why; a ceremony without one is flagged
	Quorum *Quorum          // who opens the key from now on; nil is a passphrase
}

// RunImport takes over a CA that was run with openssl ca, as a ceremony: it shows
// what it found, has the certificate's fingerprint typed, encrypts the key anew,
// under shares that it deals to the custodians or a new passphrase, and begins
// the CA's transcript with this act. Interrupted, it is run again.
func RunImport(ctx context.Context, im Import, c Console, o Options, now func() time.Time) error {
	r, err := newImport(im, c, o, now)
	if err != nil {
		return err
	}
	defer r.forget()
	name := r.file.CAs[0].Name
	ca := r.cas[name]
	im.From.Secret = func() ([]byte, error) { return c.askSecret("Passphrase of the key in %s", im.From.Dir) }
	f, err := ca.readForeign(im.From)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if err := r.preflight(); err != nil {
		return err
	}
	if err := r.confirmImport(f, ca); err != nil {
		return err
	}
	if err := ca.takeOver(ctx, f, func() error { return r.recordImport(name, f) }); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	r.journal.Acts = []done{{CA: name, SaveAs: "ca"}}
	texts, err := r.collectOut()
	if err == nil {
		err = writeOut(r.out(), texts)
	}
	if err != nil {
		return fmt.Errorf("write out folder: %w", err)
	}
	c.say(`
Done. The CA is in %s, what may leave this machine in %s. Next:
- sign its list with a ceremony whose only act is crl;
- when that worked, destroy the old key and every copy of it: shred -u`, ca.Dir, r.out())
	return nil
}

// newImport makes the run of an import: a ceremony of one CA without a file.
func newImport(im Import, c Console, o Options, now func() time.Time) (*run, error) {
	dir, name := filepath.Split(filepath.Clean(im.Into))
	a := Authority{Name: name, Quorum: im.Quorum}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("import into %s: %w", im.Into, err)
	}
	r := &run{
		file: &File{Name: "Import of " + name + " from OpenSSL", Reason: im.Reason, Out: im.Out, CAs: []Authority{a}},
		path: "openssl.cnf", dir: dir, console: c, options: o, now: now, journal: &journal{},
		cas: map[string]CA{}, opened: map[string]*opened{}, ledgers: map[string]*ledger{},
	}
	if im.Quorum != nil {
		for _, p := range im.Quorum.Custodians {
			r.file.Present = append(r.file.Present, Person{Name: p})
		}
	}
	ca := CA{Dir: im.Into, Secret: r.secret(name), Now: now}
	r.cas[name] = ca
	var err error
	if r.ledgers[name], err = openLedger(ca); err != nil {
		return nil, err
	}
	return r, r.checkOut()
}

// confirmImport shows what was found and has the certificate compared with what
// is known of it elsewhere.
func (r *run) confirmImport(f *opensslca.Folder, ca CA) error {
	c, cert := r.console, f.Chain[0]
	revoked := 0
	for _, e := range f.Index {
		if e.Revoked != nil {
			revoked++
		}
	}
	c.say("\nThe CA to be taken over:\n%s", facts(cert))
	c.say("Index     %d certificates, %d of them revoked", len(f.Index), revoked)
	c.say("Next list number %X", f.CRLNumber)
	c.say("Into      %s", ca.Dir)
	for _, text := range slices.Concat(f.Notes, notes(standing(f.Chain)), r.warnings) {
		c.say("WARNING   %s", text)
	}
	typed, err := c.ask("\nType the SHA-256 fingerprint of its certificate, as relying parties have it")
	if err != nil {
		return err
	}
	digits := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(typed))
	if want := pki.Fingerprint(cert.Raw); digits != want {
		return refuse("fingerprint", "the SHA-256 fingerprint of the certificate is %s, which is not what was typed: "+
			"nothing was done", want)
	}
	return c.confirm("The key is to be encrypted anew.")
}

// notes is what somebody should know of a CA that exists.
func notes(v calaw.Verdict) []string {
	var list []string
	for _, f := range v.NoSigning {
		list = append(list, "it signs nothing new, only its lists: "+f.Detail)
	}
	for _, f := range slices.Concat(v.NoLists, v.Warnings) {
		list = append(list, f.Detail)
	}
	return list
}

// recordImport enters the import in the transcript and signs it, before the
// certificate says that the CA is here.
func (r *run) recordImport(name string, f *opensslca.Folder) error {
	cert := f.Chain[0]
	key, err := pki.HashKey(cert.PublicKey)
	if err != nil {
		return err
	}
	if err := r.begin(name); err != nil {
		return err
	}
	act := transcript.Act{
		Name: "import", Subject: cert.Subject.String(), Issuer: cert.Issuer.String(),
		Serial: string(pki.SerialFromBig(cert.SerialNumber)),
		Key:    key.String(), Certificate: pki.Fingerprint(cert.Raw),
		Note: fmt.Sprintf("%d certificates in the index; the next list has number %X", len(f.Index), f.CRLNumber),
	}
	if !f.Encrypted {
		act.Note += "; the key was not encrypted"
	}
	if f.CRL != nil {
		act.CRL = pki.Fingerprint(f.CRL.Raw)
	}
	l := r.ledgers[name]
	if k := r.opened[name]; k != nil {
		act.Quorum, act.Shares, act.Custodians = k.set, k.shares, k.custodians
	}
	return errors.Join(l.Append(act, r.now()), l.Sign(r.now(),
		transcript.Signer{Name: transcript.CASigner, Key: f.Key}), l.write())
}
