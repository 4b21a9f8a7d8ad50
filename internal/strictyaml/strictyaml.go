// Package strictyaml reads YAML files that people write, and finds every mistake
// in one pass: unknown and repeated keys with their place and the key that was
// probably meant, and values of another kind than the field's.
//
// It reads less than YAML has. Anchors, aliases, merge keys, tags, directives and
// a second document are refused: nothing stands elsewhere than where it is read.
// Plain scalars mean what the core schema of YAML 1.2 says (section 10.3):
//
//   - a whole number is decimal, also with leading zeros (010 is ten), or 0o10 or
//     0x10; 1_000, 1e3 and "10" in quotes are none;
//   - true and false are written so, True or TRUE; yes, no, on and off are text;
//   - null, ~ or nothing leaves a field as if it were not there;
//   - a field for text takes any scalar as it stands: 010 is "010", yes is "yes".
//
// Problems name keys and places and never repeat a value, which may be a secret.
package strictyaml

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file.
const (
	MaxSize   = 1 << 20 // octets
	maxTokens = 20_000  // words and signs
	maxDepth  = 32      // lists and mappings within each other
	maxKey    = 128     // octets of a key
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File         string // as given to Decode; may be empty
	Line, Column int    // from 1; 0 when the file does not mention it
	Key          string // such as listeners.https.addr; empty for a syntax error
	What         string
}

// String is the form of a compiler's message, which editors can follow.
func (p Problem) String() string {
	at := p.File
	if p.Line > 0 {
		at = strings.TrimPrefix(fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column), ":")
	}
	parts := slices.DeleteFunc([]string{at, p.Key, p.What}, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// Problems is everything that is wrong, in the order of the file.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Document is a file that was read: where each key stands, and what is wrong.
type Document struct {
	file     string
	at       map[string]*token.Position
	problems Problems
	warnings Problems
}

// Decode reads one document into the struct that into points to. What the file
// leaves out keeps the value that it has there. Whether that is all that there
// was to read, Err says.
func Decode(file string, text []byte, into any) *Document {
	d := &Document{file: file, at: map[string]*token.Position{}}
	d.decode(text, into)
	return d
}

// Report says that something is wrong with the value at key, at the place of the
// key or of its nearest parent that the file mentions.
func (d *Document) Report(key, format string, args ...any) {
	d.problems = append(d.problems, d.about(key, format, args...))
}

// Warn is Report for what is allowed and perhaps not meant.
func (d *Document) Warn(key, format string, args ...any) {
	d.warnings = append(d.warnings, d.about(key, format, args...))
}

// Warnings returns what Warn said.
func (d *Document) Warnings() Problems { return d.warnings }

func (d *Document) about(key, format string, args ...any) Problem {
	p := Problem{File: d.file, Key: key, What: fmt.Sprintf(format, args...)}
	for k := key; k != ""; k = k[:max(strings.LastIndexAny(k, ".["), 0)] {
		if at, ok := d.at[k]; ok {
			p.Line, p.Column = at.Line, at.Column
			break
		}
	}
	return p
}

func (d *Document) problem(key string, at *token.Position, what string) {
	p := Problem{File: d.file, Key: key, What: what}
	if at != nil {
		p.Line, p.Column = at.Line, at.Column
	}
	d.problems = append(d.problems, p)
}

// Err returns Problems, or nil when there are none.
func (d *Document) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		if a.Column != b.Column {
			return a.Column - b.Column
		}
		return strings.Compare(a.Key, b.Key)
	})
	return d.problems
}

// Marshal returns v as YAML for people, items of lists indented.
func Marshal(v any) ([]byte, error) { return yaml.MarshalWithOptions(v, yaml.IndentSequence(true)) }

// Canonical returns v as YAML that is the same for the same v, for digests that
// outlive a release.
func Canonical(v any) ([]byte, error) { return yaml.Marshal(v) }
