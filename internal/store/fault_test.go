package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/need"
)

// refuse makes the database refuse rows of a table for which when holds.
func refuse(t *testing.T, url, table, when string) {
	t.Helper()
	if strings.HasPrefix(url, "sqlite:") {
		storetest.Exec(t, url, `CREATE TRIGGER refuse BEFORE INSERT ON `+table+` WHEN `+when+` BEGIN SELECT RAISE(ABORT, 'refused'); END`)
		return
	}
	storetest.Exec(t, url, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$`,
		`CREATE TRIGGER refuse BEFORE INSERT ON `+table+` FOR EACH ROW WHEN (`+when+`) EXECUTE FUNCTION refuse()`)
}

func allow(t *testing.T, url, table string) {
	t.Helper()
	if strings.HasPrefix(url, "sqlite:") {
		storetest.Exec(t, url, `DROP TRIGGER refuse`)
		return
	}
	storetest.Exec(t, url, `DROP TRIGGER refuse ON `+table)
}

// TestBadStatementHurtsItsCallerOnly lets the database refuse some writes of a
// batch in its middle: the others of the batch are kept.
func TestBadStatementHurtsItsCallerOnly(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		refuse(t, url, "certificates", "NEW.subject = 'CN=Bad'")
		var certs [60]store.Certificate
		for i := range certs {
			if certs[i] = newCertificate(fmt.Sprint("order:", i), "a.test", "b.test"); i%7 == 3 {
				certs[i].Subject = "CN=Bad"
			}
		}
		_, lost := race(len(certs), func(i int) error {
			err := s.Reserve(ctx, certs[i], nil, event("certificate.intent"))
			if bad := i%7 == 3; bad != (err != nil) || bad && !fault.Is(err, fault.Unavailable) {
				t.Errorf("certificate %d: %v", i, err)
			}
			return err
		})
		for i, c := range certs {
			if _, err := s.CertificateByOrigin(ctx, c.Origin); (err == nil) == (i%7 == 3) {
				t.Errorf("certificate %d is there: %t", i, err == nil)
			}
		}
		checkChains(t, s)
		if heads, err := s.AuditHeads(ctx); err != nil || heads[0].Seq != int64(len(certs)-len(lost)) {
			t.Errorf("heads %v, %v, %d refused", heads, err, len(lost))
		}
	})
}

// TestNothingIsWrittenWithoutAudit: when the audit table refuses, every audited
// write fails as unavailable and leaves nothing.
func TestNothingIsWrittenWithoutAudit(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		a := newAccount(t, s)
		o := newOrder(t, s, a.ID, base.Add(time.Hour), "a.test")
		c := newCertificate("order:1", "a.test")
		noErr(t, s.Reserve(ctx, c, nil, event("certificate.intent")))
		done := issue(t, s, newCertificate("order:2"))
		refuse(t, url, "audit_events", "NEW.seq > 0")
		contact := []string{}
		ev := event("x")
		var all sync.WaitGroup
		for name, act := range map[string]func() error{
			"reserve":    func() error { return s.Reserve(ctx, newCertificate("order:3", "a.test"), nil, ev) },
			"complete":   func() error { return s.Complete(ctx, c.ID, []byte("der"), base, ev) },
			"abandon":    func() error { return s.Abandon(ctx, c.ID, true, ev) },
			"revoke":     func() error { return s.Revoke(ctx, done.ID, store.Revocation{RevokedAt: base}, true, ev) },
			"update":     func() error { return s.UpdateAccount(ctx, a.ID, &contact, true, ev) },
			"change key": func() error { return s.ChangeAccountKey(ctx, a.ID, a.Thumbprint, "new", []byte(`{}`), ev) },
			"fail order": func() error { return s.FailOrder(ctx, o.ID, nil, &ev) },
			"deactivate": func() error { return s.DeactivateAuthorization(ctx, o.AuthorizationIDs[0], ev) },
			"create EAB": func() error { return s.CreateEAB(ctx, store.EABKey{KID: "k", HMAC: []byte{1}}, ev) },
			"append":     func() error { return s.AppendAudit(ctx, ev) },
			"create account": func() error {
				_, err := s.CreateAccount(ctx, store.Account{ID: "late", Thumbprint: "late", JWK: []byte(`{}`), Status: "valid"}, nil, ev)
				return err
			},
		} {
			all.Go(func() {
				if err := act(); !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
					t.Errorf("%s: %v, want unavailable and when to come again", name, err)
				}
			})
		}
		all.Wait()
		allow(t, url, "audit_events")
		for what, err := range map[string]error{
			"account": ignore(s.Account(ctx, "late")), "EAB key": ignore(s.EAB(ctx, "k")), "certificate": ignore(s.CertificateByOrigin(ctx, "order:3")),
		} {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s was written: %v", what, err)
			}
		}
		if got, err := s.CertificateByID(ctx, c.ID); err != nil || got.Status != "reserved" || got.Revocation != nil {
			t.Errorf("reservation is %+v, %v", got, err)
		}
		if got, err := s.Account(ctx, a.ID); err != nil || got.Status != "valid" || got.Thumbprint != a.Thumbprint {
			t.Errorf("account is %+v, %v", got, err)
		}
		noErr(t, s.Complete(ctx, c.ID, []byte("der"), base, ev))
		checkChains(t, s)
	})
}

func ignore[T any](_ T, err error) error { return err }

// TestCallersMayLeave cancels callers at every stage. A nil answer is durable,
// and the committer serves those who stay.
func TestCallersMayLeave(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var kept sync.Map
		race(400, func(i int) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%40)*100*time.Microsecond)
			defer cancel()
			c := newCertificate(fmt.Sprint("order:", i), "a.test")
			err := s.Reserve(ctx, c, nil, event("certificate.intent"))
			if err == nil {
				kept.Store(c.Origin, true)
			} else if !fault.Is(err, fault.Unavailable) {
				t.Error(err)
			}
			return err
		})
		stored := int64(0)
		for i := range 400 {
			origin := fmt.Sprint("order:", i)
			_, err := s.CertificateByOrigin(context.Background(), origin)
			if _, acknowledged := kept.Load(origin); acknowledged != (err == nil) {
				t.Errorf("%s: acknowledged %t, stored %t", origin, acknowledged, err == nil)
			}
			if err == nil {
				stored++
			}
		}
		noErr(t, s.AppendAudit(context.Background(), event("x")))
		checkChains(t, s)
		if heads, err := s.AuditHeads(context.Background()); err != nil || heads[0].Seq != stored+1 {
			t.Errorf("heads %v, %v, %d stored", heads, err, stored)
		}
	})
}

func TestClosedStoreRefuses(t *testing.T) {
	s, err := store.Open(context.Background(), store.Config{URL: storetest.SQLiteURL(t), Node: "n"})
	noErr(t, err)
	noErr(t, s.Migrate(context.Background()))
	noErr(t, s.Close())
	wantKind(t, s.AppendAudit(context.Background(), event("x")), fault.Unavailable)
	_, err = s.Account(context.Background(), "x")
	wantKind(t, err, fault.Unavailable)
}

// TestQueueIsBounded holds SQLite's write lock while more callers come than may
// wait.
func TestQueueIsBounded(t *testing.T) {
	ctx := context.Background()
	url := storetest.SQLiteURL(t)
	s := storetest.Open(t, url, "node-1")
	noErr(t, s.Migrate(ctx))
	release := storetest.Lock(t, url)
	var refused, waiting atomic.Int64
	var all sync.WaitGroup
	full := make(chan struct{})
	const callers = 5000
	for range callers {
		all.Go(func() {
			waiting.Add(1)
			err := s.AppendAudit(ctx, event("x"))
			if err == nil {
				return
			}
			if !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
				t.Error(err)
			}
			if refused.Add(1) == callers-4096-256 {
				close(full)
			}
		})
	}
	<-full
	release()
	all.Wait()
	checkChains(t, s)
	heads, err := s.AuditHeads(ctx)
	if err != nil || heads[0].Seq != callers-refused.Load() {
		t.Errorf("heads %v, %v: %d of %d refused", heads, err, refused.Load(), callers)
	}
}

// writer writes until ctx ends and remembers what was acknowledged.
func writer(ctx context.Context, s *store.Store, name string, acknowledged *sync.Map) {
	for i := 0; ctx.Err() == nil; i++ {
		origin := fmt.Sprintf("%s:%d", name, i)
		if s.Reserve(context.Background(), newCertificate(origin, "a.test"), nil, event("certificate.intent")) == nil {
			acknowledged.Store(origin, time.Now())
		}
	}
}

// TestPostgresGoesAndComesBack stops the server like a crash while callers write
// and starts it again.
func TestPostgresGoesAndComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	cluster, err := storetest.StartCluster(true)
	if err != nil {
		need.Missing(t, err.Error())
	}
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithCancel(context.Background())
	s := storetest.Open(t, cluster.URL("postgres"), "node-1")
	noErr(t, s.Migrate(ctx))
	var acknowledged sync.Map
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { writer(ctx, s, fmt.Sprint("w", i), &acknowledged) })
	}
	for range 3 {
		awaitWrites(t, s)
		noErr(t, cluster.Stop())
		began := time.Now()
		wantKind(t, s.AppendAudit(ctx, event("x")), fault.Unavailable)
		_, err := s.Account(ctx, "x")
		wantKind(t, err, fault.Unavailable)
		t.Logf("the database is away: answered after %s", time.Since(began))
		noErr(t, cluster.Start())
		began = time.Now()
		awaitWrites(t, s)
		t.Logf("it is back: writes after %s", time.Since(began))
	}
	cancel()
	all.Wait()
	n := 0
	acknowledged.Range(func(origin, _ any) bool {
		n++
		if _, err := s.CertificateByOrigin(context.Background(), origin.(string)); err != nil {
			t.Errorf("%s was acknowledged and is lost: %v", origin, err)
		}
		return !t.Failed()
	})
	t.Logf("%d acknowledged writes", n)
	checkChains(t, s)
}

// awaitWrites waits until a hundred more commits have succeeded.
func awaitWrites(t *testing.T, s *store.Store) {
	t.Helper()
	want := s.Stats().Commits + 100
	for end := time.Now().Add(20 * time.Second); s.Stats().Commits < want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("writers do not recover")
		}
	}
}

// TestAHangingDatabaseIsAway locks a table from outside: the answer comes within
// a bounded time, and the lock's end is the end of it.
func TestAHangingDatabaseIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	url := storetest.PostgresURL(t)
	s := storetest.Open(t, url, "node-1")
	release := storetest.Lock(t, url)
	began := time.Now()
	wantKind(t, s.AppendAudit(context.Background(), event("x")), fault.Unavailable)
	took := time.Since(began)
	t.Logf("answered after %s", took)
	if took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	release()
	noErr(t, s.AppendAudit(context.Background(), event("x")))
	checkChains(t, s)
}

const childURL = "PRIVYSEAL_STORE_TEST_CHILD"

// TestKillLosesNothingAcknowledged kills a writing process, as kill -9 does, and
// looks for everything that it had been told is stored.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	if url := os.Getenv(childURL); url != "" {
		child(t, url)
		return
	}
	url := storetest.SQLiteURL(t)
	s := storetest.Open(t, url, "parent")
	noErr(t, s.Migrate(context.Background()))
	total := 0
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKillLosesNothingAcknowledged$")
		cmd.Env = append(os.Environ(), childURL+"="+url)
		out, err := cmd.StdoutPipe()
		noErr(t, err)
		noErr(t, cmd.Start())
		var origins []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if origin, ok := strings.CutPrefix(lines.Text(), "stored "); ok {
				origins = append(origins, origin)
			}
			if len(origins) == 100*(round+1) {
				noErr(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // it was killed
		if len(origins) < 100 {
			t.Fatalf("the child stored %d only", len(origins))
		}
		for _, origin := range origins {
			if _, err := s.CertificateByOrigin(context.Background(), origin); err != nil {
				t.Fatalf("%s was acknowledged and is lost: %v", origin, err)
			}
		}
		total += len(origins)
		checkChains(t, s)
	}
	t.Logf("%d acknowledged writes over 5 kills", total)
}

func child(t *testing.T, url string) {
	s := storetest.Open(t, url, "child")
	var out sync.Mutex
	for range 4 {
		go func() {
			for {
				c := newCertificate("order:"+store.NewID(), "a.test")
				if err := s.Reserve(context.Background(), c, nil, event("certificate.intent")); err != nil {
					continue
				}
				out.Lock()
				fmt.Println("stored " + c.Origin)
				out.Unlock()
			}
		}()
	}
	select {} // until killed
}
