package transcript

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/pki"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var epoch = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// seeded is a key that is the same in every run, and whose signatures are.
func seeded(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func spki(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	request     = []byte("a request")
	certificate = []byte("a certificate")
)

// opening of a ceremony at which Ada signs too.
func opening(t testing.TB, name string) Ceremony {
	return Ceremony{
		Name: name, CA: "CN=Example Root,O=Example,C=DE", Reason: "the first issuing CA",
		Tool: "privyseal-ceremony 1.0.0", ToolHash: pki.Fingerprint([]byte("tool")),
		Configuration: "ceremony.yaml", ConfigHash: pki.Fingerprint([]byte("config")),
		Custodians: []Custodian{{Name: "Ada", Key: spki(t, seeded(2))}, {Name: "Béla <b|b>"}},
		Warnings:   []string{"network: eth0 is up"},
	}
}

// two ceremonies of one CA, seven records in all.
func sample(t testing.TB) *Transcript {
	t.Helper()
	tr := &Transcript{}
	hash := pki.Fingerprint
	must(t, tr.Begin(opening(t, "Root 2026"), epoch))
	must(t, tr.Append(Act{
		Name: "root", Reason: "beginning", Subject: "CN=Example Root,O=Example,C=DE", Serial: "40aa", Key: hash([]byte("key")),
		Certificate: hash([]byte("root")), Quorum: "7F3A-91C2", Shares: []int{1, 3, 4}, Custodians: []string{"Ada"},
	}, epoch.Add(time.Minute)))
	must(t, tr.Append(Act{Name: "sign-ca", Subject: "CN=Issuing 1", Request: hash(request), Certificate: hash(certificate)}, epoch.Add(2*time.Minute)))
	must(t, tr.Sign(epoch.Add(3*time.Minute), Signer{CASigner, seeded(1)}, Signer{"Ada", seeded(2)}))
	second := opening(t, "List 2027")
	second.Custodians = nil
	must(t, tr.Begin(second, epoch.AddDate(0, 5, 0)))
	must(t, tr.Append(Act{Name: "crl", CRL: hash([]byte("list")), CRLNumber: "4097", Note: "a < b & c"}, epoch.AddDate(0, 5, 0)))
	must(t, tr.Sign(epoch.AddDate(0, 5, 0), Signer{CASigner, seeded(1)}))
	return tr
}

func TestG1_55_GoldenTranscript(t *testing.T) {
	t.Parallel()
	tr := sample(t)
	for name, got := range map[string][]byte{"transcript.golden": tr.Bytes(), "transcript.md": []byte(tr.Markdown())} {
		path := filepath.Join("testdata", name)
		if *update {
			must(t, os.WriteFile(path, got, 0o600))
		}
		want, err := os.ReadFile(path)
		must(t, err)
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	// What was written years ago is read, verified and gone on with.
	old, err := os.ReadFile(filepath.Join("testdata", "transcript.golden"))
	must(t, err)
	again, err := Parse(old)
	must(t, err)
	report, err := again.Verify(seeded(1).Public())
	must(t, err)
	want := &Report{
		Records: 7, Ceremonies: 2, Acts: 3, First: epoch, Last: epoch.AddDate(0, 5, 0), Trusted: true,
		Head: again.Head(), Keys: []string{pki.Fingerprint(spki(t, seeded(1)))},
	}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	must(t, again.Begin(opening(t, "third"), epoch.AddDate(1, 0, 0)))
	must(t, again.Sign(epoch.AddDate(1, 0, 0), Signer{CASigner, seeded(1)}, Signer{"Ada", seeded(2)}))
	if !bytes.HasPrefix(again.Bytes(), old) {
		t.Error("the old records were changed")
	}
	_, err = again.Verify(seeded(1).Public())
	must(t, err)
}

// A transcript of the form that did not sign the time is read, verified with a note, and
// gone on with. What is signed now is bound to its time.
func TestTimeIsSigned(t *testing.T) {
	t.Parallel()
	old, err := os.ReadFile(filepath.Join("testdata", "transcript-1.golden"))
	must(t, err)
	tr, err := Parse(old)
	must(t, err)
	report, err := tr.Verify(seeded(1).Public())
	must(t, err)
	if len(report.Notes) != 3 || !strings.Contains(report.Notes[2], `record 7: the signature of "ca" is of an older form`) {
		t.Errorf("notes %q", report.Notes)
	}
	must(t, tr.Begin(Ceremony{Name: "c", Tool: "t", Reason: "r"}, epoch.AddDate(1, 0, 0)))
	must(t, tr.Sign(epoch.AddDate(1, 0, 0), Signer{CASigner, seeded(1)}))
	moved := strings.Split(strings.TrimSuffix(string(tr.Bytes()), "\n"), "\n")
	last := len(moved) - 1
	moved[last] = rehash(t, strings.Replace(moved[last], "2027-11-21", "2028-11-21", 1))
	tr, err = Parse([]byte(strings.Join(moved, "\n") + "\n"))
	must(t, err)
	if _, err := tr.Verify(); err == nil || !strings.Contains(err.Error(), "record 9: the signature of \"ca\"") {
		t.Errorf("another time: %v", err)
	}
}

// Who has written down the head finds out that ceremonies were cut off the end.
func TestCutAtACeremonysEnd(t *testing.T) {
	t.Parallel()
	tr := sample(t)
	all := lines(t)
	cut, err := Parse([]byte(strings.Join(all[:4], "\n") + "\n"))
	must(t, err)
	if _, err := cut.Verify(seeded(1).Public()); err != nil {
		t.Fatal(err) // it vouches for itself
	}
	if _, err := cut.Reaches(tr.Head()); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("cut: %v", err)
	}
	for head, want := range map[string]int{tr.Head(): 0, strings.ToUpper(cut.Head()): 3} {
		if after, err := tr.Reaches(head); err != nil || after != want {
			t.Errorf("%s: %d after it, %v", head, after, err)
		}
	}
}

// Keys of every kind that a CA may have sign a transcript.
func TestSignEveryKind(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(t, err)
		verifies(t, key)
	}
	verifies(t, rsaKey)
	verifies(t, seeded(9))
}

