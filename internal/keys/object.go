//go:build cgo

package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// conn is a private key as it was found in a login.
type conn struct {
	in     *login
	handle pkcs11.ObjectHandle
	public crypto.PublicKey
	always bool // CKA_ALWAYS_AUTHENTICATE: the PIN is wanted for each operation
	key    *tokenKey
}

// find looks the key up by exactly what u says of it.
func (in *login) find(ctx context.Context, u *URI) (*conn, error) {
	h, err := in.session(ctx)
	if err != nil {
		return nil, err
	}
	c, err := (&objects{in.p, h}).key(u)
	in.release(h, says(err, heals))
	if err != nil {
		return nil, err
	}
	c.in = in
	return c, nil
}

// objects is what a session sees of a token.
type objects struct {
	p *pkcs11.Ctx
	h pkcs11.SessionHandle
}

func (o *objects) key(u *URI) (*conn, error) {
	found, err := o.named(pkcs11.CKO_PRIVATE_KEY, u.ID, u.Object)
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, o.missing(u)
	case len(found) > 1:
		return nil, fmt.Errorf("%d keys have this label and id: name the one by both", len(found))
	}
	c := &conn{handle: found[0]}
	if c.public, err = o.public(c.handle); err != nil {
		return nil, err
	}
	always, err := o.attribute(c.handle, pkcs11.CKA_ALWAYS_AUTHENTICATE)
	c.always = len(always) > 0 && always[0] != 0
	return c, err
}

