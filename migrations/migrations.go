// Package migrations holds the database schema as numbered SQL files, one
// folder per engine, with the same numbers and the same tables in both. A test
// in internal/store compares the two after migration.
//
// Migrations expand first and contract a release later, so that the previous
// release runs on the next schema. Each one adds a row to schema_marks: its own
// number, and the oldest number that a binary must know to run on the result.
package migrations

import "embed"

// Postgres and SQLite hold the files that goose applies, below the folders
// "postgres" and "sqlite".
var (
	//go:embed postgres/*.sql
	Postgres embed.FS
	//go:embed sqlite/*.sql
	SQLite embed.FS
)
