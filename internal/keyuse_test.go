package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// keyOperations are the names of what computes with a public key, or hands one to
// code that does. A test of the syntax cannot tell types, so any use of such a name
// counts, called or not.
var keyOperations = []string{
	"VerifyPKCS1v15", "VerifyPSS", "EncryptPKCS1v15", "EncryptOAEP", "EncryptOAEPWithOptions",
	"VerifyASN1", "CheckSignature", "CheckSignatureFrom", "CheckCRLSignature", "CheckResponseFrom", "VerifyOptions",
}

// ownKeys are the functions outside of pki.UseKey in which such names may stand,
// and why.
var ownKeys = map[string]string{
	"internal/pki/usekey.go SignedBy":              "for operators; looks at the size",
	"internal/pki/usekey.go CertifiedBy":           "for operators; looks at the size",
	"internal/pki/usekey.go ListedBy":              "for operators; looks at the size",
	"internal/cms/verify.go verifies":              "called by verifyAny in pki.UseKey",
	"internal/acme/jws.go verifyWith":              "called by verify in pki.UseKey, and with MAC keys",
	"internal/issuer/scheme.go verify":             "a signature just made by a key of ours",
	"internal/keys/algorithm.go verify":            "a signature just made by a key of ours",
	"internal/audit/checkpoint.go verifySignature": "keys of ours that sign checkpoints",
	"internal/transcript/sign.go verify":           "keys of a ceremony's signers; looks at the size",
}

// TestFS2_StrangersKeysAreUsedInOnePlace walks the product by syntax: nothing but
// pki.UseKey, and what is listed above, computes with a public key.
func TestFS2_StrangersKeysAreUsedInOnePlace(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, root := range []string{"../internal", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name := strings.TrimPrefix(filepath.ToSlash(path), "../")
			if testOnly(filepath.ToSlash(filepath.Dir(name))) {
				return nil
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			for _, use := range keyUses(f) {
				if place := name + " " + use.function; ownKeys[place] != "" {
					used[place] = true
				} else {
					t.Errorf("%s: %s in %s computes with a public key outside of pki.UseKey", set.Position(use.at), use.what, use.function)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for place := range ownKeys {
		if !used[place] {
			t.Errorf("%s is listed and computes with no key", place)
		}
	}
}

type keyUse struct {
	function, what string
	at             token.Pos
}

// keyUses returns the uses of keyOperations in a file that are not in a function
// given to UseKey.
func keyUses(f *ast.File) []keyUse {
	var found []keyUse
	jose := slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool {
		return strings.Contains(i.Path.Value, "go-jose/v4\"")
	})
	for _, d := range f.Decls {
		function := "the package"
		if fn, ok := d.(*ast.FuncDecl); ok {
			function = fn.Name.Name
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && calls(call, "UseKey") {
				return false
			}
			if sel, ok := n.(*ast.SelectorExpr); ok && computes(sel, jose) {
				found = append(found, keyUse{function, sel.Sel.Name, sel.Pos()})
			}
			return true
		})
	}
	return found
}

func calls(call *ast.CallExpr, name string) bool {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name == name
	case *ast.SelectorExpr:
		x, ok := fn.X.(*ast.Ident)
		return ok && x.Name == "pki" && fn.Sel.Name == name
	}
	return false
}

// computes reports whether a selector names an operation: one of the names, unless
// it is pki's; Verify of crypto/ecdsa and crypto/ed25519; and where JWSs are read,
// Verify of anything.
func computes(sel *ast.SelectorExpr, jose bool) bool {
	x, _ := sel.X.(*ast.Ident)
	switch {
	case x != nil && x.Name == "pki":
		return false
	case slices.Contains(keyOperations, sel.Sel.Name):
		return true
	case strings.HasPrefix(sel.Sel.Name, "Verify"):
		return jose || x != nil && (x.Name == "ecdsa" || x.Name == "ed25519")
	}
	return false
}

// TestFS2_TheSyntaxIsSeen proves the walk itself.
func TestFS2_TheSyntaxIsSeen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`rsa.VerifyPKCS1v15(k, h, d, s)`:                             1,
		`check := csr.CheckSignature; check()`:                       1,
		`c.Verify(x509.VerifyOptions{})`:                             1,
		`ecdsa.Verify(k, d, r, s); ed25519.Verify(k, m, s)`:          2,
		`signed.Verify(ctx, p)`:                                      0,
		`pki.UseKey(ctx, k, csr.CheckSignature)`:                     0,
		`other.UseKey(ctx, k, csr.CheckSignature)`:                   1,
		`pki.CheckSignature(ctx, k, a, m, s); list.CheckSignature()`: 1,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() {\n"+text+"\n}", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(keyUses(f)); got != want {
			t.Errorf("%s: %d uses seen, want %d", text, got, want)
		}
	}
}
