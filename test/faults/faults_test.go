// Package faults breaks things on purpose while clients order certificates, and
// then looks whether everything is accounted for: every certificate that a client
// got is on record, `privyseal verify` finds nothing, no order is stuck and no
// reservation is left. One round each runs with the tests; `make faults` runs 20.
package faults

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/acmeclient"
	"github.com/privyseal/privyseal/test/dnstest"
	"github.com/privyseal/privyseal/test/lab"
)

var rounds = flag.Int("rounds", 1, "how often each fault is made on each engine")

// clients order at the same time.
const clients = 8

// site is a server with clients that never stop ordering.
type site struct {
	*lab.Server
	cluster   *storetest.Cluster // nil on SQLite
	url       string             // of the database
	responder *acmeclient.Responder
	http      *http.Client
	key       *ecdsa.PrivateKey

	accounts [clients]*acmeclient.Client // one each, kept over the rounds: new ones are limited per address

	names   atomic.Int64
	refused atomic.Int64 // answers 503
	mu      sync.Mutex
	got     []*x509.Certificate // what clients received and was not yet looked up
	total   int
}

func TestFaults(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			s := newSite(t, engine)
			for _, fault := range []struct {
				name string
				make func(*site, *testing.T)
			}{
				{"kill", (*site).kill},
				{"database away", (*site).databaseAway},
				{"completion fails after signing", (*site).completionFails},
				{"audit refuses writes", (*site).auditRefuses},
			} {
				for round := range *rounds {
					began := time.Now()
					s.round(t, fmt.Sprintf("%s %d", fault.name, round), fault.make)
					t.Logf("%s, round %d: %v, %d certificates so far, %d answers 503", fault.name, round,
						time.Since(began).Round(time.Millisecond), s.total, s.refused.Load())
					if t.Failed() {
						return
					}
				}
			}
		})
	}
}

func newSite(t *testing.T, engine string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "privyseal-faults-") // a short path, for the socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, err := lab.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Server: &lab.Server{Binary: binary, Dir: filepath.Join(dir, "ca"), Resolver: dnstest.Start(t).Addr()}}
	s.url = "sqlite:" + filepath.Join(s.Dir, "privyseal.db")
	if engine == "postgres" {
		s.cluster = storetest.Start(t)
		s.url = s.cluster.URL("postgres")
		s.Database = s.url
	}
	if s.Addr, err = lab.FreeAddresses(); err != nil {
		t.Fatal(err)
	}
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if s.responder, err = acmeclient.NewResponder(s.Addr.HTTP01); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.responder.Close() })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.Log.Tail(8000))
		}
	})
	if s.http, err = s.Server.Client(clients); err != nil {
		t.Fatal(err)
	}
	return s
}

// round lets clients order, makes the fault, lets them go on for a moment and
// then checks what is left.
func (s *site) round(t *testing.T, name string, fault func(*site, *testing.T)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for i := range s.accounts {
		working.Go(func() { s.order(ctx, &s.accounts[i]) })
	}
	s.await(t, name+": before the fault", clients)
	fault(s, t)
	s.await(t, name+": after the fault", clients)
	stop()
	working.Wait()
	s.check(t, name)
}

