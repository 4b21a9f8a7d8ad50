package tree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Record is a certificate that a CA issued before it came here.
type Record struct {
	Serial                        pki.Serial
	DER                           []byte // nil if it is lost
	Subject                       string // RFC 4514, and the dates, where DER is nil
	NotBefore, NotAfter           time.Time
	Profile, ProfileVersion       string
	Protocol, Endpoint, Requester string
	Shard                         int
	IssuedAt                      *time.Time
	Revocation                    *store.Revocation
}

// Import enters a page of records of a CA that is declared and not adopted yet.
// Each certificate must be signed by the CA's own. It returns how many are new.
func (t *Tree) Import(ctx context.Context, id string, certificate []byte, page []Record, who Actor) (int, error) {
	if _, err := t.declared(id); err != nil {
		return 0, err
	}
	if rec, _, err := t.installed(ctx, id); err != nil || rec != nil {
		return 0, errors.Join(err, fault.New(fault.Conflict,
			"%s is in force already: records come before it is adopted", id).Because("issuer_installed"))
	}
	chain, err := pki.ParseChain(certificate)
	if err != nil {
		return 0, fault.New(fault.Malformed, "the certificate: %w", err).Because("certificate_form")
	}
	rows := make([]store.Certificate, len(page))
	for i, r := range page {
		if rows[i], err = t.row(id, chain[0], r, who); err != nil {
			return 0, err
		}
	}
	detail, err := json.Marshal(map[string]int{"records": len(page)})
	if err != nil {
		return 0, err
	}
	return t.Store.ImportCertificates(ctx, rows, t.event(who, "certificates.imported", id, detail))
}

func (t *Tree) row(id string, ca *x509.Certificate, r Record, who Actor) (store.Certificate, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Malformed, "record "+string(r.Serial)+": "+format, args...).Because("record")
	}
	row := store.Certificate{
		ID: store.NewID(), IssuerID: id, Serial: r.Serial, Profile: r.Profile, ProfileVersion: r.ProfileVersion,
		Protocol: r.Protocol,
		Endpoint: r.Endpoint, Requester: r.Requester, Subject: r.Subject, NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		Shard:      r.Shard,
		ReservedAt: t.Now(), IssuedAt: r.IssuedAt, Revocation: r.Revocation,
	}
	if row.Protocol == "" {
		row.Protocol = "imported"
	}
	if row.Requester == "" {
		row.Requester = who.Name
	}
	if r.Revocation != nil && r.Revocation.Requester == "" {
		row.Revocation.Requester = who.Name
	}
	unknown := sha256.Sum256([]byte("the key of this certificate is not known: " + row.ID))
	row.KeyHash, row.Origin = unknown[:], "imported:"+row.ID
	if r.DER != nil {
		if err := read(&row, ca, r.DER); err != nil {
			return row, bad("%v", err)
		}
	}
	if row.IssuedAt != nil {
		row.ReservedAt = *row.IssuedAt
	}
	if row.NotAfter.IsZero() {
		return row, bad("it has no end")
	}
	if row.NotBefore.IsZero() {
		row.NotBefore = ca.NotBefore
	}
	return row, nil
}

// read takes what a certificate says of itself into its row.
func read(row *store.Certificate, ca *x509.Certificate, der []byte) error {
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return err
	case pki.SerialFromBig(c.SerialNumber) != row.Serial:
		return fmt.Errorf("the certificate has the serial %x", c.SerialNumber)
	case !bytes.Equal(c.RawIssuer, ca.RawSubject) || pki.SignedBy(c, ca) != nil:
		return fmt.Errorf("the certificate was not signed by %s", ca.Subject)
	}
	hash, err := pki.HashKey(c.PublicKey)
	if err != nil {
		return err
	}
	row.DER, row.KeyHash, row.NotBefore, row.NotAfter = der, hash[:], c.NotBefore, c.NotAfter
	if c.IsCA && row.Profile == "" {
		row.Profile = importedCA
	}
	if name, err := pki.ParseNameDER(c.RawSubject); err == nil {
		row.Subject = name.String()
	}
	if value, ok := pki.Extension(c.Extensions, pki.OIDSubjectAltName); ok {
		if names, err := pki.ParseSAN(value); err == nil { // what the old CA wrote may be odd
			row.Names = names
		}
	}
	return nil
}

