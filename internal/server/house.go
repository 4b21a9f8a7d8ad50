package server

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/api"
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
	"github.com/privyseal/privyseal/internal/metrics"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/publish"
	"github.com/privyseal/privyseal/internal/scep"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/statedir"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// house is everything that runs, floor by floor.
type house struct {
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
	sealer *seal.Sealer
	eab    *credential.EAB
	lists  *crl.Publisher
	desk   *approval.Desk // requests: recognised again, or waiting for a person

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

	// floor 10
	publisher *publish.Publisher
	servers   []*web.Server // in the order in which they were started
	workers   sync.WaitGroup
	stopWork  context.CancelFunc
}

// build makes floors 2 to 8, from the bottom up. Nothing listens yet. What was
// built when a floor fails is taken down by close.
func (h *house) build(ctx context.Context) error {
	for _, floor := range []func(context.Context) error{
		h.buildStore, h.buildAudit, h.buildValidation, h.buildPipeline, h.buildCredentials, h.buildLists, h.buildACME, h.buildEST,
		h.buildSCEP, h.buildOCSP, h.buildAdmin,
	} {
		if err := floor(ctx); err != nil {
			return err
		}
	}
	return nil
}

// buildStore opens the database and looks at its schema.
func (h *house) buildStore(ctx context.Context) error {
	cfg := h.cfg.Load()
	s, err := cfg.OpenStore(ctx, h.node.Chain, h.now)
	if err != nil {
		return err
	}
	h.store, h.watch.Store = s, s
	if cfg.Database.Migrate {
		if err := s.Migrate(ctx); err != nil {
			return err
		}
	}
	if err := s.CheckSchema(ctx); err != nil {
		return err
	}
	h.metrics.WatchStore(s)
	h.health.Ask(h.databaseHealth)
	return nil
}

// buildAudit opens this process's chain. Without it nothing may be signed.
func (h *house) buildAudit(ctx context.Context) error {
	cfg := h.cfg.Load()
	var err error
	if h.auditKey, err = h.openKey(ctx, cfg, "audit", cfg.Audit.Key, cfg.Audit.Passphrase); err != nil {
		return fmt.Errorf("audit key: %w", err)
	}
	keeper, err := audit.NewKeeper(h.store, h.auditKey, h.node.Chain, h.now, h.log)
	if err != nil {
		return err
	}
	if err := keeper.Open(ctx, h.node.Former); err != nil {
		return err
	}
	h.audit = keeper
	return nil
}

func (h *house) buildValidation(context.Context) error {
	cfg := h.cfg.Load()
	v, err := challenge.New(cfg.Challenge, cfg.OwnAddresses(), h.now)
	if err != nil {
		return err
	}
	h.validator = v
	h.leases = lease.New(h.store, h.node.Chain, h.now, h.log)
	h.limits, err = limit.New(cfg.Limits, h.store, h.now)
	return err
}

func (h *house) buildPipeline(context.Context) error {
	h.pipeline = issuance.New(issuance.Config{
		Store: h.store, Node: h.node.Name, Now: h.now, Log: h.log, Observe: h.metrics.Issuance,
	})
	return nil
}

func (h *house) buildCredentials(context.Context) error {
	cfg := h.cfg.Load()
	text, err := cfg.KeyEncryption.Read(cfg.Dir)
	if err != nil {
		return fmt.Errorf("key_encryption: %w", err)
	}
	keks, err := seal.ParseKEKs(text)
	if err != nil {
		return fmt.Errorf("key_encryption: %w", err)
	}
	if h.sealer, err = seal.New(keks[0], keks[1:]...); err != nil {
		return fmt.Errorf("key_encryption: %w", err)
	}
	h.eab = credential.NewEAB(h.store, h.sealer, h.now)
	h.estUsers = credential.NewESTUsers(h.store, h.limits, h.now)
	h.scepChallenges = credential.NewSCEPChallenges(h.store, h.limits, h.now)
	h.webhooks = credential.NewWebhooks(h.store, h.limits, h.now, h.log)
	h.desk = approval.New(h.store, h.pipeline, h.now, h.log)
	h.enrolment = enrolment.New(enrolment.Config{Store: h.store, Pipeline: h.pipeline, Limits: h.limits, Now: h.now})
	return h.swapWebhooks(cfg)
}

// buildLists opens this node's folder of revocation lists.
func (h *house) buildLists(context.Context) error {
	var err error
	h.lists, err = crl.New(crl.Deps{
		Store: h.store, Leases: h.leases, Dir: filepath.Join(h.cfg.Load().State.Dir, "crl"),
		Now: h.now, Log: h.log, Observe: h.metrics.List,
	})
	if err == nil {
		h.metrics.WatchLists(h.lists, h.now)
	}
	return err
}

func (h *house) buildACME(ctx context.Context) error {
	cfg := h.cfg.Load()
	key, err := credential.SharedSecret(ctx, h.store, h.sealer, "acme-nonce", 32)
	if err != nil {
		return err
	}
	database, err := cfg.DatabaseURL()
	if err != nil {
		return err
	}
	alone := strings.HasPrefix(database, "sqlite:")
	h.acme, err = acme.New(cfg.ACMEConfig(), acme.Deps{
		Desk:  h.desk,
		Store: h.store, Pipeline: h.pipeline, Validator: h.validator, EAB: h.eab, Limits: h.limits,
		Nonces: acme.NewNonces(acme.NonceConfig{Key: key, OwnEpoch: alone, Now: h.now}),
		Node:   h.node.Name, Alone: alone, Log: h.log, Now: h.now, Observe: h.metrics.ACME,
	})
	return err
}

func (h *house) buildAdmin(context.Context) error {
	var err error
	h.admin, err = admin.New(admin.Config{
		Store: h.store, Pipeline: h.pipeline, Inventory: inventory.New(h.store), EAB: h.eab, Lists: h.lists, Tree: h.tree(),
		Version: api.Version{Version: h.version, Go: runtime.Version()}, Now: h.now,
		Desk: h.desk, ESTUsers: h.estUsers, SCEPChallenges: h.scepChallenges,
		Endpoints: func(protocol string) []string { return h.cfg.Load().EndpointNames(protocol) },
		Health:    h.report,
		Reload:    h.reload,
		// This node does not wait for its next look: what it signed meanwhile would
		// be worth nothing.
		ListImported: func(ctx context.Context) { h.logged("lists of the CAs above", h.checkParents(ctx)) },
	})
	return err
}

// openKey opens a private key whose operations are counted under name.
func (h *house) openKey(ctx context.Context, cfg *config.File, name string, ref keys.Ref, passphrase config.Reference) (*keys.Key, error) {
	return keys.Open(ctx, ref, passphrase.Secret(cfg.Dir), keys.Config{Observe: h.metrics.Key(name), Now: h.now, Module: cfg.PKCS11.Module})
}