func verifies(t *testing.T, key crypto.Signer) {
	t.Helper()
	tr := &Transcript{}
	must(t, tr.Begin(Ceremony{Name: "c", Tool: "t"}, epoch))
	must(t, tr.Sign(epoch, Signer{CASigner, key}))
	again, err := Parse(tr.Bytes())
	must(t, err)
	report, err := again.Verify(key.Public())
	must(t, err)
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "has no reason") {
		t.Errorf("G1-55: notes %q", report.Notes)
	}
	if _, err := again.Verify(seeded(3).Public()); err == nil || !strings.Contains(err.Error(), "record 2: the CA's signature is by a foreign key") {
		t.Errorf("a foreign key: %v", err)
	}
	if report, err := again.Verify(); err != nil || report.Trusted {
		t.Errorf("without a key to compare: %v", err)
	}
	again.records[1].Signatures[0].Value[9] ^= 1
	last := again.records[1]
	if err := last.Signatures[0].verify(message(last.Prev, last.Time)); err == nil {
		t.Error("a changed signature verifies")
	}
}

// An interrupted ceremony is covered by the next one's signature, and noted.
func TestInterruptedCeremony(t *testing.T) {
	t.Parallel()
	tr := &Transcript{}
	must(t, tr.Begin(Ceremony{Name: "a", Tool: "t", Reason: "r"}, epoch))
	must(t, tr.Append(Act{Name: "crl", Failed: "the token was taken out"}, epoch))
	if _, err := tr.Verify(); err == nil || !strings.Contains(err.Error(), "record 2: no signature follows") {
		t.Errorf("an open ceremony: %v", err)
	}
	must(t, tr.GoesOn(seeded(1).Public()))
	altered := &Transcript{records: append([]Record{tr.records[0]}, tr.records[0]), text: tr.text}
	if err := altered.GoesOn(seeded(1).Public()); err == nil {
		t.Error("one goes on with a transcript that does not hold")
	}
	must(t, tr.Begin(Ceremony{Name: "b", Tool: "t", Reason: "r"}, epoch))
	must(t, tr.Sign(epoch, Signer{CASigner, seeded(1)}))
	report, err := tr.Verify(seeded(1).Public())
	must(t, err)
	if report.Failed != 1 || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "interrupted") {
		t.Errorf("%+v", report)
	}
}