// Adoption is a CA that was run elsewhere.
type Adoption struct {
	Chain      []byte // PEM, as in Certificate
	Key        []byte // PEM of its private key; nil if it is where the configuration says
	Passphrase []byte
	LastCRL    int64 // number of its newest list
	Shards     int   // the highest number of shards that it ever had
}

// Adopt takes over a CA with its key and the number of its newest list. Its
// records were entered before by Import; a self-signed CA's key is refused.
func (t *Tree) Adopt(ctx context.Context, id string, a Adoption, who Actor) (*Installed, error) {
	c, err := t.consider(ctx, id, a.Chain)
	if err != nil {
		return nil, err
	}
	if c.old != nil && !c.inForce() {
		return nil, fault.New(fault.Conflict, "%s is installed with another certificate", id).Because("issuer_key")
	}
	rows, err := t.rows(ctx, c)
	if err != nil {
		return nil, err
	}
	if a.Key != nil {
		if err := t.takeKey(ctx, c.d, c.chain[0], a); err != nil {
			return nil, err
		}
	}
	if c.inForce() {
		return &Installed{Record: *c.rec, Unchanged: true}, nil
	}
	if err := holds(ctx, c.d, c.chain[0]); err != nil {
		return nil, err
	}
	last := &rows[len(rows)-1]
	last.LastCRLNumber, last.CRLShards = a.LastCRL, a.Shards
	last.RevocationSeq = 1 // the sequence of what was imported
	events := make([]store.Event, len(rows))
	for i, r := range rows {
		if events[i], err = t.installedEvent(who, r, "adopted"); err != nil {
			return nil, err
		}
	}
	if err := t.Store.InstallIssuers(ctx, rows, events...); err != nil {
		return nil, err
	}
	done := &Installed{Record: last.IssuerRecord, Warnings: c.warnings(false)}
	if err := t.Refresh(ctx); err != nil {
		done.Warnings = append(done.Warnings, fmt.Sprintf("it is installed, but not in force yet (%v): run `privyseal "+
			"config reload`", err))
	}
	return done, nil
}

// takeKey writes a private key where the configuration wants it, encrypted under
// the configured passphrase.
func (t *Tree) takeKey(ctx context.Context, d ca.Declaration, c *x509.Certificate, a Adoption) error {
	if bytes.Equal(c.RawSubject, c.RawIssuer) {
		return fault.New(fault.Denied, "%s is self-signed: the key of a root is not on a server; privyseal-ceremony "+
			"import openssl-ca takes it", c.Subject).Because("root_online")
	}
	if d.Offline {
		return fault.New(fault.Denied, "%s is declared as offline: its key does not belong here", d.ID).
			Because("issuer_offline")
	}
	signer, _, err := keys.DecryptForeign(a.Key, func() ([]byte, error) { return bytes.Clone(a.Passphrase), nil })
	if err != nil {
		return fault.New(fault.Malformed, "the private key: %w", err).Because("private_key")
	}
	if !pki.SameKey(signer.Public(), c.PublicKey) {
		return fault.New(fault.Denied, "the private key is not that of the certificate %s", c.Subject).
			Because("key_mismatch")
	}
	have, err := keys.Open(ctx, d.Key, d.Secret, d.KeyConfig)
	if err == nil {
		same := pki.SameKey(have.Public(), signer.Public())
		if err := have.Close(); err != nil || same {
			return err
		}
		return fault.New(fault.Conflict, "there is another key at %s", d.Key).Because("key_exists")
	}
	if !errors.Is(err, keys.ErrNoKey) {
		return fault.Wrap(fault.Unavailable, err, fmt.Sprintf("the key of issuer %s cannot be opened: %v", d.ID, err)).
			Because("key")
	}
	if err := keys.Save(d.Key, signer, d.Secret); err != nil {
		return fault.New(fault.Conflict, "%w", err).Because("key")
	}
	return nil
}

// ParseCRLNumber reads a CRL number in decimal; the empty one is 0.
func ParseCRLNumber(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || n.Sign() < 0 || !n.IsInt64() {
		return 0, fault.New(fault.Malformed, "CRL number %q: want a decimal number that fits in 63 bits", s).
			Because("crl_number")
	}
	return n.Int64(), nil
}
