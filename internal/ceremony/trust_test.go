package ceremony

import (
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/transcript"
)

// table is a folder with requests, around which people hold ceremonies.
type table struct {
	t      *testing.T
	dir    string
	said   strings.Builder
	typed  string            // fingerprint of the request
	sheets []string          // of those who come to open a key, in order
	lines  []string          // of the share that is being typed
	upon   map[string]func() // what happens when a text is shown, once
}

var errCut = errors.New("the power failed")

func newTable(t *testing.T, requested string) *table {
	t.Helper()
	b := &table{t: t, dir: t.TempDir(), upon: map[string]func(){}}
	csr := request(t, newKey(t), requested)
	b.typed = pki.Fingerprint(csr.Raw)
	b.write("a.csr", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw})))
	return b
}

func (b *table) path(name string) string { return filepath.Join(b.dir, name) }

func (b *table) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *table) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// Write is what appears on the screen.
func (b *table) Write(p []byte) (int, error) {
	b.said.Write(p)
	for text, happens := range b.upon {
		if strings.Contains(string(p), text) {
			delete(b.upon, text)
			happens()
		}
	}
	return len(p), nil
}

func (b *table) answer() (string, error) {
	said := b.said.String()
	prompt := said[strings.LastIndex(said, "\n")+1:]
	switch {
	case strings.Contains(prompt, "fingerprint"):
		return b.typed, nil
	case strings.Contains(prompt, "Type yes"):
		return "yes", nil
	case strings.Contains(prompt, "name of the CA"):
		return "root", nil
	case strings.Contains(prompt, "line 1 of"):
		if _, path, own := strings.Cut(said[strings.LastIndex(said, "taken.")+1:], "your sheet is "); own {
			path = path[strings.LastIndex(path, "your sheet is ")+1:]
			path = strings.TrimPrefix(path, "our sheet is ")
			path, _, _ = strings.Cut(path, ". Print it")
			b.lines = b.share(path)
		} else if len(b.sheets) == 0 {
			return "", errCut
		} else {
			b.lines, b.sheets = b.share(b.sheets[0]), b.sheets[1:]
		}
	}
	if strings.Contains(prompt, "of your sheet") {
		line := b.lines[0]
		b.lines = b.lines[1:]
		return line, nil
	}
	return "correct horse battery", nil
}

func (b *table) share(path string) (lines []string) {
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, words, ok := strings.Cut(line, " | "); ok {
			lines = append(lines, strings.TrimSpace(words))
		}
	}
	return lines
}

// hold holds a ceremony of the given text. A panic is the power that fails.
func (b *table) hold(text string, o Options) (err error) {
	defer func() {
		if recover() != nil {
			err = errCut
		}
	}()
	b.said.Reset()
	b.write("ceremony.yaml", text)
	o.Tool, o.Program = "test", os.Args[0]
	c := Console{Out: b, Clear: func() {}, Line: b.answer, Secret: func() ([]byte, error) {
		line, err := b.answer()
		b.said.WriteString("\n")
		return []byte(line), err
	}}
	return Run(b.t.Context(), b.path("ceremony.yaml"), c, o, func() time.Time { return epoch })
}

func (b *table) must(text string, o Options) {
	b.t.Helper()
	if err := b.hold(text, o); err != nil {
		b.t.Fatalf("%v\n%s", err, b.said.String())
	}
}

func (b *table) refuses(text, want string, o Options) {
	b.t.Helper()
	if err := b.hold(text, o); err == nil || !strings.Contains(err.Error(), want) {
		b.t.Errorf("got %v, want %q", err, want)
	}
}

func (b *table) ca() CA { return CA{Dir: b.path("root"), Now: func() time.Time { return epoch }} }

func (b *table) transcript() *transcript.Transcript {
	b.t.Helper()
	tr, err := transcript.Parse([]byte(b.read("root/transcript.json")))
	if err != nil {
		b.t.Fatal(err)
	}
	return tr
}

const (
	rootAct  = "  - root: {ca: root, subject: \"" + rootName + "\"}\n"
	founding = "name: Founding\ncas: [{name: root}]\nacts:\n" + rootAct
	signing  = "name: Signing\nout: out2\ncas: [{name: root}]\nacts:\n  - sign-ca: {ca: root, csr: a.csr}\n"
)

// What was shown and confirmed is what happens, whatever becomes of the files.
func TestFilesAreReadOnce(t *testing.T) {
	t.Parallel()
	b := newTable(t, caName)
	b.must(founding+"  - sign-ca: {ca: root, csr: a.csr}\n", Options{})
	b.must(signing, Options{})
	index, err := b.ca().Index()
	if err != nil || len(index) != 2 {
		t.Fatal(index, err)
	}
	shown, other := b.read(filepath.Join("root", filed("newcerts", index[0].Serial))), b.read(filepath.Join("root", filed("newcerts", index[1].Serial)))
	b.write("bad.pem", shown)
	b.upon["Type yes"] = func() { b.write("bad.pem", other) }
	b.must("name: Revocation\nout: out3\ncas: [{name: root}]\nacts:\n  - revoke: {ca: root, certificate: bad.pem}\n  - crl: {ca: root}\n", Options{})
	if index, err = b.ca().Index(); err != nil || index[0].Revoked == nil || index[1].Revoked != nil {
		t.Errorf("the certificate that was shown is not the one that was revoked: %+v, %v", index, err)
	}
}