// order gets certificates until ctx ends. A refused request is part of the run.
func (s *site) order(ctx context.Context, account **acmeclient.Client) {
	for ctx.Err() == nil {
		chain, err := s.certify(ctx, account)
		if err != nil {
			var p *acmeclient.Problem
			if errors.As(err, &p) && p.Status == http.StatusServiceUnavailable {
				s.refused.Add(1)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		block, _ := pem.Decode(chain)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			panic(err) // a server that hands out something else has failed beyond this test
		}
		s.mu.Lock()
		s.got = append(s.got, cert)
		s.total++
		s.mu.Unlock()
	}
}

func (s *site) certify(ctx context.Context, account **acmeclient.Client) ([]byte, error) {
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if *account == nil {
		c, err := acmeclient.New(one, s.http, s.Directory("default"), s.responder)
		if err != nil {
			return nil, err
		}
		if err := c.Register(one); err != nil {
			return nil, err
		}
		*account = c
	}
	name := fmt.Sprintf("h%d.lab.test", s.names.Add(1))
	return (*account).Certify(one, s.key, func(string, time.Duration) {}, name)
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// await waits until clients have got n more certificates.
func (s *site) await(t *testing.T, what string, n int) {
	t.Helper()
	from := s.count()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s.count() >= from+n {
			return
		}
	}
	t.Fatalf("%s: %d certificates in 90 s, want %d", what, s.count()-from, n)
}

// check is what must hold after every fault.
func (s *site) check(t *testing.T, name string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: s.url, Node: "observer"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	issuers, err := db.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	got := s.got
	s.got = nil
	s.mu.Unlock()
	for _, cert := range got {
		if !onRecord(t.Context(), db, issuers, cert) {
			t.Errorf("%s: a client has certificate %x, which is not on record as issued", name, cert.SerialNumber)
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		reserved, err := db.Reserved(t.Context(), "", time.Now())
		stuck, err2 := db.ProcessingOrders(t.Context(), "", time.Now())
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if len(reserved) == 0 && len(stuck) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: after 2 minutes %d reservations and %d processing orders are left", name, len(reserved), len(stuck))
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err := s.Verify(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func onRecord(ctx context.Context, db *store.Store, issuers []store.IssuerRecord, cert *x509.Certificate) bool {
	for _, i := range issuers {
		row, err := db.CertificateBySerial(ctx, i.ID, pki.SerialFromBig(cert.SerialNumber))
		if err == nil && string(row.DER) == string(cert.Raw) {
			return row.Status == "issued"
		}
	}
	return false
}

// kill ends the server at a random moment and starts it again.
func (s *site) kill(t *testing.T) {
	time.Sleep(mathrand.N(500 * time.Millisecond))
	s.Kill()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

// databaseAway takes the database away for 5 s.
func (s *site) databaseAway(t *testing.T) {
	if s.cluster != nil {
		if err := s.cluster.Stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if err := s.cluster.Start(); err != nil {
			t.Fatal(err)
		}
		return
	}
	unlock := storetest.Lock(t, s.url)
	time.Sleep(5 * time.Second)
	unlock()
}

// completionFails makes the database refuse what comes after the signature.
func (s *site) completionFails(t *testing.T) {
	const name = "refuse_completion"
	if s.cluster != nil {
		storetest.Exec(t, s.url, `CREATE FUNCTION `+name+`() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$`,
			`CREATE TRIGGER `+name+` BEFORE UPDATE ON certificates FOR EACH ROW WHEN (NEW.status = 'issued') EXECUTE FUNCTION `+name+`()`)
		defer storetest.Exec(t, s.url, `DROP FUNCTION `+name+` CASCADE`)
	} else {
		storetest.Exec(t, s.url, `CREATE TRIGGER `+name+` BEFORE UPDATE ON certificates WHEN NEW.status = 'issued'
			BEGIN SELECT RAISE(ABORT, 'refused by the test'); END`)
		defer storetest.Exec(t, s.url, `DROP TRIGGER `+name)
	}
	time.Sleep(2 * time.Second)
}

// auditRefuses makes the audit table refuse every event. While it does, nothing
// is signed, and clients are told to come back.
func (s *site) auditRefuses(t *testing.T) {
	const name = "refuse_audit"
	if s.cluster != nil {
		storetest.Exec(t, s.url, `CREATE FUNCTION `+name+`() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$`,
			`CREATE TRIGGER `+name+` BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION `+name+`()`)
		defer storetest.Exec(t, s.url, `DROP FUNCTION `+name+` CASCADE`)
	} else {
		storetest.Exec(t, s.url, `CREATE TRIGGER `+name+` BEFORE INSERT ON audit_events
			BEGIN SELECT RAISE(ABORT, 'refused by the test'); END`)
		defer storetest.Exec(t, s.url, `DROP TRIGGER `+name)
	}
	time.Sleep(300 * time.Millisecond) // what was under way has ended or is refused by now
	before := s.rows(t)
	time.Sleep(2 * time.Second)
	if after := s.rows(t); after != before {
		t.Errorf("%d certificates were reserved or issued while the audit table refused events", after-before)
	}
	newcomer, err := acmeclient.New(t.Context(), s.http, s.Directory("default"), s.responder)
	if err != nil {
		t.Fatal(err)
	}
	var p *acmeclient.Problem
	if err := newcomer.Register(t.Context()); !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.RetryAfter == 0 {
		t.Errorf("a new account got %v while the audit table refused events, want 503 with Retry-After", err)
	}
}

// rows counts certificates, whatever became of them.
func (s *site) rows(t *testing.T) int {
	t.Helper()
	return storetest.Count(t, s.url, `SELECT COUNT(*) FROM certificates`)
}
