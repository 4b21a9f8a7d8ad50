package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// The states of an issuer's row that the server itself writes.
const (
	stateActive  = "active"
	stateOffline = "offline" // its key is elsewhere
)

// plan returns every CA with its chain, those in the database first, and the
// rows that the configuration adds to it. What the database has wins: from its
// first start on, it says which certificate of a CA is in force.
func (h *house) plan(ctx context.Context, cfg *loaded) (all []authority, fresh []store.IssuerRecord, err error) {
	records, err := h.store.Issuers(ctx)
	if err != nil {
		return nil, nil, err
	}
	byID := map[string]*store.IssuerRecord{}
	for i := range records {
		byID[records[i].ID] = &records[i]
	}
	for _, is := range cfg.Issuers {
		if is.Certificate == "" {
			continue
		}
		chain, err := readChain(is.Certificate)
		if err != nil {
			return nil, nil, fmt.Errorf("issuer %s: %w", is.ID, err)
		}
		parent := ""
		for i := len(chain) - 1; i >= 0; i-- {
			id, state := is.ID, stateActive
			if i > 0 {
				id, state = cfg.offlineID(chain[i]), stateOffline
				if at := slices.IndexFunc(records, func(r store.IssuerRecord) bool { return bytes.Equal(r.Certificate, chain[i].Raw) }); at >= 0 {
					id = records[at].ID
				}
			}
			if rec := byID[id]; rec != nil {
				err = h.compareAuthority(ctx, rec, chain[i])
			} else {
				rec := newRecord(id, parent, state, chain[i], h.now())
				byID[id] = &rec
				fresh = append(fresh, rec)
			}
			if err != nil {
				return nil, nil, err
			}
			parent = id
		}
	}
	for _, o := range cfg.Offline { // a root needs no issuer below it to be published
		if o.Certificate == "" {
			continue
		}
		chain, err := readChain(o.Certificate)
		if err != nil {
			return nil, nil, fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
		if byID[o.ID] == nil && bytes.Equal(chain[0].RawIssuer, chain[0].RawSubject) {
			fresh = append(fresh, newRecord(o.ID, "", stateOffline, chain[0], h.now()))
		}
	}
	all, err = chains(append(records, fresh...))
	return all, fresh, err
}

func newRecord(id, parent, state string, c *x509.Certificate, now time.Time) store.IssuerRecord {
	return store.IssuerRecord{
		ID: id, Name: id, Generation: 1, State: state, ParentID: parent, Certificate: c.Raw,
		Subject: c.Subject.String(), NotAfter: c.NotAfter, CreatedAt: now,
	}
}

// compareAuthority refuses a name that is used for another key: relying parties
// have its URLs in their certificates.
func (h *house) compareAuthority(ctx context.Context, rec *store.IssuerRecord, c *x509.Certificate) error {
	if bytes.Equal(rec.Certificate, c.Raw) {
		return nil
	}
	installed, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return fmt.Errorf("issuer %s: read installed certificate: %w", rec.ID, err)
	}
	if !bytes.Equal(installed.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
		return fmt.Errorf("issuer %s: the database knows this name with another key; a name is for one key: give the new issuer a new one", rec.ID)
	}
	h.log.WarnContext(ctx, "the configuration names another certificate of this issuer than the one in force", "issuer", rec.ID)
	return nil
}

// chains joins each row with those above it.
func chains(records []store.IssuerRecord) ([]authority, error) {
	certs, parents := map[string]*x509.Certificate{}, map[string]string{}
	for _, r := range records {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: read installed certificate: %w", r.ID, err)
		}
		certs[r.ID], parents[r.ID] = c, r.ParentID
	}
	all := make([]authority, 0, len(records))
	for _, r := range records {
		a := authority{ID: r.ID}
		for id := r.ID; id != "" && len(a.Chain) <= len(records); id = parents[id] {
			if certs[id] == nil {
				return nil, fmt.Errorf("issuer %s: its parent %s is not installed", r.ID, id)
			}
			a.Chain = append(a.Chain, certs[id])
		}
		all = append(all, a)
	}
	return all, nil
}