// broken is a key that returns an error, or a signature of something else.
type broken struct {
	crypto.Signer
	err error
}

func (b broken) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.Signer.Sign(r, append([]byte("x"), digest...), opts)
}

func TestRefusedRecords(t *testing.T) {
	t.Parallel()
	begun := func() *Transcript {
		tr := &Transcript{}
		must(t, tr.Begin(opening(t, "c"), epoch))
		return tr
	}
	ca, ada := Signer{CASigner, seeded(1)}, Signer{"Ada", seeded(2)}
	long := strings.Repeat("x", maxText+1)
	many := make([]string, maxMembers+1)
	for i := range many {
		many[i] = strings.Repeat("i", i+1)
	}
	crowd := make([]Custodian, maxMembers+1)
	for _, c := range []struct {
		name, want string
		do         func(tr *Transcript) error
	}{
		{"no name", "has a name", func(tr *Transcript) error { return tr.Begin(Ceremony{Tool: "t"}, epoch) }},
		{"no tool", "a tool", func(tr *Transcript) error { return tr.Begin(Ceremony{Name: "c"}, epoch) }},
		{"custodian twice", "twice", func(tr *Transcript) error {
			return tr.Begin(Ceremony{Name: "c", Tool: "t", Custodians: []Custodian{{Name: "A"}, {Name: "A"}}}, epoch)
		}},
		{"crowd", "more than", func(tr *Transcript) error { return tr.Begin(Ceremony{Name: "c", Tool: "t", Custodians: crowd}, epoch) }},
		{"long key", "key is too long", func(tr *Transcript) error {
			return tr.Begin(Ceremony{Name: "c", Tool: "t", Custodians: []Custodian{{Name: "A", Key: []byte(long)}}}, epoch)
		}},
		{"bad hash", "64 lower-case", func(tr *Transcript) error { return tr.Begin(Ceremony{Name: "c", Tool: "t", ToolHash: long}, epoch) }},
		{"nameless act", "has a name", func(tr *Transcript) error { return tr.Append(Act{}, epoch) }},
		{"many", "more than", func(tr *Transcript) error { return tr.Append(Act{Name: "a", Custodians: many}, epoch) }},
		{"upper case hash", "64 lower-case", func(tr *Transcript) error {
			return tr.Append(Act{Name: "a", Request: strings.ToUpper(pki.Fingerprint(request))}, epoch)
		}},
		{"control character", "does not print", func(tr *Transcript) error { return tr.Append(Act{Name: "a", Note: "\x1b[2J"}, epoch) }},
		{"not UTF-8", "not UTF-8", func(tr *Transcript) error { return tr.Append(Act{Name: "a", Note: "\xff"}, epoch) }},
		{"long", "longer than", func(tr *Transcript) error { return tr.Append(Act{Name: "a", Note: long}, epoch) }},
		{"long line", "at most", func(tr *Transcript) error {
			full := make([]string, 20)
			for i := range full {
				full[i] = long[:maxText]
			}
			return tr.Append(Act{Name: "a", Custodians: full}, epoch)
		}},
		{"clock", "before the last record", func(tr *Transcript) error { return tr.Append(Act{Name: "a"}, epoch.Add(-time.Second)) }},
		{"no clock", "before the last record", func(tr *Transcript) error { return tr.Append(Act{Name: "a"}, time.Time{}) }},
		{"without CA", "CA's own signature is missing", func(tr *Transcript) error { return tr.Sign(epoch, ada) }},
		{"without Ada", `"Ada", whose key the opening names, did not sign`, func(tr *Transcript) error { return tr.Sign(epoch, ca) }},
		{"stranger", "does not name", func(tr *Transcript) error { return tr.Sign(epoch, ca, ada, Signer{"Eve", seeded(5)}) }},
		{"other key", "does not name", func(tr *Transcript) error { return tr.Sign(epoch, ca, Signer{"Ada", seeded(5)}) }},
		{"twice", "signs twice", func(tr *Transcript) error { return tr.Sign(epoch, ca, ca, ada) }},
		{"key fails", "as ca: taken out", func(tr *Transcript) error {
			return tr.Sign(epoch, Signer{CASigner, broken{seeded(1), errors.New("taken out")}}, ada)
		}},
		{"key lies", "does not fit", func(tr *Transcript) error { return tr.Sign(epoch, Signer{CASigner, broken{seeded(1), nil}}, ada) }},
	} {
		tr := begun()
		before := tr.Bytes()
		if err := c.do(tr); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if !bytes.Equal(before, tr.Bytes()) || len(tr.Records()) != 1 {
			t.Errorf("%s: the transcript was changed", c.name)
		}
	}
	closed := begun()
	must(t, closed.Sign(epoch, ca, ada))
	if err := closed.Append(Act{Name: "a"}, epoch); err == nil {
		t.Error("an act after the signature")
	}
	if err := closed.Sign(epoch, ca, ada); err == nil {
		t.Error("a second signature")
	}
	if _, err := (&Transcript{}).Verify(); err == nil {
		t.Error("nothing verifies")
	}
}

