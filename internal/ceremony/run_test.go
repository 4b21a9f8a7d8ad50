package ceremony

import (
	"bytes"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/transcript"
)

var every = flag.Bool("every", false, "interrupt a ceremony at every one of its steps, not at a few")

// room is a folder with a ceremony's file and its requests, and people who give
// the right answers.
type room struct {
	t    *testing.T
	dir  string
	fp   string // fingerprint of the request
	said bytes.Buffer
	say  map[string]string // answers by the beginning of the prompt's last part
}

func newRoom(t *testing.T, file string) *room {
	t.Helper()
	r := &room{t: t, dir: t.TempDir(), say: map[string]string{}}
	csr := request(t, newKey(t), caName)
	r.fp = pki.Fingerprint(csr.Raw)
	r.write("issuing.csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw}))
	r.write("ceremony.yaml", []byte(file))
	return r
}

func (r *room) write(name string, text []byte) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) path(name string) string { return filepath.Join(r.dir, name) }

func (r *room) answer() string {
	prompt := r.said.String()[strings.LastIndex(r.said.String(), "\n")+1:]
	for part, answer := range r.say {
		if strings.Contains(prompt, part) {
			return answer
		}
	}
	switch {
	case strings.Contains(prompt, "fingerprint"):
		return r.fp
	case strings.Contains(prompt, "Type yes"):
		return "yes"
	case strings.Contains(prompt, "name of the CA"):
		return "root"
	}
	return "correct horse battery"
}

// hold holds the ceremony of a file. A panic of the clock is the machine's power
// that fails.
func (r *room) hold(file string, now func() time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errPower
		}
	}()
	r.said.Reset()
	console := Console{Out: &r.said, Clear: func() {},
		Line:   func() (string, error) { return r.answer(), nil },
		Secret: func() ([]byte, error) { return []byte(r.answer()), nil },
	}
	return Run(r.t.Context(), r.path(file), console, Options{Tool: "test", Program: os.Args[0]}, now)
}

var errPower = errors.New("the power failed")

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// failing returns a clock that fails at its n-th reading.
func failingAt(n int) func() time.Time {
	return func() time.Time {
		if n--; n == 0 {
			panic(errPower)
		}
		return epoch
	}
}

