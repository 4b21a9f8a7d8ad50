package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the "pgx" driver
	_ "modernc.org/sqlite"             // the "sqlite" driver

	authorities "github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/lease"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// publish fills a database and measures a whole publication from it, in a fresh
// process: read, encode, sign, compare, store in pieces, mark, fetch to the disk.
func publish(engine string, entries int, beside *result) error {
	dir, err := os.MkdirTemp("", "privyseal-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	url := "sqlite:" + filepath.Join(dir, "bench.db")
	if engine == "postgres" {
		cluster, err := storetest.StartCluster(false)
		if err != nil {
			return err
		}
		defer cluster.Close()
		url = cluster.URL("postgres")
	}
	if err := fill(url, entries); err != nil {
		return fmt.Errorf("fill %s: %w", engine, err)
	}
	for _, which := range []string{"first", "second"} {
		r, err := child("store", url, entries)
		if err != nil {
			return err
		}
		print(fmt.Sprintf("privyseal, %s publication from %s", which, engine), r, beside)
	}
	return nil
}

// fill writes revoked certificates as an administrator could, which is faster
// than one by one.
func fill(url string, entries int) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{URL: url, Node: "bench"})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	ca, _, err := authority()
	if err != nil {
		return err
	}
	now := time.Now()
	err = s.PutIssuer(ctx, store.IssuerRecord{
		ID: "bench", Name: "bench", State: "active", Certificate: ca.Raw, NotAfter: ca.NotAfter, CreatedAt: now,
		RevocationSeq: int64(entries),
	})
	if err != nil {
		return err
	}
	driver, dsn, stamp := "pgx", url, any(now)
	later := any(now.AddDate(1, 0, 0))
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, dsn, stamp, later = "sqlite", path, now.UnixMicro(), now.AddDate(1, 0, 0).UnixMicro()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	const batch = 500
	for n := 0; n < entries; n += batch {
		if err := fillBatch(ctx, db, n, min(batch, entries-n), stamp, later); err != nil {
			return err
		}
	}
	return nil
}

func fillBatch(ctx context.Context, db *sql.DB, first, count int, stamp, later any) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	var certs, revocations strings.Builder
	for n := first; n < first+count; n++ {
		serial := serialOf(n)
		id, hexed := fmt.Sprintf("c%d", n), hex.EncodeToString(serial[:])
		comma := ","
		if n == first {
			comma = ""
		}
		fmt.Fprintf(&certs, "%s('%s','bench','%s','issued','n','tls-server','v','acme','e','r','q',$1,'CN=x','cn=x','[]',$2,$3,0,'l','request:%s','[]',$2,$2)", comma, id, hexed, id)
		fmt.Fprintf(&revocations, "%s('%s','bench','%s',0,$1,%d,$2,%d,'uid:0')", comma, id, hexed,
			reasons[n%len(reasons)], n+1)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO certificates (id, issuer_id, serial, status, node, profile,
		profile_version, protocol, endpoint, requester,
		request_id, key_hash, subject, subject_lower, names, not_before, not_after, shard, lineage, origin, claims,
		reserved_at, issued_at) VALUES `+certs.String(),
		[]byte("k"), stamp, later)
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO revocations (certificate_id, issuer_id, serial, shard, not_after,
			reason, revoked_at, seq, requester) VALUES `+revocations.String(),
			later, stamp)
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// fromStore is one publication.
func fromStore(ca *x509.Certificate, key *ecdsa.PrivateKey, url string) (*result, error) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{URL: url, Node: "bench"})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	i, err := issuer.NewOffline("bench", []*x509.Certificate{ca}, signer{key},
		issuer.Locations{CRL: "http://ca.test/crl/bench.crl"})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "privyseal-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := crl.New(crl.Deps{Store: s, Leases: lease.New(s, "bench", time.Now, log), Dir: dir, Now: time.Now,
		Log: log})
	if err != nil {
		return nil, err
	}
	p.Swap(authorities.NewSet(authorities.Of(i)), map[string]crl.Config{"bench": crl.Config{}.Complete()})
	stop := watch()
	lists, err := p.Publish(ctx, "bench", crl.Options{Actor: "bench"})
	if err != nil {
		return nil, err
	}
	r := stop()
	r.Size = lists[0].Size
	return r, nil
}