// install writes what is new of a prepared configuration to the database.
func (h *house) install(ctx context.Context, cfg *loaded, s *signing) error {
	for _, rec := range s.fresh {
		ev := store.Event{At: h.now(), Action: "issuer.installed", Outcome: "success", Actor: "server", Subject: rec.ID}
		if err := h.store.PutIssuer(ctx, rec, ev); err != nil {
			return fmt.Errorf("install issuer %s: %w", rec.ID, err)
		}
		h.log.InfoContext(ctx, "issuer installed", "issuer", rec.ID, "subject", rec.Subject, "state", rec.State)
	}
	for _, o := range cfg.Offline {
		if err := h.checkList(ctx, o); err != nil {
			return fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
	}
	for _, is := range cfg.Issuers {
		if s.chain(is.ID) == nil {
			continue
		}
		if _, err := h.store.RaiseCRLShards(ctx, is.ID, is.CRL.Shards); err != nil {
			return err
		}
	}
	return nil
}

// offlineID is the name of a CA above an issuer: as configured, or else derived
// from its certificate.
func (l *loaded) offlineID(c *x509.Certificate) string {
	for _, o := range l.Offline {
		if o.Certificate == "" {
			continue
		}
		if chain, err := readChain(o.Certificate); err == nil && bytes.Equal(chain[0].Raw, c.Raw) {
			return o.ID
		}
	}
	return "ca-" + pki.Fingerprint(c.Raw)[:16]
}

// checkList refuses a configured list that is not the offline CA's.
func (h *house) checkList(ctx context.Context, o Offline) error {
	if o.CRL == "" {
		return nil
	}
	list, err := readList(o.CRL)
	if err != nil {
		return err
	}
	rec, err := h.store.Issuer(ctx, o.ID)
	if errors.Is(err, store.ErrNotFound) {
		h.log.WarnContext(ctx, "the list of an offline CA waits for the CAs above it to be installed", "issuer", o.ID)
		return nil
	}
	if err != nil {
		return err
	}
	ca, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return err
	}
	if err := list.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("list %s is not signed by this CA: %w", o.CRL, err)
	}
	return nil
}

// importLists publishes the configured lists of offline CAs that are newer than
// those in the database. One that is not is left alone, and one that cannot be
// published is an alarm, not a reason to stop.
func (h *house) importLists(ctx context.Context, cfg *loaded) {
	for _, o := range cfg.Offline {
		if o.CRL == "" {
			continue
		}
		text, err := os.ReadFile(o.CRL)
		if err == nil {
			_, err = h.lists.Import(ctx, text, crl.Options{Actor: "server"})
		}
		if err != nil && fault.Of(err).Reason != "crl_number" {
			h.log.ErrorContext(ctx, "list of an offline CA not published", "issuer", o.ID, "file", o.CRL, "error", err)
		}
	}
}

// signing is what may be signed and by whom, made from one configuration.
type signing struct {
	rules       issuance.Rules
	keys        map[string]*openKey // by issuer id, and by "ocsp-" and the id of an offline CA
	waiting     []string            // ids of issuers that have no certificate yet
	ocsp        *responders
	authorities []authority
	fresh       []store.IssuerRecord // of authorities, what the database does not have yet
	lists       []crl.Authority      // whose revocation lists are published
}

// openKey is an issuer's private key and the passphrase that opened it.
type openKey struct {
	*keys.Key
	passphrase Reference
}

// prepare makes what a configuration allows, without changing anything. Keys that
// are open already are taken over.
func (h *house) prepare(ctx context.Context, cfg *loaded) (_ *signing, err error) {
	old := h.signing.Load()
	if old == nil {
		old = &signing{}
	}
	s := &signing{rules: issuance.Rules{Issuers: map[string][]*issuer.Issuer{}}, keys: map[string]*openKey{}}
	defer func() {
		if err != nil {
			s.closeAllBut(old)
		}
	}()
	if s.authorities, s.fresh, err = h.plan(ctx, cfg); err != nil {
		return nil, err
	}
	if s.rules.Profiles, err = cfg.compileProfiles(); err != nil {
		return nil, err
	}
	for _, is := range cfg.Issuers {
		chain := s.chain(is.ID)
		if chain == nil {
			s.waiting = append(s.waiting, is.ID)
			continue
		}
		key := old.keys[is.ID]
		if key == nil || key.Ref() != is.Key || key.passphrase != is.Passphrase {
			k, err := h.openKey(ctx, cfg, is.ID, is.Key, is.Passphrase)
			if err != nil {
				return nil, fmt.Errorf("issuer %s: %w", is.ID, err)
			}
			key = &openKey{k, is.Passphrase}
		}
		s.keys[is.ID] = key
		i, err := issuer.New(is.ID, chain, key.Key, cfg.locations(is.ID))
		if err != nil {
			return nil, err
		}
		s.rules.Issuers[is.ID] = []*issuer.Issuer{i}
	}
	if s.ocsp, err = h.prepareOCSP(ctx, cfg, s, old); err != nil {
		return nil, err
	}
	s.publishLists(cfg)
	return s, nil
}

