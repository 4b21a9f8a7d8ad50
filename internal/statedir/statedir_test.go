package statedir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/statedir"
)

func TestNodeKeepsItsNameAndOpensAChain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	first, err := statedir.Claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := statedir.Claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
	if first.Name == "" || second.Name != first.Name || second.Chain == first.Chain || second.Former != first.Chain {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := statedir.Claim(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged name gave %v", err)
	}
}
