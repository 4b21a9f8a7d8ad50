package store

import (
	"context"

	"github.com/privyseal/privyseal/internal/pki"
)

// Witness knows revocations that the database has lost, as after the restore of an
// older one: those of the revocation lists on this node's disk. It returns the zero
// Revocation and false for a certificate that it knows nothing of.
type Witness func(issuerID string, serial pki.Serial) (Revocation, bool)

// testimony is the witness in force.
type testimony struct {
	Witness
	version int64
}

// SetWitness puts a witness in the place of the one before; nil takes it away. From
// then on whoever asks whether a certificate is revoked is told the stricter of
// what the database and the witness say. Who has to know what the database alone
// says asks for it: StandingsOnRecord.
func (s *Store) SetWitness(w Witness) {
	for {
		old := s.witness.Load()
		next := &testimony{Witness: w, version: 1}
		if old != nil {
			next.version = old.version + 1
		}
		if s.witness.CompareAndSwap(old, next) {
			return
		}
	}
}

// WitnessVersion changes with every SetWitness: what was read under another one may
// not hold any more.
func (s *Store) WitnessVersion() int64 {
	if t := s.witness.Load(); t != nil {
		return t.version
	}
	return 0
}

// Witnessed returns what the witness says of a certificate.
func (s *Store) Witnessed(issuerID string, serial pki.Serial) (Revocation, bool) {
	t := s.witness.Load()
	if t == nil || t.Witness == nil {
		return Revocation{}, false
	}
	return t.Witness(issuerID, serial)
}

// stricter returns was, or what the witness says if that says more.
func (s *Store) stricter(issuerID string, serial pki.Serial, was *Revocation) *Revocation {
	if w, ok := s.Witnessed(issuerID, serial); ok && was.MayBecome(w.Reason) {
		return &w
	}
	return was
}

// MayBecome reports whether a revocation, or none, may give way to one of another
// reason: a hold to a final one, and any to a compromise of the key (rule C8).
func (r *Revocation) MayBecome(other pki.Reason) bool {
	return r == nil || r.Reason == pki.CertificateHold && other != pki.CertificateHold ||
		r.Reason != pki.KeyCompromise && other == pki.KeyCompromise
}

// holdersStand refuses holders whose certificates the witness knows to be revoked.
// Those that the database knows are refused in the write itself.
func (s *Store) holdersStand(ctx context.Context, ids []string) error {
	if t := s.witness.Load(); t == nil || t.Witness == nil {
		return nil
	}
	for _, id := range ids {
		if row, err := s.CertificateByID(ctx, id); err != nil {
			return err
		} else if row.Revocation != nil {
			return revoked()
		}
	}
	return nil
}

// blockedByWitness reports whether the witness knows the compromise of a
// certificate that has a key.
func (s *Store) blockedByWitness(ctx context.Context, key pki.KeyHash) (bool, error) {
	if t := s.witness.Load(); t == nil || t.Witness == nil {
		return false, nil
	}
	rows, err := s.certificates(ctx, `WHERE c.key_hash = $1`, key[:])
	for i := range rows {
		if w, ok := s.Witnessed(rows[i].IssuerID, rows[i].Serial); ok && w.Reason == pki.KeyCompromise {
			return true, nil
		}
	}
	return false, err
}
