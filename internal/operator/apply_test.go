package operator

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// What people add to a ceremony's file is theirs as long as the plan is the same;
// a new plan sets the file aside.
func TestApplyKeepsWhatPeopleWrote(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	a := &application{cmd: &cobra.Command{}, out: t.TempDir()}
	a.cmd.SetErr(&said)
	file := filepath.Join(a.out, "root-1", "ceremony.yaml")
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	write := func(plan string) {
		t.Helper()
		if err := a.ceremony(api.PlannedCeremony{Root: "root-1", File: plan}); err != nil {
			t.Fatal(err)
		}
	}
	write("name: one\n")
	edited := read(file) + "present: [{name: Ann}]\n"
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	write("name: one\n")
	if read(file) != edited || said.Len() > 0 {
		t.Errorf("the same plan changed the file:\n%s%s", read(file), &said)
	}
	write("name: two\n")
	if read(file+".old") != edited || !strings.HasSuffix(read(file), "name: two\n") || !strings.Contains(said.String(), "ceremony.yaml.old") {
		t.Errorf("another plan:\n%s%s", read(file), &said)
	}
}

// Files come back in one folder for each ceremony; the newest certificate counts.
func TestApplyReadsEveryFolderThatCameBack(t *testing.T) {
	t.Parallel()
	a := &application{out: t.TempDir()}
	for _, dir := range []string{"out", "out-2", "other"} {
		path := filepath.Join(a.out, "root-1", dir, "root-1")
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "web-a.pem"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := a.back("root-1", "root-1", "web-a.pem")
	if err != nil || len(found) != 2 || !strings.Contains(found[1], "out-2") {
		t.Errorf("%q %v", found, err)
	}
}
