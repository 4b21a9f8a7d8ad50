package strictyaml

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// fieldError is what is wrong with one field of a section.
type fieldError struct{ key, what string }

func (e *fieldError) Error() string { return strings.TrimPrefix(e.key+": "+e.what, ": ") }

// Wrong is an error about the value at key, which begins at the section that is
// checked; "" is the section itself.
func Wrong(key, format string, args ...any) error {
	return &fieldError{key, fmt.Sprintf(format, args...)}
}

// WrongIf is Wrong if something is, else nil.
func WrongIf(is bool, key, format string, args ...any) error {
	if !is {
		return nil
	}
	return Wrong(key, format, args...)
}

// OneOf is an error if value is none of those allowed, with the nearest one. The
// value is shown: it is for fields that hold no secrets.
func OneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	if len(allowed) == 0 {
		return Wrong(key, "%q: there is none", value)
	}
	shown := slices.DeleteFunc(slices.Clone(allowed), func(s string) bool { return s == "" })
	what := fmt.Sprintf("%q: want one of %s", value, strings.Join(shown, ", "))
	if near := Nearest(value, allowed); near != "" {
		what += fmt.Sprintf("; did you mean %q?", near)
	}
	return Wrong(key, "%s", what)
}

// Check reports what a section says of itself, each of the errors that are joined
// in err at the field that it names; key is where the section stands.
func (d *Document) Check(key string, err error) {
	//nolint:errorlint // one step at a time: what is wrapped further down has lost its place
	joined, isJoined := err.(interface{ Unwrap() []error })
	var field *fieldError
	switch {
	case err == nil:
	case isJoined:
		for _, one := range joined.Unwrap() {
			d.Check(key, one)
		}
	case errors.As(err, &field):
		d.Report(strings.Trim(key+"."+field.key, "."), "%s", field.what)
	default:
		for _, line := range strings.Split(err.Error(), "\n") {
			d.Report(key, "%s", line)
		}
	}
}
