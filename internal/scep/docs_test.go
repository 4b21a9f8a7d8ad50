package scep

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestConformancePage keeps the page of rules true: every rule has a row, and
// every test that it names exists.
func TestConformancePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/conformance-scep.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, f := range append(files, "../../test/e2e/scep_test.go") {
		text, err := os.ReadFile(f) //nolint:gosec // our own tests
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(code.String(), "func "+m[1]+"(") {
			t.Errorf("%s does not exist", m[1])
		}
	}
	for rule := 1; rule <= 28; rule++ {
		if !strings.Contains(string(page), "\n| S"+strconv.Itoa(rule)+" |") {
			t.Errorf("no row for S%d", rule)
		}
	}
}
