package challenge

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestConformancePageNamesTests: docs/conformance-challenge.md has a row for each
// rule of this package, and every test that it names exists here.
func TestConformancePageNamesTests(t *testing.T) {
	page, err := os.ReadFile("../../docs/conformance-challenge.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, rule := range []string{"A52", "A53", "A54", "A55", "A56", "A57", "A58", "A59", "A60"} {
		if !strings.Contains(string(page), "\n| "+rule+" |") {
			t.Errorf("no row for %s", rule)
		}
	}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(code.String(), "\nfunc "+m[1]+"(") {
			t.Errorf("%s does not exist", m[1])
		}
	}
}
