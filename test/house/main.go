// House counts the tree: `go run ./test/house` prints a row per package and the
// sums, so that every change of structure can be held against the one before.
//
// Tests, generated files (those that say "Code generated" before their package
// clause) and what is for tests alone (below test/, and packages whose name ends in
// test) are left out; -all counts them too. A line is code, comment or blank; one
// with both is code. The columns:
//
//	code, comment, blank   lines
//	funcs, med, p95, >50   functions with a body and their lines, signature included
//	files, >400            files, and those of more than 400 lines
//	>120                   lines of more than 120 columns, a tab counting as four
//	ifaces                 interface types that have a name, constraints left out
//	unused                 exported names that no other package names (-names lists them)
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

const (
	longFunction = 50
	longFile     = 400
	longLine     = 120
	tabWidth     = 4
)

// count is what is known of a package, or of the sum of several.
type count struct {
	name                        string
	code, comment, blank        int
	functions                   []int // lines of each
	files, longFiles, longLines int
	interfaces                  int
	exported                    []string // names
	unused                      []string
	over                        []string // file:line of functions that are too long
}

func main() {
	all := flag.Bool("all", false, "count tests and what is for tests alone too")
	names := flag.Bool("names", false, "list the exported names that nobody else uses")
	long := flag.Bool("long", false, "list the functions of more than 50 lines and the files of more than 400")
	flag.Parse()
	h, err := read(".", *all)
	if err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
	h.print(os.Stdout, *names, *long)
}

// house is the tree as it was read.
type house struct {
	packages map[string]*count
	uses     map[string]map[string]bool // by the package that says it: "folder.Name" of others
	big      []string                   // files of more than 400 lines
}

// read counts every Go file below root.
func read(root string, all bool) (*house, error) {
	module, err := modulePath(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	h := &house{packages: map[string]*count{}, uses: map[string]map[string]bool{}}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != root && (strings.HasPrefix(name, ".") || name == "testdata" ||
				name == "bin" || name == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		return h.file(module, filepath.ToSlash(rel), file, all)
	})
	h.settle()
	return h, err
}

func modulePath(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("run it in the module's root: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s names no module", file)
}

// forTests reports whether a folder holds what tests alone use.
func forTests(folder string) bool {
	return folder == "test" || strings.HasPrefix(folder, "test/") || strings.HasSuffix(folder, "test")
}

func (h *house) file(module, rel, file string, all bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	folder := path.Dir(rel)
	test := strings.HasSuffix(rel, "_test.go") || forTests(folder)
	h.use(module, folder, parsed) // tests use names too
	if !all && (test || ast.IsGenerated(parsed)) {
		return nil
	}
	c := h.packages[folder]
	if c == nil {
		c = &count{name: folder}
		h.packages[folder] = c
	}
	c.lines(rel, text, h)
	c.declarations(set, parsed, strings.HasSuffix(rel, "_test.go"))
	return nil
}

// lines counts the kinds of lines of a file.
func (c *count) lines(rel string, text []byte, h *house) {
	set := token.NewFileSet()
	at := set.AddFile(rel, -1, len(text))
	var s scanner.Scanner
	s.Init(at, text, nil, scanner.ScanComments)
	code, comment := map[int]bool{}, map[int]bool{}
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue // the scanner's own
		}
		lines := code
		if tok == token.COMMENT {
			lines = comment
		}
		first := at.Line(pos)
		for n := range strings.Count(lit, "\n") + 1 {
			lines[first+n] = true
		}
	}
	number := 0
	reader := bufio.NewScanner(bytes.NewReader(text))
	reader.Buffer(nil, len(text)+1)
	for reader.Scan() {
		number++
		switch {
		case code[number]:
			c.code++
		case comment[number]:
			c.comment++
		default:
			c.blank++
		}
		line := reader.Text()
		if utf8.RuneCountInString(line)+strings.Count(line, "\t")*(tabWidth-1) > longLine {
			c.longLines++
		}
	}
	c.files++
	if number > longFile {
		c.longFiles++
		h.big = append(h.big, fmt.Sprintf("%s %d", rel, number))
	}
}