// Serials are a CA's own: a certificate of another with the same one is refused.
func TestRevokeRefusesAnothersCertificate(t *testing.T) {
	t.Parallel()
	b := newTable(t, caName)
	b.must(founding+"  - sign-ca: {ca: root, csr: a.csr}\n", Options{})
	index, err := b.ca().Index()
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).Set(index[0].Serial.Big()), Subject: pkix.Name{CommonName: "another"}, NotBefore: epoch, NotAfter: epoch.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b.write("bad.pem", string(pki.EncodeChain(der)))
	for _, act := range []string{"revoke: {ca: root, certificate: bad.pem}", "replace-ca: {ca: root, replaces: bad.pem, csr: a.csr}"} {
		b.refuses("name: x\nout: out3\ncas: [{name: root}]\nacts:\n  - "+act+"\n  - crl: {ca: root}\n", "was not signed by", Options{})
	}
}

// A new set for the same people that was not finished is not taken for done: the
// old shares would go on opening the key.
func TestG1_26_SamePeopleInterrupted(t *testing.T) {
	t.Parallel()
	b := newTable(t, caName)
	sheets := Options{Sheets: t.TempDir()}
	const q = "{need: 2, custodians: [Ann, Bo]}"
	b.must("name: Founding\ncas: [{name: root, quorum: "+q+"}]\nacts:\n"+rootAct, sheets)
	old, err := b.ca().holders()
	if err != nil {
		t.Fatal(err)
	}
	key := b.read("root/private/ca.key")
	change := "name: New sheets\nout: out2\ncas: [{name: root}]\nacts:\n  - change-quorum: {ca: root, quorum: " + q + "}\n"
	both := []string{}
	for n := 1; n <= 2; n++ {
		both = append(both, filepath.Join(sheets.Sheets, fmt.Sprintf("root-%s-%d.txt", old.set.ID, n)))
	}
	b.sheets, b.upon["Share 1, Ann: right"] = both, func() { panic(errCut) }
	if err := b.hold(change, sheets); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	b.sheets = both
	b.must(change, sheets)
	h, err := b.ca().holders()
	if err != nil || h.set.ID == old.set.ID || b.read("root/private/ca.key") == key {
		t.Errorf("the old set still opens the key: %v, %v", h, err)
	}
	// Interrupted after the key file was replaced, it is not done twice.
	b.sheets = nil
	for n := 1; n <= 2; n++ {
		b.sheets = append(b.sheets, filepath.Join(sheets.Sheets, fmt.Sprintf("root-%s-%d.txt", h.set.ID, n)))
	}
	b.upon["set          "] = func() { panic(errCut) }
	change = strings.ReplaceAll(change, "New sheets", "Newer sheets")
	if err := b.hold(strings.ReplaceAll(change, "out2", "out3"), sheets); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	newer, err := b.ca().holders()
	if err != nil || newer.set.ID == h.set.ID {
		t.Fatal(newer, err)
	}
	for n := 1; n <= 2; n++ {
		b.sheets = append(b.sheets, filepath.Join(sheets.Sheets, fmt.Sprintf("root-%s-%d.txt", newer.set.ID, n)))
	}
	b.must(strings.ReplaceAll(change, "out2", "out3"), sheets)
	if again, err := b.ca().holders(); err != nil || again.set.ID != newer.set.ID {
		t.Errorf("dealt twice: %v, %v", again, err)
	}
}

// The folder of what leaves the machine is apart from the CAs' folders and from
// the sheets.
func TestG1_33_OutIsApart(t *testing.T) {
	t.Parallel()
	b := newTable(t, caName)
	q := ", quorum: {need: 2, custodians: [Ann, Bo]}"
	for name, c := range map[string]struct {
		cas, out string
		o        Options
	}{
		"the CA's folder":       {"{name: root}", "root", Options{}},
		"with the CA's key":     {"{name: root}", "root/private", Options{}},
		"the CA's folder in it": {"{name: root, folder: out/root}", "out", Options{}},
		"sheets in it":          {"{name: root" + q + "}", "out", Options{Sheets: b.path("out/sheets")}},
		"sheets with the key":   {"{name: root" + q + "}", "out", Options{Sheets: b.path("root/sheets")}},
	} {
		t.Log(name)
		b.refuses("name: x\nout: "+c.out+"\ncas: ["+c.cas+"]\nacts:\n"+rootAct, "apart", c.o)
	}
}

