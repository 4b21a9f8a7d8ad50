//go:build cgo

package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// hashes are the hash functions of mechanisms, and their OIDs (RFC 8017,
// appendix B.1).
var hashes = map[crypto.Hash]struct {
	mechanism, mgf uint
	oid            asn1.ObjectIdentifier
}{
	crypto.SHA1:   {pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}},
	crypto.SHA224: {pkcs11.CKM_SHA224, pkcs11.CKG_MGF1_SHA224, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}},
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	crypto.SHA384: {pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	crypto.SHA512: {pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
}

// use runs an operation in a session. begin starts it at the token, which may ask
// for the PIN before end carries it out.
func (c *conn) use(
	ctx context.Context, begin func(pkcs11.SessionHandle) error, end func(pkcs11.SessionHandle) ([]byte, error),
) ([]byte, error) {
	h, err := c.in.session(ctx)
	if err != nil {
		return nil, err
	}
	var out []byte
	spoilt := false
	if err = meaning(begin(h)); err == nil && c.always {
		err = c.confirm(h)
		spoilt = err != nil // the operation stays begun
	}
	if err == nil {
		out, err = end(h)
		err = meaning(err)
	}
	if says(err, void) {
		c.in.forget()
	} else {
		c.in.release(h, spoilt || says(err, heals) && !says(err, padding))
	}
	return out, err
}

// confirm sends the PIN for one operation (PKCS#11 2.40, section 5.6,
// CKU_CONTEXT_SPECIFIC). A PIN that was refused is not sent again.
func (c *conn) confirm(h pkcs11.SessionHandle) error {
	secret, err := passphrase(c.key.secret)
	if err != nil {
		return fmt.Errorf("%w: %w: %w", ErrNotSigned, errSecret, err)
	}
	defer clear(secret)
	t := c.in.token
	mark := t.pinMark(secret)
	if mark != c.in.mark {
		if err := t.mayTry(c.in.p, mark, c.key); err != nil {
			return fmt.Errorf("%w: %w", ErrNotSigned, err)
		}
	} else if err := t.lib.refusal(mark); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSigned, err)
	}
	err = meaning(c.in.p.Login(h, pkcs11.CKU_CONTEXT_SPECIFIC, string(secret)))
	t.lib.judged(mark, err)
	if err != nil {
		return fmt.Errorf("%w: log in for this use of the key (CKA_ALWAYS_AUTHENTICATE): %w", ErrNotSigned, err)
	}
	return nil
}

func (c *conn) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	mechanism := pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)
	ec, isEC := c.public.(*ecdsa.PublicKey)
	if isEC {
		// The leftmost bits of the hash are signed (FIPS 186-5, section 6.4.1).
		// Not every token cuts them off itself.
		digest = digest[:min(len(digest), (ec.Curve.Params().BitSize+7)/8)]
	} else {
		var err error
		if mechanism, digest, err = c.rsaSignature(digest, opts); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSigned, err)
		}
	}
	sig, err := c.use(ctx, func(h pkcs11.SessionHandle) error {
		return c.in.p.SignInit(h, []*pkcs11.Mechanism{mechanism}, c.handle)
	}, func(h pkcs11.SessionHandle) ([]byte, error) { return c.in.p.Sign(h, digest) })
	if err != nil || !isEC {
		return sig, err
	}
	if len(sig) == 0 || len(sig)%2 != 0 {
		return nil, errors.New("the token's signature has a length that an ECDSA signature cannot have")
	}
	half := len(sig) / 2 //nolint:mnd // r and s
	return asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:]),
	})
}

// rsaSignature returns the mechanism for opts and what it signs.
func (c *conn) rsaSignature(digest []byte, opts crypto.SignerOpts) (*pkcs11.Mechanism, []byte, error) {
	pub, ok := c.public.(*rsa.PublicKey)
	h, known := hashes[opts.HashFunc()]
	if !ok || !known {
		return nil, nil, fmt.Errorf("no mechanism for %T with %s", c.public, opts.HashFunc())
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		salt, err := pssSalt(pub, pss)
		if err != nil {
			return nil, nil, err
		}
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(h.mechanism, h.mgf, salt)), digest, nil
	}
	// DigestInfo: RFC 8017, section 9.2.
	info, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: h.oid, Parameters: asn1.NullRawValue}, digest})
	return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), info, err
}

// pssSalt is the salt's length in octets. "auto" is for a signature the longest
// that fits (RFC 8017, section 9.1.1).
func pssSalt(pub *rsa.PublicKey, pss *rsa.PSSOptions) (uint, error) {
	salt := pss.SaltLength
	switch salt {
	case rsa.PSSSaltLengthEqualsHash:
		salt = pss.Hash.Size()
	case rsa.PSSSaltLengthAuto:
		salt = (pub.N.BitLen()-1+7)/8 - 2 - pss.Hash.Size()
	}
	if salt < 0 || pss.SaltLength == rsa.PSSSaltLengthAuto && salt == 0 {
		return 0, fmt.Errorf("the key is too short for PSS with %s", pss.Hash)
	}
	return uint(salt), nil
}

func (c *conn) decrypt(ctx context.Context, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	mechanism := pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)
	if oaep, ok := opts.(*rsa.OAEPOptions); ok {
		h, known := hashes[oaep.Hash]
		if !known {
			return nil, fmt.Errorf("%w: OAEP with %s", errDecrypt, oaep.Hash)
		}
		mechanism = pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP,
			pkcs11.NewOAEPParams(h.mechanism, h.mgf, pkcs11.CKZ_DATA_SPECIFIED, oaep.Label))
	}
	return c.use(ctx, func(h pkcs11.SessionHandle) error {
		return c.in.p.DecryptInit(h, []*pkcs11.Mechanism{mechanism}, c.handle)
	}, func(h pkcs11.SessionHandle) ([]byte, error) { return c.in.p.Decrypt(h, msg) })
}

// meaning translates a return value of the module.
func meaning(err error) error {
	var code pkcs11.Error
	if errors.As(err, &code) {
		return &tokenError{code: uint(code)}
	}
	return err
}
