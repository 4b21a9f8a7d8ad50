package config

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// DatabaseURL follows the reference and makes a relative SQLite path start at
// the file's folder. Its errors never show a URL that may hold a password.
func (f *File) DatabaseURL() (string, error) {
	value := f.Database.URL
	byReference := files.IsReference(value)
	if byReference {
		text, err := Reference(value).Read(f.Dir)
		if err != nil {
			return "", err
		}
		value = string(text)
	}
	if path, ok := strings.CutPrefix(value, "sqlite:"); ok && path != "" {
		return "sqlite:" + strictyaml.Under(f.Dir, path), nil
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", fmt.Errorf("want sqlite:PATH or postgres://USER@HOST:PORT/NAME, or a reference to one")
	}
	_, password := u.User.Password()
	if (password || u.Query().Has("password")) && !byReference {
		return "", errors.New("a URL with a password must be given by reference: put it into a file, write file:PATH")
	}
	return value, nil
}

// OpenStore connects to the configured database and makes sure that it answers.
// chain names the writer. Its error says which database, without its password.
func (f *File) OpenStore(ctx context.Context, chain string, now func() time.Time) (*store.Store, error) {
	database, err := f.DatabaseURL()
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	s, err := store.Open(ctx, store.Config{URL: database, Node: chain, Now: now})
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", redact(database), err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", redact(database), err), s.Close())
	}
	return s, nil
}

// redact removes the password of a database URL, for errors.
func redact(database string) string {
	u, err := url.Parse(database)
	if err != nil {
		return "(unreadable URL)"
	}
	if q := u.Query(); q.Has("password") {
		q.Set("password", "xxxxx")
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}
