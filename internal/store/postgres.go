package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How long the database may take before a caller is told that it is away.
const (
	connectTimeout   = 3 * time.Second
	statementTimeout = 7 * time.Second // the server's own limit, below the batch's
	batchTimeout     = 8 * time.Second
	rollbackTimeout  = 2 * time.Second
	quickly          = time.Second // within which a failure may be tried again
	staleTries       = 16          // as many as there may be dead connections in the pool
)

// postgres is the engine over a native pgx pool. pgx prepares each text once per
// connection and pipelines what is sent as a batch.
type postgres struct{ pool *pgxpool.Pool }

func openPostgres(ctx context.Context, url string) (*postgres, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, badURL(err)
	}
	cfg.AfterConnect = settings(cfg.ConnConfig.RuntimeParams)
	if cfg.ConnConfig.ConnectTimeout == 0 || cfg.ConnConfig.ConnectTimeout > connectTimeout {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	if !strings.Contains(url, "pool_max_conns") {
		cfg.MaxConns = 16
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, badURL(err)
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, unreachable(cfg.ConnConfig, err)
	}
	return &postgres{pool}, nil
}

// planned makes PostgreSQL plan a statement that reads for the values that it has,
// each quoted in its text: a plan for any profile walks the table for a rare one.
func (s *Store) planned(args []any) []any {
	if _, ok := s.engine.(*postgres); !ok {
		return args
	}
	for _, a := range args {
		if text, ok := a.(string); ok && strings.Contains(text, "\x00") {
			return args // the text of a statement would end there; as an argument it is refused
		}
	}
	return append([]any{pgx.QueryExecModeSimpleProtocol}, args...)
}

// settings returns what a new connection is told, other than what the URL sets.
// It is told after connecting: connection poolers refuse such parameters before.
func settings(given map[string]string) func(context.Context, *pgx.Conn) error {
	var sql strings.Builder
	for _, set := range [][2]string{
		{"application_name", "'privyseal'"},
		{"statement_timeout", fmt.Sprint(statementTimeout.Milliseconds())},
		{"idle_in_transaction_session_timeout", "10000"}, // a node that vanished holds no locks
		// Each text is prepared once, and none needs to know its arguments for a good
		// plan; planning anew would cost more than running most of them. Searches are
		// the exception (planned).
		{"plan_cache_mode", "force_generic_plan"},
		// A plan that was made while a table was small would scan it whole until the
		// next ANALYZE, and each statement here has its index. The planner expresses
		// this as an enormous cost, at which it would compile statements to machine code.
		{"enable_seqscan", "off"},
		{"jit", "off"},
	} {
		if _, overruled := given[set[0]]; !overruled {
			sql.WriteString("SET " + set[0] + " = " + set[1] + "; ")
		}
	}
	return func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql.String())
		return err
	}
}

// badURL says what is wrong with a connection string without repeating it: it
// may hold a password.
func badURL(err error) error {
	why := "cannot be parsed"
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		if cause := errors.Unwrap(parse); cause != nil {
			var number interface{ Timeout() bool }
			if !errors.As(cause, &number) && !strings.Contains(cause.Error(), "://") {
				why = cause.Error()
			}
		}
	}
	return fmt.Errorf("database: the postgres URL is wrong: %s", why)
}

// unreachable names the part of the URL that an attempt to connect speaks
// against: host and port, user, or database.
func unreachable(cfg *pgx.ConnConfig, err error) error {
	where := net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port))
	if strings.HasPrefix(cfg.Host, "/") {
		where = cfg.Host
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "28P01", "28000":
			return fmt.Errorf("database: %s refuses the user %q: %s", where, cfg.User, pg.Message)
		case "3D000":
			return fmt.Errorf("database: %s has no database %q", where, cfg.Database)
		default:
			return fmt.Errorf("database: %s answers: %s (SQLSTATE %s)", where, pg.Message, pg.Code)
		}
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("database: cannot connect to %s: %w", where, op.Err)
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Errorf("database: cannot find the host %q", cfg.Host)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("database: %s does not answer within %s", where, connectTimeout)
	}
	return fmt.Errorf("database: cannot connect to %s as user %q to database %q", where, cfg.User, cfg.Database)
}

func (p *postgres) close() error {
	p.pool.Close()
	return nil
}

// read tries once more when its connection turns out to be dead, as all pooled
// ones are after the server was restarted.
func (p *postgres) read(ctx context.Context, queries ...query) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	began, rows := time.Now(), 0 //nolint:forbidigo // only whether it failed quickly
	for i, q := range queries {
		queries[i].each = func(scan scanFunc) error {
			rows++
			return q.each(scan)
		}
	}
	err := p.readOnce(ctx, queries)
	for tries := 0; err != nil && rows == 0 && tries < staleTries && disconnected(err) &&
		time.Since(began) < quickly; tries++ {
		err = p.readOnce(ctx, queries)
	}
	return err
}

