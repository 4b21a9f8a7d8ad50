package ceremony

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/quorum"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

func newHolders(t *testing.T, custodians ...string) *holders {
	t.Helper()
	set, _, err := quorum.Split(quorum.NewSecret(), 2, len(custodians))
	if err != nil {
		t.Fatal(err)
	}
	return &holders{Custodians: custodians, set: set}
}

// Every scaffold is a file that can be run as it is.
func TestG1_02_G2_26_Scaffolds(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ cas, acts int }{"tiers-2": {1, 4}, "tiers-3": {3, 9}, "manufacturer": {5, 14}} {
		text, err := Scaffold(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := DecodeFile([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(f.CAs) != want.cas || len(f.Acts) != want.acts || f.Reason == "" {
			t.Errorf("%s: %d CAs, %d acts", name, len(f.CAs), len(f.Acts))
		}
	}
	if _, err := Scaffold("tiers-1"); err == nil {
		t.Error("a scaffold of one tier")
	}
}

// G2-10: the acts are exactly these.
func TestG2_10_Acts(t *testing.T) {
	t.Parallel()
	for _, act := range ActNames {
		text := "name: x\ncas: [{name: root}]\nacts:\n  - " + act + ": {ca: nobody}\n"
		if _, err := DecodeFile([]byte(text)); err == nil || !strings.Contains(err.Error(), act+`: there is no CA "nobody"`) {
			t.Errorf("%s: %v", act, err)
		}
	}
	for _, act := range []string{"issue", "sign-leaf", "sign", "Root", "rekey"} {
		text := "name: x\ncas: [{name: root}]\nacts:\n  - " + act + ": {ca: root}\n"
		if _, err := DecodeFile([]byte(text)); err == nil || !strings.Contains(err.Error(), "its acts are root, sign-ca") {
			t.Errorf("%s: %v", act, err)
		}
	}
}

func TestDecodeFileRefuses(t *testing.T) {
	t.Parallel()
	const head = "name: x\ncas: [{name: root}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "the file is empty"},
		"two documents":    {head + "acts: [{crl: {ca: root}}]\n---\nname: y\n", "a second document begins here"},
		"no name":          {"cas: [{name: root}]\nacts: [{crl: {ca: root}}]", "name: say what"},
		"no acts":          {head, "acts: there are none"},
		"an act of two":    {head + "acts: [{crl: {ca: root}, root: {ca: root}}]", "an act has the form"},
		"an act as text":   {head + "acts: [crl]", "an act has the form"},
		"bad CA name":      {"name: x\ncas: [{name: ../x}]\nacts: [{crl: {ca: root}}]", "small letters"},
		"one folder twice": {"name: x\ncas: [{name: a}, {name: b, folder: ./a}]\nacts: [{crl: {ca: a}}]", "same folder"},
		"bad key":          {"name: x\ncas: [{name: root, key: \"pkcs11:pin-value=1\"}]\nacts: [{crl: {ca: root}}]", "root:"},
		"a credential":     {"name: x\ncas: [{name: root, key: \"credential:root\"}]\nacts: [{crl: {ca: root}}]", "are for servers"},
		"quorum and token": {"name: x\ncas: [{name: root, key: \"pkcs11:token=a;object=b\", quorum: {need: 2, custodians: [a, b]}}]\nacts: [{crl: {ca: root}}]", "token's own affair"},
		"custodian twice":  {"name: x\ncas: [{name: root, quorum: {need: 2, custodians: [a, a]}}]\nacts: [{crl: {ca: root}}]", "there twice"},
		"csr and new":      {head + "acts: [{sign-ca: {ca: root, csr: a, new: root}}]", "want either csr"},
		"csr and subject":  {head + "acts: [{sign-ca: {ca: root, csr: a, subject: CN=a}}]", "go with new"},
		"new unknown":      {head + "acts: [{sign-ca: {ca: root, new: other}}]", `no CA "other"`},
		"bad revoke":       {head + "acts: [{replace-ca: {ca: root, replaces: \"1\", csr: a, revoke: whim}}]", "whim"},
		"no list after":    {head + "acts: [{crl: {ca: root}}, {revoke: {ca: root, certificate: \"1\"}}]", "next list"},
		"too long":         {strings.Repeat("#", strictyaml.MaxSize+1), "longer than"},
	} {
		if _, err := DecodeFile([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeFile(f *testing.F) {
	for _, name := range []string{"tiers-2", "tiers-3", "manufacturer"} {
		text, err := Scaffold(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
	}
	f.Add([]byte("acts: !x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := DecodeFile(text)
		if err != nil {
			return
		}
		for _, act := range file.Acts {
			if name, ca := act.name(); name == "" || ca == "" {
				t.Errorf("act %+v", act)
			}
		}
	})
}

// TestFT18_ScaffoldSaysUsages: what a CA may certify for as long as it lives is a line to
// be looked at, with bounds of names beside it that hold when they are asked for.
func TestFT18_ScaffoldSaysUsages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tiers-2", "tiers-3"} {
		text, err := Scaffold(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, comment := range []string{"# name_constraints:", "#   permitted:", "#   excluded:"} {
			if !strings.Contains(text, comment) {
				t.Fatalf("%s: no %q", name, comment)
			}
			text = strings.ReplaceAll(text, comment, strings.Replace(comment, "# ", "", 1))
		}
		path := filepath.Join(t.TempDir(), "ceremony.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file, _, err := ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bounded := 0
		for _, act := range file.Acts {
			if act.SignCA == nil {
				continue
			}
			if act.SignCA.NameConstraints != nil {
				bounded++
			}
			if name == "tiers-2" && !slices.Equal(act.SignCA.ExtKeyUsage, calaw.IssuingUsages()) {
				t.Errorf("%s: %s may be for %v", name, act.SignCA.CSR, act.SignCA.ExtKeyUsage)
			}
		}
		if bounded != 1 {
			t.Errorf("%s: %d CAs with bounds", name, bounded)
		}
	}
}
