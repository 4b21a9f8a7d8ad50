//go:build cgo

package keys

import (
	"context"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

const withPKCS11 = true

// generateToken makes a key pair in a token. It refuses a label or id that any
// key has.
func generateToken(ref Ref, alg string, secret Secret, cfg Config) error {
	u, module, err := ref.token(cfg.Module)
	if err != nil {
		return err
	}
	if u.Object == "" {
		return errors.New("want object=, the label of the new key")
	}
	mechanism, kind, err := generation(alg)
	if err != nil {
		return err
	}
	secretText, err := passphrase(secret)
	if err != nil {
		return err
	}
	defer clear(secretText)
	ctx := context.Background()
	t := &tokenKey{
		uri: u, lib: libraryAt(module), sessions: cfg.Sessions, finalTry: cfg.FinalTry,
		report: newKey(ref, nil, cfg).reported,
	}
	if err := t.lib.enter(ctx); err != nil {
		return err
	}
	defer t.lib.leave()
	slot, err := t.lib.find(u, t.sessions)
	if err != nil {
		return err
	}
	in, err := t.logged(ctx, slot, secretText)
	if err != nil {
		return err
	}
	return in.writing(ctx, func(o *objects) error { return o.generate(u, mechanism, kind) })
}

// writing runs f in a session that may write to the token.
func (in *login) writing(ctx context.Context, f func(*objects) error) error {
	if err := in.permit(ctx); err != nil {
		return err
	}
	defer func() { <-in.token.permits }()
	in.spare()
	h, err := in.p.OpenSession(in.token.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("open a session that may write: %w", meaning(err))
	}
	return errors.Join(f(&objects{in.p, h}), meaning(in.p.CloseSession(h)))
}

// generation returns the mechanism for an algorithm and what its public half says.
func generation(alg string) (uint, []*pkcs11.Attribute, error) {
	for _, c := range curves {
		if c.alg == alg {
			params, err := asn1.Marshal(c.oid)
			return pkcs11.CKM_EC_KEY_PAIR_GEN, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
				pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params),
			}, err
		}
	}
	bits := map[string]int{"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}[alg]
	if bits == 0 {
		return 0, nil, fmt.Errorf("algorithm %q: want ec-p256, ec-p384, ec-p521, rsa-2048, rsa-3072 or rsa-4096 "+
			"in a token", alg)
	}
	return pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
	}, nil
}

func (o *objects) generate(u *URI, mechanism uint, kind []*pkcs11.Attribute) error {
	id := u.ID
	if len(id) == 0 {
		id = make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return err
		}
	}
	if err := o.vacant(id, u.Object); err != nil {
		return err
	}
	both := func(more ...*pkcs11.Attribute) []*pkcs11.Attribute {
		return append(more, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, u.Object))
	}
	private := both(pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true))
	if mechanism == pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN {
		private = append(private, pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true))
	}
	public := append(both(pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)), kind...)
	_, _, err := o.p.GenerateKeyPair(o.h, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private)
	return meaning(err)
}

// vacant refuses an id or label that a private key already has, whole or without
// its public half.
func (o *objects) vacant(id []byte, label string) error {
	for _, by := range []struct {
		id    []byte
		label string
	}{{id, ""}, {nil, label}} {
		found, err := o.named(pkcs11.CKO_PRIVATE_KEY, by.id, by.label)
		if err != nil {
			return fmt.Errorf("look for the label in the token: %w", err)
		}
		if len(found) != 0 {
			return errors.New("a key with this label or id exists in the token and is not overwritten")
		}
	}
	return nil
}