func (r *room) transcript(ca string) *transcript.Transcript {
	r.t.Helper()
	text, err := os.ReadFile(r.path(ca + "/transcript.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	tr, err := transcript.Parse(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return tr
}

// Wherever the power fails, the same ceremony goes on afterwards, every serial is
// accounted for, and the transcript holds.
func TestInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	const founding = `
name: Founding
reason: A test
cas: [{name: root}, {name: policy}]
acts:
  - root: {ca: root, subject: "CN=Example Root,O=Example,ST=Bremen,C=DE"}
  - sign-ca: {ca: root, new: policy, subject: "CN=Example Policy,O=Example,ST=Bremen,C=DE", years: 15, path_len: 1}
  - sign-ca: {ca: policy, csr: issuing.csr}
  - crl: {ca: root}
`
	for n, step := 1, 1; ; n += step {
		if !*every {
			step = 11
		}
		r := newRoom(t, founding)
		err := r.hold("ceremony.yaml", failingAt(n))
		if err == nil {
			if n < 20 {
				t.Errorf("the clock was read %d times only", n)
			}
			break
		}
		if !errors.Is(err, errPower) {
			t.Fatalf("step %d: %v", n, err)
		}
		if err := r.hold("ceremony.yaml", at(epoch)); err != nil {
			t.Fatalf("after step %d: %v\n%s", n, err, r.said.String())
		}
		r.whole("root", fmt.Sprintf("after step %d", n))
		r.whole("policy", fmt.Sprintf("after step %d", n))
	}
}

// whole checks what a founding has left behind.
func (r *room) whole(name, when string) {
	t := r.t
	t.Helper()
	ca := CA{Dir: r.path(name), Secret: pass("correct horse battery"), Now: at(epoch)}
	chain, err := ca.Chain()
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if _, err := r.transcript(name).Verify(chain[0].PublicKey); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	index, err := ca.Index()
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	valid := 0
	for _, e := range index {
		c, err := Settle(ca, e.Serial)
		switch {
		case err != nil:
			t.Errorf("%s: %v", when, err)
		case e.Revoked == nil && c == nil:
			t.Errorf("%s: serial %s is valid and has no certificate", when, e.Serial)
		case e.Revoked == nil:
			valid++
			if _, err := r.transcript(name).Match(nil, c.Raw); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	if valid != 1 {
		t.Errorf("%s: %d valid certificates of %s, want 1", when, valid, name)
	}
	if exists(r.path(journalFile)) {
		t.Errorf("%s: the journal is left", when)
	}
	if key, err := keys.Open(t.Context(), ca.key(), ca.Secret, keys.Config{}); err != nil || key.Close() != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// A serial that the key may have signed, without a certificate to show for it, is
// revoked and on the list that follows.
func TestLostSignatureIsRevoked(t *testing.T) {
	t.Parallel()
	r := newRoom(t, `
name: Founding
cas: [{name: root}]
acts:
  - root: {ca: root, subject: "CN=Example Root,O=Example,ST=Bremen,C=DE"}
`)
	if err := r.hold("ceremony.yaml", at(epoch)); err != nil {
		t.Fatal(err)
	}
	r.write("second.yaml", []byte(`
name: Second
out: out-2
cas: [{name: root}]
acts:
  - sign-ca: {ca: root, csr: issuing.csr}
  - crl: {ca: root}
`))
	ca := CA{Dir: r.path("root"), Now: at(epoch)}
	var lost pki.Serial
	for n := 6; lost == ""; n++ {
		if err := r.hold("second.yaml", failingAt(n)); !errors.Is(err, errPower) {
			t.Fatalf("step %d: %v", n, err)
		}
		if index, err := ca.Index(); err == nil && len(index) == 1 {
			lost = index[0].Serial
		}
	}
	if err := os.Remove(ca.path(filed("newcerts", lost))); err != nil {
		t.Fatal(err)
	}
	if err := r.hold("second.yaml", at(epoch)); err != nil {
		t.Fatal(err)
	}
	last, err := ca.lastCRL()
	if err != nil || len(last.RevokedCertificateEntries) != 1 || pki.SerialFromBig(last.RevokedCertificateEntries[0].SerialNumber) != lost {
		t.Errorf("%+v, %v", last, err)
	}
	if index, err := ca.Index(); err != nil || len(index) != 2 || index[1].Revoked != nil {
		t.Errorf("%+v, %v", index, err)
	}
}

// What a file and a folder say of each other is checked before anything is done.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	r := newRoom(t, `
name: Founding
cas: [{name: root}]
acts:
  - root: {ca: root, subject: "CN=Example Root,O=Example,ST=Bremen,C=DE"}
`)
	if err := r.hold("ceremony.yaml", at(epoch)); err != nil {
		t.Fatal(err)
	}
	r.write("root/newcerts/x.pem", []byte("-----BEGIN PRIVATE KEY-----"))
	for name, c := range map[string]struct {
		acts, want string
		say        map[string]string
	}{
		"another root":      {`- root: {ca: root, subject: "CN=Other"}`, "holds a CA already", nil},
		"unknown serial":    {`- revoke: {ca: root, certificate: 77}` + "\n  - crl: {ca: root}", "not in", nil},
		"no such file":      {`- revoke: {ca: root, certificate: nowhere.pem}` + "\n  - crl: {ca: root}", "neither a serial nor a certificate", nil},
		"bad reason":        {`- revoke: {ca: root, certificate: 77, reason: whim}` + "\n  - crl: {ca: root}", "whim", nil},
		"bad day":           {`- revoke: {ca: root, certificate: 77, since: yesterday}` + "\n  - crl: {ca: root}", "yesterday", nil},
		"nothing replaced":  {`- replace-ca: {ca: root, replaces: "77", csr: issuing.csr}`, "is not in the index", nil},
		"bad usage":         {`- sign-ca: {ca: root, csr: issuing.csr, ext_key_usage: [everything]}`, "everything", nil},
		"a request twice":   {`- sign-ca: {ca: root, csr: issuing.csr}` + "\n  - sign-ca: {ca: root, csr: issuing.csr}", "rename the request", nil},
		"not its passwords": {`- crl: {ca: root}`, "wrong passphrase", map[string]string{"Passphrase": "wrong"}},
		"a year in days":    {`- crl: {ca: root, days: -1}`, "want 1 to 400", nil},
		"a century of days": {`- crl: {ca: root, days: 40000}`, "want 1 to 400", nil},
		"wrong name":        {`- destroy: {ca: root}`, "was not destroyed", map[string]string{"name of the CA": "other"}},
	} {
		r.write("try.yaml", []byte("name: Try\nout: out-try\ncas: [{name: root}]\nacts:\n  "+c.acts+"\n"))
		r.say = c.say
		err := r.hold("try.yaml", at(epoch))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		_ = os.Remove(r.path(journalFile))
	}
	unlock, err := alone(r.path("."))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.hold("try.yaml", at(epoch)); err == nil || !strings.Contains(err.Error(), "another ceremony is being held") {
		t.Errorf("two at once: %v", err)
	}
	unlock()
	if index, err := (CA{Dir: r.path("root")}).Index(); err != nil || len(index) != 0 {
		t.Errorf("the refusals left %+v, %v", index, err)
	}
}

// The custodians change in one step: until the key file is the new one, the old
// shares are asked for, and from then on the new ones.
func TestCustodiansChangeInOneStep(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "")
	ca := CA{Dir: r.path("root"), Now: at(epoch)}
	if err := ca.makeDirs(); err != nil {
		t.Fatal(err)
	}
	old, next := newHolders(t, "Ann", "Bo"), newHolders(t, "Cy", "Di", "Ed")
	next.KeyFile = pki.Fingerprint([]byte("new"))
	if err := next.encode(); err != nil {
		t.Fatal(err)
	}
	check := func(when, key string, before *holders, want *holders) {
		t.Helper()
		before.Next = next
		if err := errors.Join(before.write(ca.path(quorumFile)), os.WriteFile(ca.path(keyFile), []byte(key), 0o600)); err != nil {
			t.Fatal(err)
		}
		got, err := ca.holders()
		if err != nil || (got == nil) != (want == nil) || got != nil && got.set.ID != want.set.ID {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
	}
	check("before the key file is replaced", "old", old, old)
	check("after", "new", old, next)
	check("before a passphrase is replaced", "old", &holders{}, nil)
	check("after that", "new", &holders{}, next)
	for name, text := range map[string]string{"no JSON": "{", "no set": `{"custodians":["Ann"],"set":{}}`} {
		r.write("root/"+quorumFile, []byte(text))
		if _, err := ca.holders(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