func TestG1_37_Match(t *testing.T) {
	t.Parallel()
	tr := sample(t)
	must(t, tr.Begin(opening(t, "third"), epoch.AddDate(1, 0, 0)))
	must(t, tr.Append(Act{Name: "sign-ca", Certificate: pki.Fingerprint([]byte("undone")), Failed: "refused"}, epoch.AddDate(1, 0, 0)))
	found, err := tr.Match(request, certificate)
	must(t, err)
	if found.Record.Act.Subject != "CN=Issuing 1" || found.Ceremony.Name != "Root 2026" {
		t.Errorf("found %+v", found)
	}
	if _, err := tr.Match(nil, certificate); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ name, request, certificate, want string }{
		{"unknown", "x", "y", "no act of the transcript"},
		{"other certificate", string(request), "y", "another certificate"},
		{"other request", "x", string(certificate), "record 3: the certificate was signed for another request"},
		{"not done", "x", "undone", "no act"},
	} {
		if _, err := tr.Match([]byte(c.request), []byte(c.certificate)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	must(t, tr.Append(Act{Name: "sign-ca", Serial: "2a", Certificate: pki.Fingerprint([]byte("later"))}, epoch.AddDate(1, 0, 0)))
	must(t, tr.Append(Act{Name: "revoke", Serial: "2a", Failed: "refused"}, epoch.AddDate(1, 0, 0)))
	if _, err := tr.Match(nil, []byte("later")); err != nil {
		t.Errorf("a revocation that was not done: %v", err)
	}
	must(t, tr.Append(Act{Name: "revoke", Serial: "2a"}, epoch.AddDate(1, 0, 0)))
	if _, err := tr.Match(nil, []byte("later")); err == nil || !strings.Contains(err.Error(), "revoked after it was signed") {
		t.Errorf("a certificate that was revoked later: %v", err)
	}
	for hash, want := range map[string]int{"": 0, pki.Fingerprint([]byte("list")): 1, pki.Fingerprint([]byte("key")): 1, pki.Fingerprint([]byte("?")): 0} {
		if got := tr.Find(hash); len(got) != want {
			t.Errorf("%q: %d acts, want %d", hash, len(got), want)
		}
	}
}
