package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/privyseal/privyseal/migrations"
)

// Migrate brings the schema to this binary's version. On PostgreSQL it holds an
// advisory lock, so that several nodes may call it at once.
func (s *Store) Migrate(ctx context.Context) error {
	return s.withGoose(func(p *goose.Provider) error {
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		return nil
	})
}

// CheckSchema refuses a schema that this binary cannot run on: an older one,
// which `privyseal migrate` mends, or one of a newer release that is not marked
// as readable by this one.
func (s *Store) CheckSchema(ctx context.Context) error {
	return s.withGoose(func(p *goose.Provider) error {
		have, want, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("check schema: %w", err)
		}
		return s.compatible(ctx, have, want)
	})
}

func (s *Store) compatible(ctx context.Context, have, want int64) error {
	switch {
	case have == want:
		return nil
	case have < want:
		return fmt.Errorf("check schema: the database has version %d, this binary needs %d: run privyseal migrate",
			have, want)
	}
	var readableBy int64
	err := s.queryRow(ctx, "read schema marks", `SELECT readable_by FROM schema_marks WHERE version = $1`, []any{have},
		&readableBy)
	switch {
	case err == nil && readableBy <= want:
		return nil
	case err == nil || errors.Is(err, ErrNotFound):
		return fmt.Errorf("check schema: the database has version %d of a newer release, this binary knows %d: "+
			"upgrade it", have, want)
	default:
		return err
	}
}

// withGoose opens what goose needs, calls do and closes it again.
func (s *Store) withGoose(do func(*goose.Provider) error) (err error) {
	var db *sql.DB
	var files fs.FS
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	switch e := s.engine.(type) {
	case *sqlite:
		if db, err = sql.Open("sqlite", dsn(e.path, "_txlock", "immediate")); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		files, err = fs.Sub(migrations.SQLite, "sqlite")
	case *postgres:
		cfg := e.pool.Config().ConnConfig.Copy()
		// A migration may take its time: the limits of settings do not hold here.
		db, dialect = stdlib.OpenDB(*cfg), goose.DialectPostgres
		locker, lockErr := lock.NewPostgresSessionLocker()
		if lockErr != nil {
			return fmt.Errorf("migrate: %w", lockErr)
		}
		options = append(options, goose.WithSessionLocker(locker))
		files, err = fs.Sub(migrations.Postgres, "postgres")
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return do(provider)
}
