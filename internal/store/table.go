package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// column is one column of rows T: what is written of a row, and where it is read to. One
// without of is computed by the query, one without to is never read.
type column[T any] struct {
	name string // or the expression that computes it
	cast string // the type of a parameter for it where nothing else tells
	of   func(*T) any
	to   func(*T) any
}

// col is a column that holds a field as it is.
func col[T, V any](name string, field func(*T) *V) column[T] {
	c := column[T]{name: name, of: func(r *T) any { return *field(r) }, to: func(r *T) any { return field(r) }}
	switch any(*new(V)).(type) {
	case time.Time, *time.Time:
		c.cast = "timestamptz"
	case []byte, bool:
	case int, int64:
		c.cast = "bigint"
	default:
		c.cast = "text"
	}
	return c
}

// listCol is a column that holds a list, as JSON.
func listCol[T, V any](name string, field func(*T) *[]V) column[T] {
	return column[T]{
		name: name, cast: "text",
		of: func(r *T) any { return asJSON(*field(r)) },
		to: func(r *T) any { return jsonList[V]{field(r)} },
	}
}

// written is a column that no query reads.
func written[T any](name string, of func(*T) any) column[T] {
	return column[T]{name: name, cast: "text", of: of}
}

// computed is read and not written; expr is SQL.
func computed[T, V any](expr string, field func(*T) *V) column[T] {
	return column[T]{name: expr, to: func(r *T) any { return field(r) }}
}

// jsonList is where a list that is kept as JSON is read to.
type jsonList[V any] struct{ to *[]V }

// Scan implements sql.Scanner, which both drivers honour.
func (l jsonList[V]) Scan(src any) error {
	var raw json.RawMessage
	if err := (destination{&raw}).Scan(src); err != nil {
		return err
	}
	return fromJSON(raw, l.to)
}

// table is how rows T are kept: the one list of their columns, of which every statement
// that has all of them is made.
type table[T any] struct {
	name, alias string
	columns     []column[T]
	joins       string     // what follows "FROM name alias"
	done        func(r *T) // completes a row that was read; nil if nothing is to be done

	insert, values, query string // made by ready
}

// ready makes the statements.
func (t table[T]) ready() *table[T] {
	var names, places, read []string
	for _, c := range t.columns {
		if c.of != nil {
			names = append(names, c.name)
			place := "$" + strconv.Itoa(len(names))
			if c.cast != "" {
				place = "CAST(" + place + " AS " + c.cast + ")"
			}
			places = append(places, place)
		}
		switch {
		case c.to == nil:
		case c.of == nil:
			read = append(read, c.name)
		default:
			read = append(read, t.alias+"."+c.name)
		}
	}
	t.insert = `INSERT INTO ` + t.name + ` (` + strings.Join(names, ", ") + `)`
	t.values = strings.Join(places, ", ")
	t.query = fmt.Sprintf("SELECT %s FROM %s %s %s", strings.Join(read, ", "), t.name, t.alias, t.joins)
	return &t
}

// add is the statement that inserts a row; rest follows VALUES.
func (t *table[T]) add(r *T, rest string) (sql string, args []any) {
	args = t.row(r)
	places := make([]string, len(args))
	for i := range args {
		places[i] = "$" + strconv.Itoa(i+1)
	}
	return t.insert + ` VALUES (` + strings.Join(places, ", ") + `) ` + rest, args
}

// row returns what is written of a row, in the order of insert and values.
func (t *table[T]) row(r *T) []any {
	args := make([]any, 0, len(t.columns))
	for _, c := range t.columns {
		if c.of != nil {
			args = append(args, c.of(r))
		}
	}
	return args
}

// scan appends each row of query to a list.
func (t *table[T]) scan(into *[]T) func(scanFunc) error {
	return func(scan scanFunc) error {
		*into = append(*into, *new(T))
		r := &(*into)[len(*into)-1]
		dest := make([]any, 0, len(t.columns))
		for _, c := range t.columns {
			if c.to != nil {
				dest = append(dest, c.to(r))
			}
		}
		if err := scan(dest...); err != nil {
			*into = (*into)[:len(*into)-1]
			return err
		}
		if t.done != nil {
			t.done(r)
		}
		return nil
	}
}

// replaceAll sets every column to that of the row that could not be inserted.
func (t *table[T]) replaceAll() string {
	var sets []string
	for _, c := range t.columns {
		if c.of != nil {
			sets = append(sets, c.name+" = excluded."+c.name)
		}
	}
	return strings.Join(sets, ", ")
}
