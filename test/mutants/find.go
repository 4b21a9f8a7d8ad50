package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// condition is one place where something is refused.
type condition struct {
	id         int
	file       string // in the folder as it was given
	line       int
	text       string // of the condition, in one line
	start, end int    // offsets in the file
}

// makesError are the functions whose result refuses: of package fault, errors and fmt, and
// those of a package's own that are called so.
var makesError = regexp.MustCompile(`^(fault\.\w+|errors\.New|fmt\.Errorf|(\w+\.)*(refuse|reject|deny|denied|malformed|` +
	`bad|wrong|gone|unreadable|unknown|failed|problem|newFault)\w*)$`)

// find returns the conditions of a package's files and the text that asks each through
// the function ask.
func find(shown, dir string, passedOn bool) (all []condition, texts map[string][]byte, pkg string, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, nil, "", err
	}
	texts = map[string][]byte{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, "", err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, "", err
		}
		if ast.IsGenerated(file) {
			continue
		}
		pkg = file.Name.Name
		found := conditions(fset, file, src, passedOn)
		for i := range found {
			found[i].id, found[i].file = len(all)+i, filepath.Join(shown, filepath.Base(name))
		}
		all = append(all, found...)
		if len(found) > 0 {
			texts[name] = instrument(src, found)
		}
	}
	return all, texts, pkg, nil
}

func conditions(fset *token.FileSet, file *ast.File, src []byte, passedOn bool) (found []condition) {
	add := func(e ast.Expr, body []ast.Stmt) {
		if !refuses(body, passedOn) {
			return
		}
		start, end := fset.Position(e.Pos()), fset.Position(e.End())
		text := strings.Join(strings.Fields(string(src[start.Offset:end.Offset])), " ")
		found = append(found, condition{line: start.Line, text: text, start: start.Offset, end: end.Offset})
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			add(n.Cond, n.Body.List)
		case *ast.SwitchStmt:
			for _, s := range n.Body.List {
				if c := s.(*ast.CaseClause); n.Tag == nil && len(c.List) == 1 {
					add(c.List[0], c.Body)
				}
			}
		}
		return true
	})
	return found
}

// refuses reports whether a branch itself returns an error that it makes.
func refuses(body []ast.Stmt, passedOn bool) bool {
	return slices.ContainsFunc(body, func(s ast.Stmt) bool {
		r, ok := s.(*ast.ReturnStmt)
		if !ok || len(r.Results) == 0 {
			return false
		}
		last := r.Results[len(r.Results)-1]
		if id, ok := last.(*ast.Ident); ok && passedOn && strings.HasSuffix(strings.ToLower(id.Name), "err") {
			return true
		}
		made := false
		ast.Inspect(last, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && makesError.MatchString(name(c.Fun)) {
				made = true
			}
			return !made
		})
		return made
	})
}

// name is a function's name with what it is selected from, such as fault.New.
func name(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x := name(f.X); x != "" {
			return x + "." + f.Sel.Name
		}
	}
	return ""
}

// instrument asks every condition through the function of harness. Nested conditions are
// both asked.
func instrument(src []byte, found []condition) []byte {
	type insert struct {
		at   int
		text string
	}
	var all []insert
	for _, c := range found {
		all = append(all, insert{c.start, fmt.Sprintf("privysealMutant(%d, ", c.id)}, insert{c.end, ")"})
	}
	slices.SortStableFunc(all, func(a, b insert) int { return a.at - b.at })
	var out bytes.Buffer
	last := 0
	for _, i := range all {
		out.Write(src[last:i.at])
		out.WriteString(i.text)
		last = i.at
	}
	out.Write(src[last:])
	return out.Bytes()
}

// harness is the file that is compiled into the package: which mutant lives, and which
// conditions were asked, with which outcome, is a matter of the environment.
func harness(pkg string, n int) []byte {
	return fmt.Appendf(nil, `package %s

import (
	"fmt"
	"os"
	"sync/atomic"
)

var (
	privysealMutantID   = -1
	privysealMutantMode string
	privysealTrace      *os.File
	privysealSeen       [2][%d]atomic.Bool
)

func init() {
	fmt.Sscanf(os.Getenv("PRIVYSEAL_MUTANT"), "%%d %%s", &privysealMutantID, &privysealMutantMode)
	if name := os.Getenv("PRIVYSEAL_MUTANT_TRACE"); name != "" {
		privysealTrace, _ = os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	}
}

func privysealMutant(id int, c bool) bool {
	if privysealTrace != nil {
		value := 0
		if c {
			value = 1
		}
		if privysealSeen[value][id].CompareAndSwap(false, true) {
			fmt.Fprintf(privysealTrace, "%%d %%d\n", id, value)
		}
	}
	switch {
	case id != privysealMutantID:
		return c
	case privysealMutantMode == "dropped":
		return false
	}
	return !c
}
`, pkg, max(n, 1))
}