func (p *postgres) readOnce(ctx context.Context, queries []query) error {
	if len(queries) == 1 {
		rows, err := p.pool.Query(ctx, queries[0].sql, encodeAll(queries[0].args)...)
		if err != nil {
			return err
		}
		return eachRow(rows, queries[0].each)
	}
	batch := &pgx.Batch{}
	for _, q := range queries {
		batch.Queue(q.sql, encodeAll(q.args)...)
	}
	results := p.pool.SendBatch(ctx, batch)
	for _, q := range queries {
		rows, err := results.Query()
		if err == nil {
			err = eachRow(rows, q.each)
		}
		if err != nil {
			_ = results.Close() // repeats err
			return err
		}
	}
	return results.Close()
}

func (p *postgres) snapshot(ctx context.Context, queries ...query) error {
	return pgx.BeginTxFunc(ctx, p.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout "+
				"= "+
				"0; SET LOCAL enable_seqscan = on"); err != nil {
				return err
			}
			for _, q := range queries {
				rows, err := tx.Query(ctx, q.sql, encodeAll(q.args)...)
				if err != nil {
					return err
				}
				if err := eachRow(rows, q.each); err != nil {
					return err
				}
			}
			return nil
		})
}

func eachRow(rows pgx.Rows, each func(scanFunc) error) error {
	defer rows.Close()
	scan := func(dest ...any) error { return rows.Scan(decodeAll(dest)...) }
	for rows.Next() {
		if err := each(scan); err != nil {
			return rowError{err}
		}
	}
	return rows.Err()
}

func (p *postgres) gather() time.Duration { return 0 } // the round trip gathers enough

// share locks rows against changes and not against others that share them.
func (*postgres) share(tables string) string { return " FOR SHARE OF " + tables }

func (p *postgres) begin(ctx context.Context) (txn, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return &postgresTx{conn: conn}, nil
}

// postgresTx sends BEGIN with its first statements and COMMIT with its last: a
// transaction costs two round trips, or one.
type postgresTx struct {
	conn *pgxpool.Conn
	open bool
}

func (t *postgresTx) run(ctx context.Context, stmts []*stmt) error {
	_, err := t.send(ctx, stmts, false)
	return err
}

func (t *postgresTx) commit(ctx context.Context, stmts []*stmt) error {
	executed, err := t.send(ctx, stmts, true)
	if err == nil {
		t.conn.Release()
		return nil
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (executed < len(stmts) || pg.Severity == "ERROR"):
		return err // the server said no before, or instead of, committing
	case errors.Is(err, errRolledBack), pgconn.SafeToRetry(err):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

// errRolledBack is a COMMIT that the server answered with ROLLBACK.
var errRolledBack = errors.New("the transaction was rolled back")

// send pipelines stmts, with BEGIN before and COMMIT after them as needed, and
// returns how many of stmts were executed.
func (t *postgresTx) send(ctx context.Context, stmts []*stmt, commit bool) (int, error) {
	batch := &pgx.Batch{}
	opening := !t.open
	if opening {
		batch.Queue("begin")
	}
	for _, st := range stmts {
		batch.Queue(st.sql, encodeAll(st.args)...)
	}
	if commit {
		batch.Queue("commit")
	}
	t.open = true
	results := t.conn.SendBatch(ctx, batch)
	executed, err := collect(results, stmts, opening, commit)
	if closed := results.Close(); err == nil {
		err = closed
	}
	return executed, err
}

func collect(results pgx.BatchResults, stmts []*stmt, opening, commit bool) (int, error) {
	if opening {
		if _, err := results.Exec(); err != nil {
			return 0, err
		}
	}
	for i, st := range stmts {
		if err := result(results, st); err != nil {
			return i, err
		}
	}
	if commit {
		tag, err := results.Exec()
		if err == nil && tag.String() != "COMMIT" {
			err = errRolledBack
		}
		return len(stmts), err
	}
	return len(stmts), nil
}

func result(results pgx.BatchResults, st *stmt) error {
	if st.out == nil {
		tag, err := results.Exec()
		st.n = tag.RowsAffected()
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	first := true
	err = eachRow(rows, func(scan scanFunc) error {
		if !first {
			return nil
		}
		first = false
		return scan(st.out...)
	})
	st.n = rows.CommandTag().RowsAffected()
	return err
}

func (t *postgresTx) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if t.open && !t.conn.Conn().IsClosed() {
		_, _ = t.conn.Exec(ctx, "rollback") // a connection that cannot is closed by Release
	}
	t.conn.Release()
}