// named finds objects of a class by id and label, where they are given.
func (o *objects) named(class uint, id []byte, label string) ([]pkcs11.ObjectHandle, error) {
	want := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if len(id) > 0 {
		want = append(want, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if label != "" {
		want = append(want, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if err := o.p.FindObjectsInit(o.h, want); err != nil {
		return nil, meaning(err)
	}
	var all []pkcs11.ObjectHandle
	for {
		some, _, err := o.p.FindObjects(o.h, 64)
		if err != nil {
			return nil, errors.Join(meaning(err), meaning(o.p.FindObjectsFinal(o.h)))
		}
		if all = append(all, some...); len(some) == 0 || len(all) > maxObjects {
			return all, meaning(o.p.FindObjectsFinal(o.h))
		}
	}
}

// maxObjects bounds what is read of a token that has very many keys.
const maxObjects = 10000

// attribute reads one; nil where the object has none or does not show it.
func (o *objects) attribute(obj pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	got, err := o.p.GetAttributeValue(o.h, obj, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	var code pkcs11.Error
	switch {
	case errors.As(err, &code) && (code == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID || code == pkcs11.CKR_ATTRIBUTE_SENSITIVE):
		return nil, nil
	case err != nil:
		return nil, meaning(err)
	case len(got) == 0:
		return nil, nil
	}
	return got[0].Value, nil
}

// missing says what there is in the place of a private key.
func (o *objects) missing(u *URI) error {
	none := fmt.Errorf("no private key has this label and id: %w", ErrNoKey)
	if id, err := hex.DecodeString(string(u.ID)); err == nil && len(id) > 0 {
		if found, _ := o.named(pkcs11.CKO_PRIVATE_KEY, id, u.Object); len(found) > 0 {
			return fmt.Errorf("%w; one has the octets %s as its id, which are written id=%s; id=%s is text", none,
				hex.EncodeToString(id), percent(id), u.ID)
		}
	}
	if len(u.ID) > 0 && u.Object != "" {
		byID, _ := o.named(pkcs11.CKO_PRIVATE_KEY, u.ID, "")
		byLabel, _ := o.named(pkcs11.CKO_PRIVATE_KEY, nil, u.Object)
		if len(byID)+len(byLabel) > 0 {
			return fmt.Errorf("%w; %d have the id with another label, %d the label with another id", none, len(byID),
				len(byLabel))
		}
	}
	if found, _ := o.named(pkcs11.CKO_PUBLIC_KEY, u.ID, u.Object); len(found) > 0 {
		return fmt.Errorf("%w; a public key has: the private half is not in this token, or this login may not see it",
			none)
	}
	return none
}

func percent(id []byte) string {
	text := ""
	for _, b := range id {
		text += fmt.Sprintf("%%%02X", b)
	}
	return text
}

// public finds the public half of a private key: a public key or certificate with
// its id, or what the private key shows of it.
func (o *objects) public(private pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	id, err := o.attribute(private, pkcs11.CKA_ID)
	if err != nil {
		return nil, err
	}
	label, err := o.attribute(private, pkcs11.CKA_LABEL)
	if err != nil {
		return nil, err
	}
	by := string(label)
	if len(id) > 0 {
		by = ""
	}
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		if len(id) == 0 && by == "" {
			break
		}
		found, err := o.named(class, id, by)
		if err != nil {
			return nil, err
		}
		for _, obj := range found {
			if pub, err := o.export(obj, class); err == nil && o.fits(private, pub) {
				return pub, nil
			}
		}
	}
	if pub, err := o.export(private, pkcs11.CKO_PRIVATE_KEY); err == nil {
		return pub, nil
	}
	return nil, o.noPublic(id, string(label))
}

// noPublic says what is wrong where a private key stands alone.
func (o *objects) noPublic(id []byte, label string) error {
	if label != "" {
		others, _ := o.named(pkcs11.CKO_PUBLIC_KEY, nil, label)
		for _, obj := range others {
			if other, err := o.attribute(obj, pkcs11.CKA_ID); err == nil && !bytes.Equal(other, id) {
				return fmt.Errorf("the private key's id is %s, and the public key with its label has the id %s: give "+
					"both one id with the token's own tool", shown(id), shown(other))
			}
		}
	}
	return fmt.Errorf("the private key is there, but no public key or certificate with its id %s: write one of them "+
		"into the token, with this id (pkcs11-tool --write-object FILE --type pubkey --id %x)", shown(id), id)
}

func shown(id []byte) string {
	if len(id) == 0 {
		return "(none)"
	}
	return percent(id)
}

// fits reports whether a public half is of its private key's type.
func (o *objects) fits(private pkcs11.ObjectHandle, pub crypto.PublicKey) bool {
	kind, err := o.attribute(private, pkcs11.CKA_KEY_TYPE)
	want := uint(pkcs11.CKK_EC)
	if _, ok := pub.(*rsa.PublicKey); ok {
		want = pkcs11.CKK_RSA
	}
	return err == nil && bytes.Equal(kind, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, want).Value)
}

// export reads a public key from an object of the class.
func (o *objects) export(obj pkcs11.ObjectHandle, class uint) (crypto.PublicKey, error) {
	get := func(kind uint) []byte {
		v, _ := o.attribute(obj, kind) // what is missing shows below
		return v
	}
	if class == pkcs11.CKO_CERTIFICATE {
		cert, err := x509.ParseCertificate(get(pkcs11.CKA_VALUE))
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	n, e := new(big.Int).SetBytes(get(pkcs11.CKA_MODULUS)), new(big.Int).SetBytes(get(pkcs11.CKA_PUBLIC_EXPONENT))
	if n.Sign() > 0 && e.Sign() > 0 && e.BitLen() < 32 {
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	}
	return ecPublic(get(pkcs11.CKA_EC_PARAMS), get(pkcs11.CKA_EC_POINT))
}

// curves are the named curves of RFC 5480, section 2.1.1.1, that sign here.
var curves = []struct {
	oid   asn1.ObjectIdentifier
	curve elliptic.Curve
	alg   string
}{
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256(), "ec-p256"},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 34}, elliptic.P384(), "ec-p384"},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 35}, elliptic.P521(), "ec-p521"},
}

// ecPublic reads CKA_EC_PARAMS and CKA_EC_POINT. The point is an OCTET STRING;
// some modules leave its header out.
func ecPublic(params, point []byte) (*ecdsa.PublicKey, error) {
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) != 0 {
		return nil, errors.New("the key's curve is not a named one")
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	for _, c := range curves {
		if c.oid.Equal(oid) {
			return ecdsa.ParseUncompressedPublicKey(c.curve, point)
		}
	}
	return nil, fmt.Errorf("the curve %s is not known", oid)
}
