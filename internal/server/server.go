package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/acme"
	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/lease"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/login"
	"github.com/privyseal/privyseal/internal/metrics"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/publish"
	"github.com/privyseal/privyseal/internal/scep"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/statedir"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// server is everything that runs, floor by floor.
type server struct {
	version string
	log     *slog.Logger
	now     func() time.Time
	seed    func(context.Context, *store.Store, *credential.ESTUsers) error // may be nil

	cfg      atomic.Pointer[config.File] // in force
	changing sync.Mutex                  // held while starting, reloading or stopping
	fail     context.CancelCauseFunc

	health  health.Board
	metrics *metrics.Metrics
	node    *statedir.Node

	// floor 2
	store    *store.Store
	auditKey *keys.Key
	tls      map[string]*tlsPair // by listener

	// floor 3
	audit     *audit.Keeper
	unkept    atomic.Pointer[time.Time] // when this node last failed to archive audit events
	leases    *lease.Leases
	limits    *limit.Limiter
	validator *challenge.Validator

	signing  atomic.Pointer[inForce]
	swapping sync.Mutex // held while another one is put in its place
	retired  []*openKey // of issuers that a reload replaced; calls under way may use them
	watch    ca.Watch
	told     map[string]ca.Trust // of the CAs that are not trusted; guarded by swapping

	// floor 5
	pipeline *issuance.Pipeline

	// floor 6
	sealer    *seal.Sealer
	eab       *credential.EAB
	secrets   *credential.Resealer
	access    *access.Access
	lists     *crl.Publisher
	approvals *approval.Queue // requests: recognised again, or waiting for a person

	enrolment *enrolment.Enrolment // who may renew what by a certificate

	estUsers       *credential.ESTUsers
	scepChallenges *credential.SCEPChallenges
	webhooks       *credential.Webhooks

	// floor 8
	acme *acme.Server
	est  *est.Server
	ocsp *ocsp.Server
	scep *scep.Server
	// The keys in tokens of responders and RAs, by reference; opened at first need.
	serviceMu      sync.Mutex
	serviceKeys    map[keys.Ref]*openKey
	serviceRetired []*openKey
	// delegates are the responder certificates of this node by issuer id. They
	// stay through reloads.
	delegates map[string]*ocsp.Delegate
	warning   sync.Mutex
	warned    map[string]string // by CA: of which end its responder was warned last; guarded by warning
	tending   [3]chan struct{}  // each asks one kind of own certificate to be looked at now
	// withdrawn are the offline CAs that have revoked their responder, with the reason.
	withdrawn atomic.Pointer[map[string]string]
	admin     *admin.Server
	login     *login.Server
	adminSelf *owncert.Pair // what https-admin presents while it has nothing better; nil where it is off

	// floor 10
	publisher *publish.Publisher
	servers   []*web.Server // in the order in which they were started
	bounds    map[string]web.Bounds
	workers   sync.WaitGroup
	stopWork  context.CancelFunc
}

// build makes floors 2 to 8, from the bottom up. Nothing listens yet. What was
// built when a floor fails is taken down by close.
func (srv *server) build(ctx context.Context) error {
	for _, floor := range []func(context.Context) error{
		srv.buildStore, srv.buildAudit, srv.buildValidation, srv.buildPipeline, srv.buildCredentials, srv.buildLists,
		srv.buildACME, srv.buildEST, srv.buildSCEP, srv.buildOCSP, srv.buildAdmin, srv.buildLogin,
	} {
		if err := floor(ctx); err != nil {
			return err
		}
	}
	return nil
}

// buildStore opens the database and looks at its schema.
func (srv *server) buildStore(ctx context.Context) error {
	cfg := srv.cfg.Load()
	s, err := cfg.OpenStore(ctx, srv.node.Chain, srv.now)
	if err != nil {
		return err
	}
	srv.store, srv.watch.Store = s, s
	if cfg.Database.Migrate {
		if err := s.Migrate(ctx); err != nil {
			return err
		}
	}
	if err := s.CheckSchema(ctx); err != nil {
		return err
	}
	srv.metrics.WatchStore(s)
	srv.health.Ask(health.Database(srv.store, listenHTTPS, listenEST, listenSocket, needSCEP))
	return nil
}

// buildAudit opens this process's chain. Without it nothing may be signed.
func (srv *server) buildAudit(ctx context.Context) error {
	cfg := srv.cfg.Load()
	var err error
	if srv.auditKey, err = srv.openKey(ctx, cfg, "audit", cfg.Audit.Key, cfg.Audit.Passphrase); err != nil {
		return fmt.Errorf("audit key: %w", err)
	}
	keeper, err := audit.NewKeeper(srv.store, srv.auditKey, srv.node.Chain, audit.FolderIn(cfg.State.Dir),
		srv.now, srv.log)
	if err != nil {
		return err
	}
	if err := keeper.Open(ctx, srv.node.Former); err != nil {
		return err
	}
	srv.audit = keeper
	return nil
}

func (srv *server) buildValidation(context.Context) error {
	cfg := srv.cfg.Load()
	v, err := challenge.New(cfg.Challenge, cfg.OwnAddresses(), srv.now)
	if err != nil {
		return err
	}
	srv.validator = v
	srv.leases = lease.New(srv.store, srv.node.Chain, srv.now, srv.log)
	srv.limits, err = limit.New(cfg.Limits, srv.store, srv.now)
	return err
}

