package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/privyseal/privyseal/internal/fault"
)

// retryAfter is what a client is told when the database is away or the queue of
// writes is full.
const retryAfter = 5 * time.Second

// rowError is what went wrong with a row that the database gave.
type rowError struct{ error }

func (e rowError) Unwrap() error { return e.error }

// failed tells what a driver said in one of three classes. The database does not answer:
// fault.Unavailable. It answers, and refuses this server, its disk or its administrator
// does: fault.Unavailable too, with the reason database_refused, for it lasts until
// somebody mends it. Or what was asked of it is wrong, a row of another shape included,
// which is a fault of ours: a plain error, which is logged and never told.
func failed(what string, err error) error {
	full := fmt.Errorf("%s: %w", what, err)
	var row rowError
	switch by := refusedBy(err); {
	case by != "":
		return fault.Wrap(fault.Unavailable, full, "the database refuses this server: "+by).
			Because("database_refused").After(retryAfter)
	case errors.Is(err, errAway), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case errors.As(err, &row), ours(err):
		return full
	}
	return fault.Wrap(fault.Unavailable, full, "the database does not answer").After(retryAfter)
}

// refusals are the answers by which PostgreSQL refuses this server, by code or class of
// codes (SQLSTATE).
var refusals = []struct{ code, by string }{
	{"28", "it does not let the configured user in"},
	{"3D000", "the configured database does not exist"},
	{"42501", "the configured user lacks a privilege"},
	{"25006", "it is read-only, a replica perhaps"},
	{"53100", "its disk is full"},
	{"53300", "it has too many connections"},
	{"P0001", "a trigger of its administrator refuses the change"},
	{"XX001", "its data are damaged"},
	{"XX002", "an index is damaged"},
}

// refusedBy says who or what refuses this server, "" if nobody does.
func refusedBy(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		for _, r := range refusals {
			if strings.HasPrefix(pg.Code, r.code) {
				return r.by + " (SQLSTATE " + pg.Code + ")"
			}
		}
		return ""
	}
	var lite *sqlitedriver.Error
	if !errors.As(err, &lite) {
		return ""
	}
	if lite.Code() == sqlite3.SQLITE_CONSTRAINT_TRIGGER {
		return "a trigger of its administrator refuses the change"
	}
	return map[int]string{
		sqlite3.SQLITE_FULL: "the disk is full", sqlite3.SQLITE_READONLY: "the file is read-only",
		sqlite3.SQLITE_PERM: "the file may not be opened", sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
		sqlite3.SQLITE_CORRUPT: "the file is damaged", sqlite3.SQLITE_NOTADB: "the file is no database",
		sqlite3.SQLITE_IOERR: "the file cannot be read or written",
	}[lite.Code()&0xff]
}

// ours reports whether a database says that what was asked of it is wrong: the
// statement (class 42), its values (22) or what they break (23).
func ours(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		class := pg.Code[:min(2, len(pg.Code))]
		return class == "42" || class == "22" || class == "23" || class == "0A"
	}
	var lite *sqlitedriver.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG,
			sqlite3.SQLITE_RANGE, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_SCHEMA:
			return true
		}
	}
	return false
}

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
	return !ours(err)
}

// disconnected reports whether an error is about the connection and not about
// what was sent on it.
func disconnected(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, errAway) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
	}
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) ||
		pgconn.SafeToRetry(err)
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
