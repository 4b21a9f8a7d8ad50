package store

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// away reports whether an error speaks against the database as a whole, so that
// trying the writes of a batch one by one would only repeat it. What a server
// says about one statement is not such an error.
func away(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, errAway) {
		return true
	}
	if errors.Is(err, errPartial) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// 08 connection, 53 resources, 57P shutdown and 25006 read-only (a replica
		// after a failover); 57014 is a statement that ran into its time limit.
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") ||
			strings.HasPrefix(pg.Code, "57P") || pg.Code == "57014" || pg.Code == "25006"
	}
	var lite *sqlitedriver.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
			return false
		}
	}
	return true
}

// disconnected reports whether an error is about the connection and not about
// what was sent on it.
func disconnected(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, errAway) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
	}
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) || pgconn.SafeToRetry(err)
}

// transient reports whether the same write may well succeed when tried again.
func transient(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01": // serialisation failure, deadlock
			return true
		case "23505":
			return pg.TableName == "audit_events"
		}
	}
	return taken(err) && strings.Contains(err.Error(), "audit_events.")
}

// taken reports whether a unique key was in the way.
func taken(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	var lite *sqlitedriver.Error
	return errors.As(err, &lite) &&
		(lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