// publishLists says whose lists are published: those of all CAs that are
// installed, made here where the key is.
func (s *signing) publishLists(cfg *loaded) {
	for _, a := range s.authorities {
		l := crl.Authority{ID: a.ID, Certificate: a.Chain[0], URL: cfg.locations(a.ID).CRL}
		for _, is := range cfg.Issuers {
			if is.ID == a.ID && len(s.rules.Issuers[a.ID]) > 0 {
				l.Issuer, l.Config = s.rules.Issuers[a.ID][0], is.CRL
			}
		}
		s.lists = append(s.lists, l)
	}
}

// enforce puts prepared rules in force; nothing in it can fail.
func (h *house) enforce(s *signing) {
	if old := h.signing.Swap(s); old != nil {
		for id, k := range old.keys {
			if s.keys[id] != k {
				h.retired = append(h.retired, k)
			}
		}
	}
	h.pipeline.Swap(s.rules)
	h.publisher.swap(s.authorities)
	h.enforceOCSP(s.ocsp)
	h.lists.Swap(s.lists)
	h.metrics.expires.Reset()
	for id, issuers := range s.rules.Issuers {
		h.metrics.expires.WithLabelValues(id).Set(float64(issuers[0].Certificate().NotAfter.Unix()))
	}
}

func (s *signing) chain(id string) []*x509.Certificate {
	for _, a := range s.authorities {
		if a.ID == id {
			return a.Chain
		}
	}
	return nil
}

// closeAllBut closes the keys that old does not have.
func (s *signing) closeAllBut(old *signing) {
	for id, k := range s.keys {
		if old == nil || old.keys[id] != k {
			_ = k.Close() // it was never used
		}
	}
}

// compileProfiles compiles the built-in profiles and the configured ones. Those
// of CAs are for ceremonies and are left out.
func (l *loaded) compileProfiles() (map[string]*profile.Profile, error) {
	configs := profile.BuiltIn()
	maps.Copy(configs, l.Profiles)
	compiled := map[string]*profile.Profile{}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		p, err := profile.Compile(name, configs[name])
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if !p.CA() {
			compiled[name] = p
		}
	}
	return compiled, errors.Join(wrong...)
}

// issuerHealth says which issuers can sign now.
func (h *house) issuerHealth(context.Context) []api.HealthCheck {
	s := h.signing.Load()
	issuers := s.rules.Issuers
	var checks []api.HealthCheck
	if len(issuers) == 0 {
		checks = append(checks, api.HealthCheck{Name: "issuers", Detail: "none is installed: see privyseal issuer csr and install"})
	}
	for _, id := range s.waiting {
		_, needed := h.whySuspended(id)
		checks = append(checks, api.HealthCheck{Name: "issuer " + id, OK: !needed, Detail: "it has no certificate yet: see privyseal issuer csr and install"})
	}
	for _, id := range slices.Sorted(maps.Keys(issuers)) {
		check := api.HealthCheck{Name: "issuer " + id}
		c, now := issuers[id][0].Certificate(), h.now()
		why, needed := h.whySuspended(id)
		switch err := s.keys[id].Healthy(); {
		case why != "": // no harm if a successor has taken its place
			check.Detail, check.OK = "it signs no more certificates: "+why, !needed
		case now.After(c.NotAfter):
			check.Detail = "its certificate has expired"
		case now.Before(c.NotBefore):
			check.Detail = "its certificate is not valid yet; check the clock"
		case err != nil:
			check.Detail = detail(err)
		default:
			check.OK = true
		}
		checks = append(checks, check)
	}
	return checks
}
