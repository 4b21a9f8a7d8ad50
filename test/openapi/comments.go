package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// comments are what the sources of package api say beyond what reflection sees.
type comments struct {
	types  map[string]string            // what a type is, by its name
	fields map[string]map[string]string // what a field is, by type and field
	values map[string][]string          // of the constants of a type
	names  map[string][]string          // of the same constants

	operations []string // the variables that declare one
}

func readComments(dir string) (*comments, error) {
	c := &comments{
		types: map[string]string{}, fields: map[string]map[string]string{},
		values: map[string][]string{}, names: map[string][]string{},
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range parsed.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				for _, spec := range g.Specs {
					c.read(g, spec)
				}
			}
		}
	}
	if len(c.types) == 0 {
		return nil, fmt.Errorf("%s has no Go sources", dir)
	}
	return c, nil
}

func (c *comments) read(g *ast.GenDecl, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		name := spec.Name.Name
		c.types[name] = predicate(name, text(g.Doc))
		s, ok := spec.Type.(*ast.StructType)
		if !ok {
			return
		}
		c.fields[name] = map[string]string{}
		for _, f := range s.Fields.List {
			for _, n := range f.Names {
				c.fields[name][n.Name] = text(f.Doc) + text(f.Comment)
			}
		}
	case *ast.ValueSpec:
		if g.Tok == token.VAR && len(spec.Values) == 1 && isOperation(spec.Values[0]) {
			c.operations = append(c.operations, spec.Names[0].Name)
		}
		typ, ok := spec.Type.(*ast.Ident)
		if !ok || g.Tok != token.CONST || len(spec.Values) != 1 {
			return
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			value, _ := strconv.Unquote(lit.Value) // the parser has read it
			c.values[typ.Name] = append(c.values[typ.Name], value)
			c.names[typ.Name] = append(c.names[typ.Name], spec.Names[0].Name)
		}
	}
}

// isOperation reports whether an expression is Operation[…]{…}.
func isOperation(e ast.Expr) bool {
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		return false
	}
	index, ok := lit.Type.(*ast.IndexListExpr)
	if !ok {
		return false
	}
	name, ok := index.X.(*ast.Ident)
	return ok && name.Name == "Operation"
}

// field says what a field of a struct is, or nothing.
func (c *comments) field(t reflect.Type, f reflect.StructField) string {
	for _, embedded := range f.Index[:len(f.Index)-1] {
		t = t.Field(embedded).Type
	}
	return c.fields[t.Name()][f.Name]
}

// enum returns the values of a type and the names of its constants.
func (c *comments) enum(typ string) (values, names []string) { return c.values[typ], c.names[typ] }

// text is a comment without its line breaks.
func text(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }

// predicate leaves the name and the verb out of "Problem is a problem document.".
func predicate(name, comment string) string {
	comment = strings.TrimPrefix(comment, name+" ")
	for _, verb := range []string{"is ", "are "} {
		comment = strings.TrimPrefix(comment, verb)
	}
	first, size := utf8.DecodeRuneInString(comment)
	return string(unicode.ToUpper(first)) + comment[size:]
}
