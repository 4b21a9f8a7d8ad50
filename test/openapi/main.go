// Openapi writes openapi.yaml into the folder of package api, where `go generate`
// runs it: the operations in the order in which the server registers them, and the
// types with the comments that their Go source has.
package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin"
)

const header = "# Written by `make generate` from the declarations in this folder; edit those.\n"

const about = `What an operator of Privyseal does: issue, find, export and revoke
certificates, decide requests, hand out EAB keys, EST users and SCEP
challenges, read the audit log, look after the server.

The API is served on a unix socket. Whoever may open the socket is an
operator; the peer's uid is recorded in the audit log with each act. Every
error is a problem document (RFC 9457) whose ` + "`reason`" + ` is a stable code.
Unknown fields in a body and unknown query parameters are errors.

Of each operation, x-permission is the class that a role will need for it,
x-local that it is for the unix socket alone, x-repeat why it may be sent
again, x-max-body the longest body in octets, x-time-limit how long the server
takes at most, in seconds, and x-line-schema what a line of JSON lines is.
`

func main() {
	text, err := document(".")
	if err == nil {
		err = os.WriteFile("openapi.yaml", text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

// document returns openapi.yaml. The sources of package api are in dir.
func document(dir string) ([]byte, error) {
	comments, err := readComments(dir)
	if err != nil {
		return nil, err
	}
	w := &writer{comments: comments, schemas: map[string]yaml.MapSlice{}}
	paths := w.paths(new(admin.Server).Operations())
	w.reference(reflect.TypeFor[api.Problem]())
	schemas := yaml.MapSlice{}
	for _, name := range w.order {
		schemas = append(schemas, yaml.MapItem{Key: name, Value: w.schemas[name]})
	}
	problem := entries("description", "Refused or failed.", "content",
		entries("application/problem+json", entries("schema", ref("Problem"))))
	text, err := yaml.MarshalWithOptions(entries(
		"openapi", "3.0.3",
		"info", entries("title", "Privyseal operator API", "version", "1", "description", about,
			"license", entries("name", "Apache-2.0", "url", "https://www.apache.org/licenses/LICENSE-2.0")),
		"servers", []any{entries("url", "http://privyseal",
			"description", "The unix socket; the host name is not looked at.")},
		"security", []any{}, // the socket's peer is known by its uid
		"paths", paths,
		"components", entries("responses", entries("Problem", problem), "schemas", schemas),
	), yaml.Indent(2), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, err
	}
	return append([]byte(header), blank.ReplaceAll(text, []byte("\n"))...), nil
}

// blank is what stands at the ends of lines of text without anything on them.
var blank = regexp.MustCompile(` +\n`)

// entries is a map that keeps the order of its keys: key, value, key, value. What is
// zero is left out.
func entries(pairs ...any) yaml.MapSlice {
	m := yaml.MapSlice{}
	for i := 0; i < len(pairs); i += 2 {
		if v := reflect.ValueOf(pairs[i+1]); v.IsValid() && !v.IsZero() {
			m = append(m, yaml.MapItem{Key: pairs[i], Value: pairs[i+1]})
		}
	}
	return m
}

// object is the content of a body that is a JSON object.
func object(schema yaml.MapSlice) yaml.MapSlice {
	return entries("application/json", entries("schema", schema))
}

func ref(schema string) yaml.MapSlice { return entries("$ref", "#/components/schemas/"+schema) }

// writer collects the schemas that what it writes refers to.
type writer struct {
	comments *comments
	schemas  map[string]yaml.MapSlice
	order    []string // their names
}

func (w *writer) paths(routes []admin.Route) yaml.MapSlice {
	var order []string
	methods := map[string]yaml.MapSlice{}
	for _, r := range routes {
		if methods[r.Path] == nil {
			order = append(order, r.Path)
		}
		method := yaml.MapItem{Key: strings.ToLower(r.Method), Value: w.operation(r.Described)}
		methods[r.Path] = append(methods[r.Path], method)
	}
	paths := yaml.MapSlice{}
	for _, path := range order {
		paths = append(paths, yaml.MapItem{Key: path, Value: methods[path]})
	}
	return paths
}

func (w *writer) operation(d api.Described) yaml.MapSlice {
	var parameters []any
	for _, p := range d.Parameters() {
		parameters = append(parameters, entries("name", p.Name, "in", p.In, "required", p.Required,
			"description", w.comments.field(d.Params, p.Field), "schema", w.schema(p.Field.Type, p.Field.Tag)))
	}
	var body yaml.MapSlice
	if d.Body != reflect.TypeFor[api.None]() {
		body = entries("required", true, "content", object(w.reference(d.Body)))
	}
	limit, seconds := any(d.MaxBody), any(int(d.Time.Seconds()))
	if body == nil {
		limit = nil
	}
	if d.Streams() {
		seconds = nil
	}
	return entries("operationId", d.Name, "summary", d.Summary, "description", d.Description,
		"x-permission", string(d.Permission), "x-local", d.Local, "x-repeat", d.Repeat,
		"x-max-body", limit, "x-time-limit", seconds,
		"parameters", parameters, "requestBody", body, "responses", w.responses(d))
}

func (w *writer) responses(d api.Described) yaml.MapSlice {
	found := map[string]yaml.MapSlice{}
	success := func(status, what string, content yaml.MapSlice) {
		found[status] = entries("description", what, "content", content)
	}
	alternatives := d.ByStatus()
	for _, status := range slices.Sorted(maps.Keys(alternatives)) {
		f := alternatives[status]
		success(status, w.comments.field(d.Result, f), object(w.reference(f.Type.Elem())))
	}
	content := yaml.MapSlice{}
	for _, media := range d.Types {
		var line yaml.MapSlice
		if media == "application/jsonl" {
			line = w.reference(reflect.TypeOf(d.Line))
		}
		binary := entries("type", "string", "format", "binary")
		content = append(content, entries(media, entries("schema", binary, "x-line-schema", line))...)
	}
	switch {
	case d.Streams():
		success(strconv.Itoa(http.StatusOK), d.Answer, content)
	case len(alternatives) == 0:
		success(strconv.Itoa(d.Status), d.Answer, object(w.reference(d.Result)))
	}
	problem := entries("$ref", "#/components/responses/Problem")
	found["400"] = problem
	responses := yaml.MapSlice{}
	for _, status := range slices.Sorted(maps.Keys(found)) {
		responses = append(responses, yaml.MapItem{Key: status, Value: found[status]})
	}
	return append(responses, entries("default", problem)...)
}
