package strictyaml

import (
	"bytes"
	"errors"
	"regexp"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

var (
	byteOrderMark = []byte("\xef\xbb\xbf")
	lineEnds      = regexp.MustCompile(`\r\n?`) // YAML 1.2, section 5.4
	quoted        = regexp.MustCompile(`"[^"]*"|'[^']*' (is|tag)`)
)

// parse returns the one document of a text, or nil and problems. The library
// panics on some texts that are hardly YAML, and overflows the stack on lists that
// are very deep: what is read is bounded before it sees it.
func (d *Document) parse(text []byte) (body ast.Node) {
	defer func() {
		if recover() != nil { // what it says may quote the text
			body = nil
			d.problem("", nil, "not YAML that can be read")
		}
	}()
	if len(text) > MaxSize {
		d.problem("", nil, "longer than 1048576 octets")
		return nil
	}
	text = lineEnds.ReplaceAll(bytes.TrimPrefix(text, byteOrderMark), []byte("\n"))
	if at := unreadable(text); at != nil {
		d.problem("", at, "not UTF-8 text: a control character, or an octet that is none")
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if !d.admit(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return nil
	}
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			d.problem("", place(doc.Body), "a second document begins here; the file holds one")
			return nil
		default:
			body = doc.Body
		}
	}
	if body == nil {
		d.problem("", nil, "the file is empty")
	}
	return body
}

// unreadable returns the place of what YAML does not allow in a text (section
// 5.1), nil if there is nothing.
func unreadable(text []byte) *token.Position {
	line, column := 1, 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n':
			line, column = line+1, 0
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t', r >= 0x7f && r < 0xa0 && r != 0x85:
			return &token.Position{Line: line, Column: column}
		}
		text, column = text[n:], column+1
	}
	return nil
}

// admit reports whether tokens are those of a language that is read here, nested
// as deep as the parser can bear.
func (d *Document) admit(tokens token.Tokens) bool {
	if len(tokens) > maxTokens { // the parser's time grows with their square
		d.problem("", nil, "more than 20000 words and signs")
		return false
	}
	flow, line, run := 0, 0, 0 // run: lists and mappings that begin on this line
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, run = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType:
			d.problem("", tk.Position, "anchors, aliases, merge keys and tags are not read")
			return false
		case token.DirectiveType:
			d.problem("", tk.Position, "directives are not read")
			return false
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			run++
		case token.CollectEntryType:
			run = 0
		}
		if flow > maxDepth || run > maxDepth {
			d.problem("", tk.Position, tooDeep)
			return false
		}
	}
	return true
}

const tooDeep = "more than 32 lists and mappings within each other"

// syntax reports an error of the library without what it quotes.
func (d *Document) syntax(err error) {
	var located interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &located) || located.GetToken() == nil {
		d.problem("", nil, "not YAML that can be read")
		return
	}
	d.problem("", located.GetToken().Position, quoted.ReplaceAllString(located.GetMessage(), "what stands here $1"))
}

// place is where a node begins. The token of a mapping is its first colon.
func place(n ast.Node) *token.Position {
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 {
			return m.Values[0].Key.GetToken().Position
		}
	case *ast.MappingValueNode:
		return m.Key.GetToken().Position
	}
	return n.GetToken().Position
}