func (srv *server) buildPipeline(context.Context) error {
	srv.pipeline = issuance.New(issuance.Config{
		Store: srv.store, Node: srv.node.Name, Now: srv.now, Log: srv.log, Observe: srv.metrics.Issuance,
	})
	return nil
}

func (srv *server) buildCredentials(context.Context) error {
	cfg := srv.cfg.Load()
	var err error
	if srv.sealer, err = cfg.Sealer(); err != nil {
		return fmt.Errorf("key_encryption: %w", err)
	}
	srv.secrets = credential.NewResealer(srv.store, srv.sealer, srv.now)
	srv.access = access.New(access.Config{
		Store: srv.store, Sealer: srv.sealer, Now: srv.now,
		Local: []uint32{0, uint32(os.Getuid())}, //nolint:gosec // a uid has 32 bits
	})
	srv.access.Swap(cfg.Access.Rules)
	srv.eab = credential.NewEAB(srv.store, srv.sealer, srv.now)
	srv.estUsers = credential.NewESTUsers(srv.store, srv.limits, srv.now)
	srv.scepChallenges = credential.NewSCEPChallenges(srv.store, srv.limits, srv.now)
	srv.webhooks = credential.NewWebhooks(srv.store, srv.limits, srv.now, srv.log)
	srv.approvals = approval.New(srv.store, srv.pipeline, srv.now, srv.log)
	srv.enrolment = enrolment.New(enrolment.Config{
		Store: srv.store, Pipeline: srv.pipeline, Limits: srv.limits, Now: srv.now,
	})
	return srv.swapWebhooks(cfg)
}

// buildLists opens this node's folder of revocation lists.
func (srv *server) buildLists(context.Context) error {
	var err error
	srv.lists, err = crl.New(crl.Deps{
		Store: srv.store, Leases: srv.leases, Dir: filepath.Join(srv.cfg.Load().State.Dir, "crl"),
		Now: srv.now, Log: srv.log, Observe: srv.metrics.List,
	})
	if err == nil {
		srv.metrics.WatchLists(srv.lists, srv.now)
	}
	return err
}

func (srv *server) buildACME(ctx context.Context) error {
	cfg := srv.cfg.Load()
	key, err := credential.SharedSecret(ctx, srv.store, srv.sealer, "acme-nonce", 32)
	if err != nil {
		return err
	}
	database, err := cfg.DatabaseURL()
	if err != nil {
		return err
	}
	alone := strings.HasPrefix(database, "sqlite:")
	srv.acme, err = acme.New(cfg.ACMEConfig(), acme.Deps{
		Approvals: srv.approvals,
		Store:     srv.store, Pipeline: srv.pipeline, Validator: srv.validator, EAB: srv.eab, Limits: srv.limits,
		Nonces: acme.NewNonces(acme.NonceConfig{Key: key, OwnEpoch: alone, Now: srv.now}),
		Node:   srv.node.Name, Alone: alone, Log: srv.log, Now: srv.now, Observe: srv.metrics.ACME,
	})
	return err
}

func (srv *server) buildAdmin(context.Context) error {
	var err error
	srv.admin, err = admin.New(admin.Config{
		Access: srv.access,
		Store:  srv.store, Pipeline: srv.pipeline, Inventory: inventory.New(srv.store), EAB: srv.eab, Lists: srv.lists,
		Audit: srv.audit, Tree: srv.tree(), Secrets: srv.secrets,
		Version: api.Version{Version: srv.version, Go: runtime.Version()}, Now: srv.now,
		Approvals: srv.approvals, ESTUsers: srv.estUsers, SCEPChallenges: srv.scepChallenges,
		Endpoints: func(protocol string) []string { return srv.cfg.Load().EndpointNames(protocol) },
		IssuerOf:  func(protocol, endpoint string) string { return srv.cfg.Load().IssuerOf(protocol, endpoint) },
		LogsIn:    func(profile string) bool { return srv.cfg.Load().LogsIn(profile) },
		Health:    srv.report,
		Reload:    srv.reload, AccountKey: acme.HashKey,
		// This node does not wait for its next look: what it signed meanwhile would
		// be worth nothing.
		ListImported: func(ctx context.Context) { srv.logged("lists of the CAs above", srv.checkParents(ctx)) },
	})
	return err
}

// openKey opens a private key whose operations are counted under name.
func (srv *server) openKey(
	ctx context.Context, cfg *config.File, name string, ref keys.Ref, passphrase config.Reference,
) (*keys.Key, error) {
	return keys.Open(ctx, ref, passphrase.Secret(cfg.Dir), srv.keyConfig(cfg, name))
}

func (srv *server) keyConfig(cfg *config.File, name string) keys.Config {
	use := cfg.PKCS11.Keys()
	use.Observe, use.Now = srv.keyEvents(name), srv.now
	return use
}

// keyEvents counts the operations of a key, and logs that its token counts wrong
// PINs.
func (srv *server) keyEvents(name string) func(keys.Event) {
	count := srv.metrics.Key(name)
	return func(e keys.Event) {
		count(e)
		if e.Op == "pin" {
			srv.log.Warn("a token counts wrong PINs", "key", name, "reference", string(e.Ref), "error", e.Err)
		}
	}
}
