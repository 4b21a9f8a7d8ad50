package config

import (
	"os"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
)

// Reference says where a secret is: file:PATH, env:NAME or credential:NAME, which
// systemd hands over. It holds no secret itself, so it may be shown and logged;
// errors name it and never the value.
type Reference string

// Read returns the secret, without the newline that an editor leaves at the end
// of a file, which others may not read. Relative paths start at dir.
func (r Reference) Read(dir string) ([]byte, error) {
	return files.ReadReference(string(r), dir, os.LookupEnv)
}

// Secret returns a function that reads the reference each time it is called.
func (r Reference) Secret(dir string) keys.Secret {
	return func() ([]byte, error) { return r.Read(dir) }
}
