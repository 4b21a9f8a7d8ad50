package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
)

// References are the ways to say where a secret is, for errors.
const References = "file:PATH, env:NAME or credential:NAME"

// IsReference reports whether text has the form of a reference to a secret.
func IsReference(text string) bool {
	scheme, rest, _ := strings.Cut(text, ":")
	return rest != "" && slices.Contains([]string{"file", "env", "credential"}, scheme)
}

// ReadReference returns the secret at a reference without the newline that an
// editor leaves at the end of a file. Relative paths start at dir; lookup is
// os.LookupEnv. Errors name the reference and never the value.
func ReadReference(ref, dir string, lookup func(string) (string, bool)) ([]byte, error) {
	if !IsReference(ref) {
		// What stands here may be the secret itself: do not repeat it.
		return nil, errors.New("want a reference, " + References + ", not the secret")
	}
	value, err := readReference(ref, dir, lookup)
	if err == nil && len(value) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", ref, err)
	}
	return value, nil
}

func readReference(ref, dir string, lookup func(string) (string, bool)) ([]byte, error) {
	scheme, rest, _ := strings.Cut(ref, ":")
	path := rest
	switch scheme {
	case "env":
		text, set := lookup(rest)
		if !set {
			return nil, errors.New("the variable is not set")
		}
		return []byte(text), nil
	case "credential":
		var err error
		if path, err = Credential(rest, lookup); err != nil {
			return nil, err
		}
	default:
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
	}
	text, err := ReadSecret(path)
	if scheme == "credential" && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", NoCredential(rest), fs.ErrNotExist)
	}
	if err != nil {
		return nil, fault.Cause(err) // the path is already in the reference
	}
	return bytes.TrimRight(text, "\r\n"), nil
}

// CheckCredential refuses what cannot be the name of a credential: systemd takes
// names of files, and a colon would end it in the unit.
func CheckCredential(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/:\x00") {
		return fmt.Errorf("credential %q: want the name of a credential, which has no / and no colon", name)
	}
	return nil
}

// Credential returns the path of a credential that the service manager handed to
// this process (systemd.exec(5), LoadCredential=); lookup is os.LookupEnv.
func Credential(name string, lookup func(string) (string, bool)) (string, error) {
	if err := CheckCredential(name); err != nil {
		return "", err
	}
	dir, _ := lookup("CREDENTIALS_DIRECTORY")
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%w, and CREDENTIALS_DIRECTORY names no folder here", NoCredential(name))
	}
	return filepath.Join(dir, name), nil
}

// NoCredential says what is to be done where a credential was not handed over.
func NoCredential(name string) error {
	return fmt.Errorf("systemd has not handed it over: write LoadCredential=%s:/PATH into the unit", name)
}
