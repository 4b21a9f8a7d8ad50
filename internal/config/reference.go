package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Reference says where a secret is: file:PATH or env:NAME. It holds no secret
// itself, so it may be shown and logged; errors name it and never the value.
type Reference string

// Read returns the secret, without the newline that an editor leaves at the end
// of a file, which others may not read. Relative paths start at dir.
func (r Reference) Read(dir string) ([]byte, error) {
	scheme, rest, _ := strings.Cut(string(r), ":")
	var value []byte
	switch {
	case scheme == "file" && rest != "":
		text, err := files.ReadSecret(strictyaml.Under(dir, rest))
		if err != nil {
			// The path is already in the reference.
			return nil, fmt.Errorf("secret %s: %w", r, fault.Cause(err))
		}
		value = bytes.TrimRight(text, "\r\n")
	case scheme == "env" && rest != "":
		text, set := os.LookupEnv(rest)
		if !set {
			return nil, fmt.Errorf("secret %s: the variable is not set", r)
		}
		value = []byte(text)
	default:
		// What stands here may be the secret itself: do not repeat it.
		return nil, errors.New("want a reference, file:PATH or env:NAME, not the secret")
	}
	if len(value) == 0 {
		return nil, fmt.Errorf("secret %s: it is empty", r)
	}
	return value, nil
}

// Secret returns a function that reads the reference each time it is called.
func (r Reference) Secret(dir string) keys.Secret {
	return func() ([]byte, error) { return r.Read(dir) }
}
