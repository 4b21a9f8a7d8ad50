package internal

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ruleRanges are the rules of each family that have a row in one of the pages
// docs/conformance*.md.
var ruleRanges = []struct {
	family      string
	first, last int
}{
	{"A", 1, 60}, {"C", 1, 14}, {"E", 1, 21}, {"O", 1, 16}, {"S", 1, 28}, {"X", 1, 18},
}

// TestConformancePages keeps the pages of rules true: every rule has a row, and
// every test that a page names exists.
func TestConformancePages(t *testing.T) {
	pages, err := filepath.Glob("../docs/conformance*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	tests := testNames(t, ".", "../test", "../cmd")
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	all := ""
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		all += string(text)
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if !tests[m[1]] {
				t.Errorf("%s: %s does not exist", filepath.Base(page), m[1])
			}
		}
	}
	for _, r := range ruleRanges {
		for n := r.first; n <= r.last; n++ {
			if rule := fmt.Sprintf("\n| %s%d |", r.family, n); !strings.Contains(all, rule) {
				t.Errorf("no page has a row for %s%d", r.family, n)
			}
		}
	}
}

// testNames returns the names of all tests and fuzz targets below the folders.
func testNames(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(text, -1) {
				names[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}