// declarations counts functions and interfaces, and collects exported names.
func (c *count) declarations(set *token.FileSet, f *ast.File, test bool) {
	line := func(p token.Pos) int { return set.Position(p).Line }
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Body != nil {
				n := line(d.End()) - line(d.Pos()) + 1
				c.functions = append(c.functions, n)
				if n > longFunction {
					c.over = append(c.over, fmt.Sprintf("%s %s %d", set.Position(d.Pos()), d.Name.Name, n))
				}
			}
			if !test && d.Recv == nil && d.Name.IsExported() {
				c.exported = append(c.exported, d.Name.Name)
			}
		case *ast.GenDecl:
			c.specs(d, test)
		}
	}
}

func (c *count) specs(d *ast.GenDecl, test bool) {
	for _, s := range d.Specs {
		if t, ok := s.(*ast.TypeSpec); ok {
			if i, ok := t.Type.(*ast.InterfaceType); ok && hasMethod(i) {
				c.interfaces++
			}
		}
		if test {
			continue
		}
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				c.exported = append(c.exported, s.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() {
					c.exported = append(c.exported, name.Name)
				}
			}
		}
	}
}

func hasMethod(i *ast.InterfaceType) bool {
	return slices.ContainsFunc(i.Methods.List, func(f *ast.Field) bool {
		_, method := f.Type.(*ast.FuncType)
		return method
	})
}

// use records which names of other packages of the module a file says.
func (h *house) use(module, folder string, f *ast.File) {
	imported := map[string]string{}
	for _, i := range f.Imports {
		target, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		rel, ours := strings.CutPrefix(target, module+"/")
		if !ours {
			continue
		}
		name := path.Base(rel)
		if i.Name != nil {
			name = i.Name.Name
		}
		imported[name] = rel
	}
	if h.uses[folder] == nil {
		h.uses[folder] = map[string]bool{}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && imported[x.Name] != "" {
			h.uses[folder][imported[x.Name]+"."+sel.Sel.Name] = true
		}
		return true
	})
}

// settle finds the exported names that nobody else uses.
func (h *house) settle() {
	for folder, c := range h.packages {
		for _, name := range c.exported {
			used := false
			for other, said := range h.uses {
				used = used || other != folder && said[folder+"."+name]
			}
			if !used {
				c.unused = append(c.unused, name)
			}
		}
		slices.Sort(c.unused)
	}
}

// percentile of sorted values, by the nearest rank.
func percentile(sorted []int, p int) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min((len(sorted)*p+99)/100, len(sorted))-1]
}

func (h *house) print(out *os.File, names, long bool) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "package\tcode\tcomment\tblank\tfuncs\tmed\tp95\t>50\tfiles\t>400\t>120\tifaces\tunused\t")
	sum := &count{name: "sum"}
	for _, folder := range sorted(h.packages) {
		c := h.packages[folder]
		c.row(w)
		sum.code, sum.comment, sum.blank = sum.code+c.code, sum.comment+c.comment, sum.blank+c.blank
		sum.functions = append(sum.functions, c.functions...)
		sum.files, sum.longFiles, sum.longLines = sum.files+c.files, sum.longFiles+c.longFiles,
			sum.longLines+c.longLines
		sum.interfaces += c.interfaces
		sum.unused, sum.over = append(sum.unused, c.unused...), append(sum.over, c.over...)
	}
	sum.row(w)
	_ = w.Flush()
	fmt.Fprintf(out, "comments %.1f %% of code and comment\n",
		100*float64(sum.comment)/float64(max(sum.comment+sum.code, 1)))
	if names {
		for _, folder := range sorted(h.packages) {
			for _, name := range h.packages[folder].unused {
				fmt.Fprintf(out, "unused %s.%s\n", folder, name)
			}
		}
	}
	if long {
		for _, line := range append(sum.over, h.big...) {
			fmt.Fprintln(out, "long", line)
		}
	}
}

func (c *count) row(w *tabwriter.Writer) {
	lengths := slices.Sorted(slices.Values(c.functions))
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", c.name, c.code, c.comment, c.blank,
		len(lengths),
		percentile(lengths, 50), percentile(lengths, 95), len(c.over), c.files, c.longFiles, c.longLines, c.interfaces,
		len(c.unused))
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp.Compare)
	return keys
}
