// Package admintest runs the operator API over a test CA on a real unix socket,
// for tests of the API and of its clients.
package admintest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/acme"
	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/lease"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/tree"
	"github.com/privyseal/privyseal/internal/web"
)

// Server is a running operator API. Its fields may be used by the test.
type Server struct {
	Socket   string
	Store    *store.Store
	Pipeline *issuance.Pipeline
	Lists    *crl.Publisher
	Root     *x509.Certificate
	RootKey  crypto.Signer
	Admin    *admin.Server
	Config   admin.Config

	KeyFails  atomic.Bool           // the CA's key refuses to sign
	ReloadErr atomic.Pointer[error] // what a reload answers
	NotReady  atomic.Bool           // what health says
	Refreshed atomic.Int64          // how often what was installed was put in force
	Declared  []ca.Declaration      // what the configuration names; set it before the first call

	lists    map[string]crl.Config
	accounts atomic.Int64 // that ACME has made
}

// Start runs the API over st with issuing CAs of the given ids. With a nil store
// it makes one on SQLite.
func Start(t testing.TB, st *store.Store, issuers ...string) *Server {
	t.Helper()
	if st == nil {
		st = storetest.SQLite(t)
	}
	s := &Server{Store: st}
	s.Pipeline = issuance.New(issuance.Config{Store: st, Node: "node-1", Now: time.Now,
		Log: slog.New(slog.DiscardHandler)})
	s.Pipeline.Swap(s.rules(t, issuers))
	sealer, err := seal.New(make([]byte, seal.KEKSize))
	must(t, err)
	s.Lists, err = crl.New(crl.Deps{
		Store: st, Leases: lease.New(st, "node-1", time.Now, slog.New(slog.DiscardHandler)), Dir: t.TempDir(),
		Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	s.Lists.Swap(s.Pipeline.Rules().CAs, s.lists)
	limits, err := limit.New(limit.Defaults(), st, time.Now)
	must(t, err)
	_, auditKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	keeper, err := audit.NewKeeper(st, auditKey, st.Node(), audit.FolderIn(t.TempDir()), time.Now,
		slog.New(slog.DiscardHandler))
	must(t, err)
	s.Config = admin.Config{
		Access:    access.New(access.Config{Store: st, Sealer: sealer, Now: time.Now, Local: []uint32{uint32(os.Getuid())}}),
		Audit:     keeper,
		Approvals: approval.New(st, s.Pipeline, time.Now, slog.New(slog.DiscardHandler)),
		ESTUsers:  credential.NewESTUsers(st, limits, time.Now),
		Store:     st, Pipeline: s.Pipeline, Inventory: inventory.New(st), Lists: s.Lists,
		EAB: credential.NewEAB(st, sealer, time.Now), Secrets: credential.NewResealer(st, sealer, time.Now),
		SCEPChallenges: credential.NewSCEPChallenges(st, limits, time.Now),
		Tree: tree.New(tree.Deps{
			Store: st, Now: time.Now, Declared: func() []ca.Declaration { return s.Declared },
			Refresh:    func(context.Context) error { s.Refreshed.Add(1); return nil },
			CAProfiles: func() []string { return []string{"issuing-ca"} },
			PublicHTTP: func() string { return "http://ca.test" },
		}),
		Version: api.Version{Version: "v0-test", Go: "go-test"}, Now: time.Now,
		LogsIn: func(profile string) bool { return profile == "operator" },
		IssuerOf: func(_, endpoint string) string { // of the second CA, where there are two
			if endpoint == "eab" {
				return issuers[0]
			}
			return issuers[len(issuers)-1]
		},
		Endpoints: func(string) []string { return []string{"default", "eab"} },
		Health: func(context.Context) api.Health {
			ok := !s.NotReady.Load()
			state := map[bool]string{true: "ok", false: "failed"}[ok]
			database := api.HealthCheck{Name: "database", OK: ok, State: state, Detail: "asked just now"}
			return api.Health{Ready: ok, State: state, Checks: []api.HealthCheck{database}}
		},
		AccountKey: acme.HashKey,
		Reload: func(context.Context) (api.ReloadResult, error) {
			if err := s.ReloadErr.Load(); err != nil {
				return api.ReloadResult{}, *err
			}
			return api.ReloadResult{ConfigDigest: "d1g357", Changed: true}, nil
		},
	}
	s.Admin, err = admin.New(s.Config)
	must(t, err)
	s.listen(t)
	return s
}

func (s *Server) listen(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pst") // t.TempDir can be too long for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.Socket = filepath.Join(dir, "privyseal.sock")
	ln, err := web.ListenUnix(context.Background(), "socket", s.Socket)
	must(t, err)
	limits := web.DefaultLimits()
	limits.Body = admin.MaxBody
	running := web.Start(ln, s.Admin.Routes(), web.Config{
		Name: "socket", Limits: limits, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: time.Now,
		Observe: func(web.Event) {}, ConnContext: admin.ConnContext,
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = running.Shutdown(ctx)
	})
}

// Client returns a client of the API, closed at the test's end.
func (s *Server) Client(t testing.TB) *api.Client {
	c := api.Dial(s.Socket)
	t.Cleanup(c.Close)
	return c
}

// rules makes a root and issuing CAs under it, with every built-in profile and
// "asked", which is tls-server with a person's approval.
func (s *Server) rules(t testing.TB, ids []string) issuance.Rules {
	t.Helper()
	rootKey, now := newKey(t), time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Root"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             now.Add(-time.Hour), NotAfter: now.AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	s.Root = sign(t, template, template, rootKey.Public(), rootKey)
	s.RootKey = rootKey
	s.put(t, "root", "", s.Root)
	s.lists = map[string]crl.Config{}
	in := ca.Inputs{
		Declared: []ca.Declaration{{
			ID: "root", Offline: true, Locations: issuer.Locations{CRL: "http://ca.test/crl/root.crl"},
		}},
		Keys: map[string]issuer.Signer{}, Now: now,
	}
	for i, id := range ids {
		key := newKey(t)
		cert := sign(t, &x509.Certificate{
			SerialNumber: big.NewInt(int64(2 + i)), Subject: pkix.Name{CommonName: "Test Issuing CA " + id}, IsCA: true,
			BasicConstraintsValid: true, MaxPathLenZero: true, NotBefore: now.Add(-time.Hour),
			NotAfter: now.AddDate(10, 0, 0),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}, s.Root, key.Public(), rootKey)
		s.put(t, id, "root", cert)
		in.Declared = append(in.Declared, ca.Declaration{ID: id, Locations: issuer.Locations{
			CRL: "http://ca.test/crl/" + id + ".crl", OCSP: "http://ca.test/ocsp/" + id,
			CAIssuers: "http://ca.test/issuers/" + id + ".cer",
		}})
		in.Keys[id] = caKey{key, &s.KeyFails}
		s.lists[id] = crl.Config{}.Complete()
	}
	var err error
	in.Records, err = s.Store.Issuers(context.Background())
	must(t, err)
	rules := issuance.Rules{Profiles: map[string]*profile.Profile{}, CAs: ca.Build(in)}
	for name, cfg := range profile.BuiltIn() {
		p, err := profile.Compile(name, cfg)
		must(t, err)
		rules.Profiles[name] = p
	}
	cfg := profile.BuiltIn()["tls-server"]
	cfg.Approval = true
	rules.Profiles["asked"], err = profile.Compile("asked", cfg)
	must(t, err)
	return rules
}

func (s *Server) put(t testing.TB, id, parent string, cert *x509.Certificate) {
	t.Helper()
	must(t, s.Store.PutIssuer(context.Background(), store.IssuerRecord{
		ID: id, Name: id, Generation: 1, State: "active", ParentID: parent, Certificate: cert.Raw,
		Subject: cert.Subject.String(), NotAfter: cert.NotAfter, CreatedAt: time.Now(),
	}))
}

// caKey is a CA's key that a test can break.
type caKey struct {
	*ecdsa.PrivateKey
	fails *atomic.Bool
}

// SignContext signs a digest.
func (k caKey) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.fails.Load() {
		return nil, errors.New("the token is gone")
	}
	return k.Sign(rand.Reader, digest, opts)
}

// CSR returns a certificate request in PEM for a new P-256 key and DNS names.
func CSR(t testing.TB, names ...string) string {
	t.Helper()
	return CSROf(t, &x509.CertificateRequest{DNSNames: names})
}

// CSROf returns a certificate request in PEM made from a template.
func CSROf(t testing.TB, template *x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, newKey(t))
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
