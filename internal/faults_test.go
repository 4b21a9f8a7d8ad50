package internal

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tests into docs/faults.md")

// TestFaultsPage keeps docs/faults.md true: the tests that are named by a fault stand in
// its row, and every test there exists.
func TestFaultsPage(t *testing.T) {
	const page = "../docs/faults.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t, ".", "../test", "../cmd")
	byFault := map[string][]string{}
	named := regexp.MustCompile(`(?:^Test|_)(F[STR]\d+)_`)
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		for _, m := range named.FindAllStringSubmatch(name, -1) {
			byFault[m[1]] = append(byFault[m[1]], name)
		}
	}
	row := regexp.MustCompile(`(?m)^\| (F[STR]\d+) \| (.*) \| (.*) \|$`)
	want := row.ReplaceAllStringFunc(string(text), func(line string) string {
		m := row.FindStringSubmatch(line)
		var all []string
		for _, old := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(m[3], -1) {
			if tests[old[1]] && !named.MatchString(old[1]) {
				all = append(all, old[1])
			}
		}
		all = append(slices.Clone(byFault[m[1]]), all...)
		delete(byFault, m[1])
		if len(all) == 0 {
			t.Errorf("%s has no test", m[1])
		}
		return fmt.Sprintf("| %s | %s | `%s` |", m[1], m[2], strings.Join(all, "`, `"))
	})
	for fault, names := range byFault {
		t.Errorf("docs/faults.md has no row for %s: %v", fault, names)
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Error("docs/faults.md is not current: go test ./internal -run FaultsPage -update")
	}
}