// What the transcript cannot hold shows in the rehearsal, not after the signature.
func TestTranscriptIsRehearsed(t *testing.T) {
	t.Parallel()
	b := newTable(t, "CN=Example\u00a0CA,O=Example,ST=Bremen,C=DE")
	for name, text := range map[string]string{
		"request":   founding + "  - sign-ca: {ca: root, csr: a.csr}\n",
		"reason":    "reason: |\n  two\n  lines\n" + founding,
		"name":      strings.ReplaceAll(founding, "name: Founding", "name: \"a\\tb\""),
		"twice":     "present: [{name: Ann}, {name: Ann}]\n" + founding,
		"ca":        "present: [{name: ca, key: \"file:a.key\"}]\n" + founding,
		"custodian": strings.ReplaceAll(founding, "{name: root}", "{name: root, quorum: {need: 2, custodians: [Ann, \"B\\u00a0o\"]}}"),
	} {
		if err := b.hold(text, Options{Sheets: t.TempDir()}); err == nil || exists(b.path("root")) || strings.Contains(b.said.String(), "Type yes") {
			t.Errorf("%s: %v", name, err)
			os.RemoveAll(b.path("root"))
			os.RemoveAll(b.path("out"))
			os.Remove(b.path(journalFile))
		}
	}
}

// A destruction that was interrupted after the key was gone is gone on with.
func TestDestroyInterrupted(t *testing.T) {
	t.Parallel()
	b := newTable(t, caName)
	b.must(founding, Options{})
	text := "name: End\nout: out2\ncas: [{name: root}]\nacts:\n  - destroy: {ca: root}\n"
	b.upon["  done "] = func() { panic(errCut) }
	if err := b.hold(text, Options{}); !errors.Is(err, errCut) || exists(b.path("root/private/ca.key")) {
		t.Fatal(err)
	}
	b.must(text, Options{})
	chain, err := b.ca().Chain()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.transcript().Verify(chain[0].PublicKey); err != nil {
		t.Error(err)
	}
}

// A transcript that does not hold is not signed on.
func TestTranscriptIsVerifiedFirst(t *testing.T) {
	t.Parallel()
	b := newTable(t, caName)
	b.must("reason: first\n"+founding, Options{})
	good := b.read("root/transcript.json")
	next := "name: List\nout: out2\ncas: [{name: root}]\nacts:\n  - crl: {ca: root}\n"
	for name, text := range map[string]string{
		"altered": strings.Replace(good, "first", "other", 1),
		"taken":   "",
	} {
		b.write("root/transcript.json", text)
		if err := b.hold(next, Options{}); err == nil || !strings.Contains(err.Error(), "transcript") {
			t.Errorf("%s: %v", name, err)
			os.RemoveAll(b.path("out2"))
		}
	}
	b.write("root/transcript.json", good)
	b.must(next, Options{})
}

// A folder that was put back from an older copy, but for its transcript, does not
// make a second list of the same number; one without an index makes none.
func TestNumbersOutliveTheFolder(t *testing.T) {
	t.Parallel()
	b := newTable(t, caName)
	b.must(founding, Options{})
	number := b.read("root/crlnumber")
	list := func(n int) string {
		return fmt.Sprintf("name: List %d\nout: list-%d\ncas: [{name: root}]\nacts:\n  - crl: {ca: root}\n", n, n)
	}
	b.must(list(1), Options{})
	b.write("root/crlnumber", number)
	if err := os.RemoveAll(b.path("root/crl")); err != nil {
		t.Fatal(err)
	}
	b.must(list(2), Options{})
	if last, err := b.ca().lastCRL(); err != nil || last.Number.Int64() != 0x1001 {
		t.Errorf("%v, %v", last.Number, err)
	}
	if err := os.Remove(b.path("root/index.txt")); err != nil {
		t.Fatal(err)
	}
	b.refuses(list(3), "read index", Options{})
}

// G2-12: a request in the name of the CA itself is refused.
func TestSignCARefusesItsOwnName(t *testing.T) {
	t.Parallel()
	b := newTable(t, rootName)
	b.refuses(founding+"  - sign-ca: {ca: root, csr: a.csr}\n", "is the name of a CA above", Options{})
}

func TestDecodeFileRefusesTraps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"a CA twice":       {"name: x\ncas: [{name: root, folder: a}, {name: root, folder: b}]\nacts: [{crl: {ca: root}}]", "twice"},
		"two acts in one":  {"name: x\ncas: [{name: root}]\nacts:\n  - crl: {ca: root}\n    change-quorum: {ca: root, quorum: {need: 2, custodians: [a, b]}}\n", "an act has the form"},
		"a token's quorum": {"name: x\ncas: [{name: root, key: \"pkcs11:token=a;object=b\"}]\nacts: [{change-quorum: {ca: root, quorum: {need: 2, custodians: [a, b]}}}]", "token"},
		"a token's end":    {"name: x\ncas: [{name: root, key: \"pkcs11:token=a;object=b\"}]\nacts: [{destroy: {ca: root}}]", "token"},
		"same file":        {"name: x\ncas: [{name: root}]\nacts: [{sign-ca: {ca: root, csr: a.csr}}, {sign-ca: {ca: root, csr: a-chain.csr}}]", "rename"},
	} {
		if _, err := DecodeFile([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
