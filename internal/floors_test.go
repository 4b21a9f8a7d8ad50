// Package internal holds only the test of the house's floors.
package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/privyseal/privyseal/"

// floors is a statement of policy: imports go downward, never sideways. A
// build is not fixed by editing this table. It lists the packages that exist and
// no others.
var floors = [][]string{
	0:  {"internal/fault", "api", "migrations"},
	1:  {"internal/files", "internal/pki", "internal/strictyaml", "internal/work"},
	2:  {"internal/profile", "internal/hierarchy", "internal/store", "internal/keys", "internal/cms", "internal/cmc", "internal/web", "internal/quorum", "internal/transcript", "internal/seal"},
	3:  {"internal/issuer", "internal/calaw", "internal/opensslca", "internal/audit", "internal/challenge", "internal/limit", "internal/lease", "internal/statedir"},
	4:  {"internal/ca"},
	5:  {"internal/issuance", "internal/ceremony", "internal/access"},
	6:  {"internal/crl", "internal/approval", "internal/credential", "internal/enrolment", "internal/inventory", "internal/owncert", "internal/verify", "internal/tree"},
	7:  {"internal/health"},
	8:  {"internal/acme", "internal/est", "internal/scep", "internal/ocsp", "internal/publish", "internal/admin", "internal/login"},
	9:  {"internal/config", "internal/metrics", "internal/operator"},
	10: {"internal/server", "internal/devca"},
	11: {"internal/commands", "internal/dev"}, // programs that build on the server
	12: {"cmd/privyseal", "cmd/privyseal-ceremony"},
}

// ceremonyReaches are the packages that the offline tool may link: no store,
// no network.
var ceremonyReaches = []string{"internal/fault", "internal/files", "internal/pki", "internal/strictyaml", "internal/profile", "internal/hierarchy", "internal/calaw", "internal/keys", "internal/issuer", "internal/quorum", "internal/transcript", "internal/opensslca"}

// onlyIn names the packages that may import a library; everybody else goes
// through them.
var onlyIn = map[string][]string{
	"github.com/jackc/pgx":                {"internal/store"},
	"modernc.org/sqlite":                  {"internal/store"},
	"github.com/pressly/goose":            {"internal/store"},
	"github.com/miekg/dns":                {"internal/challenge"},
	"github.com/zmap/zlint":               {"internal/issuer"},
	"github.com/go-jose":                  {"internal/acme"},
	"github.com/coreos/go-oidc":           {"internal/login"},
	"golang.org/x/oauth2":                 {"internal/login"},
	"github.com/zitadel":                  {},
	"github.com/pires/go-proxyproto":      {"internal/web"},
	"github.com/youmark/pkcs8":            {"internal/keys"},
	"github.com/miekg/pkcs11":             {"internal/keys"},
	"github.com/prometheus/client_golang": {"internal/metrics"},
	"github.com/spf13/cobra":              {"internal/operator", "internal/commands", "internal/dev", "cmd/privyseal", "cmd/privyseal-ceremony"},
	"github.com/testcontainers":           {"internal/store/storetest"},
	"github.com/goccy/go-yaml":            {"internal/strictyaml"},
	"database/sql":                        {"internal/store", "migrations"},
	"github.com/rogpeppe/go-internal":     {},
	"github.com/stretchr/testify":         {},
	module + "internal/store/storetest":   {},
	module + "test":                       {},
}

func TestFloors(t *testing.T) {
	t.Parallel()
	floor := map[string]int{}
	for n, packages := range floors {
		for _, p := range packages {
			floor[p] = n
		}
	}
	imports := importsOf(t, "..")
	for _, p := range slices.Sorted(maps.Keys(floor)) {
		if _, exists := imports[p]; !exists {
			t.Errorf("%s has a floor and does not exist", p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(imports)) {
		if testOnly(p) {
			continue
		}
		own, listed := floor[p]
		if !listed {
			t.Errorf("%s has no floor", p)
			continue
		}
		for _, i := range imports[p] {
			checkOnlyIn(t, p, i)
			target, ours := strings.CutPrefix(i, module)
			if !ours || testOnly(target) {
				continue
			}
			if n, known := floor[target]; !known || n >= own {
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go downward, never sideways", p, own, target, n)
			}
		}
	}
	for _, i := range imports["api"] { // what other programs import: a client, no server
		if strings.Contains(i, ".") {
			t.Errorf("api imports %s: it needs the standard library alone", i)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(reach(imports, "internal/ceremony"))) {
		if !slices.Contains(ceremonyReaches, p) {
			t.Errorf("the ceremony reaches %s", p)
		}
	}
}

// testOnly reports whether a package is there for tests alone. onlyIn keeps
// the house from importing it.
func testOnly(p string) bool {
	return strings.HasSuffix(p, "test") || strings.HasPrefix(p, "test/") || p == "internal/pins"
}

func checkOnlyIn(t *testing.T, p, imported string) {
	t.Helper()
	for library, allowed := range onlyIn {
		if (imported == library || strings.HasPrefix(imported, library+"/")) && !slices.Contains(allowed, p) {
			t.Errorf("%s imports %s, which belongs to %v", p, imported, allowed)
		}
	}
}

// reach returns every package of ours that p needs.
func reach(imports map[string][]string, p string) map[string]bool {
	seen := map[string]bool{}
	var walk func(string)
	walk = func(p string) {
		for _, i := range imports[p] {
			if q, ours := strings.CutPrefix(i, module); ours && !seen[q] {
				seen[q] = true
				walk(q)
			}
		}
	}
	walk(p)
	return seen
}

// importsOf reads the imports of every package under root, test files apart,
// whatever their build constraints say.
func importsOf(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		p := filepath.ToSlash(rel)
		found[p] = append(found[p], []string{}...)
		for _, s := range f.Imports {
			i, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				return err
			}
			found[p] = append(found[p], i)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
