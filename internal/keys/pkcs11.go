//go:build cgo

package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

const withPKCS11 = true

// tokenConn is a connection through crypto11: a pool of sessions, logged in.
type tokenConn struct {
	ctx    *crypto11.Context
	signer crypto11.Signer
}

// dialPKCS11 connects to a token and finds exactly one key.
func dialPKCS11(u *URI, module string, pin []byte) (connection, error) {
	ctx, err := login(u, module, pin)
	if err != nil {
		return nil, err
	}
	signer, err := find(ctx, u)
	if err != nil {
		return nil, errors.Join(err, ctx.Close())
	}
	return &tokenConn{ctx: ctx, signer: signer}, nil
}

// login opens the token that u names.
func login(u *URI, module string, pin []byte) (*crypto11.Context, error) {
	cfg := &crypto11.Config{
		Path: module, Pin: string(pin),
		// One session keeps the login, one is spare. A token that has fewer makes
		// calls wait for each other; Key bounds that as it bounds a call.
		MaxSessions: parallel + 2,
	}
	// crypto11 takes one attribute. Where u has more, or another, the slot is
	// looked up first.
	switch single := u.only(); {
	case single && u.Serial != "":
		cfg.TokenSerial = u.Serial
	case single && u.Token != "":
		cfg.TokenLabel = u.Token
	case single && u.SlotID != nil:
		n := int(*u.SlotID) //nolint:gosec // a CK_SLOT_ID as crypto11 wants it
		cfg.SlotNumber = &n
	default:
		n, err := slotOf(u, module, true)
		if err != nil {
			return nil, err
		}
		cfg.SlotNumber = &n
	}
	ctx, err := crypto11.Configure(cfg)
	cfg.Pin = "" // crypto11 keeps its configuration
	if err != nil {
		return nil, fmt.Errorf("connect to token: %w", meaning(err))
	}
	if cfg.TokenLabel != "" { // two tokens may bear one label
		if _, err := slotOf(u, module, false); err != nil {
			return nil, errors.Join(err, ctx.Close())
		}
	}
	return ctx, nil
}

// only reports whether exactly one attribute says which token is meant.
func (u *URI) only() bool {
	v := *u
	v.Object, v.ID, v.Type, v.ModulePath, v.ModuleName = "", nil, "", "", ""
	n := 0
	if v.Token != "" {
		n++
	}
	if v.Serial != "" {
		n++
	}
	if v.SlotID != nil {
		n++
	}
	v.Token, v.Serial, v.SlotID = "", "", nil
	rest := v.Manufacturer + v.Model + v.LibraryManufacturer + v.LibraryDescription + v.LibraryVersion +
		v.SlotManufacturer + v.SlotDescription
	return n == 1 && rest == ""
}

// slotOf finds the one slot whose token has every attribute of u. start says
// that the module may have to be started for it, and stopped afterwards.
func slotOf(u *URI, module string, start bool) (slot int, err error) {
	p := pkcs11.New(module)
	if p == nil {
		return 0, fmt.Errorf("load PKCS#11 module %s: it cannot be loaded", module)
	}
	defer p.Destroy()
	info, err := p.GetInfo()
	// A module such as p11-kit's client is started for each user of it in a process.
	if start || errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		switch err := p.Initialize(); {
		case err == nil:
			defer func() { err = errors.Join(err, meaning(p.Finalize())) }()
		case !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)):
			return 0, fmt.Errorf("start PKCS#11 module: %w", meaning(err))
		}
		info, err = p.GetInfo()
	}
	if err != nil {
		return 0, fmt.Errorf("read module information: %w", meaning(err))
	}
	if !u.matchesLibrary(info) {
		return 0, errors.New("the PKCS#11 module is another one than the reference says")
	}
	slots, err := p.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("list slots: %w", meaning(err))
	}
	found := 0
	for _, id := range slots {
		if u.matchesSlot(p, id) {
			slot = int(id) //nolint:gosec // a CK_SLOT_ID as crypto11 wants it
			found++
		}
	}
	if found != 1 {
		return 0, fmt.Errorf("%d tokens of the module are what the reference names: want one", found)
	}
	return slot, nil
}

func same(want, have string) bool { return want == "" || want == have }

func (u *URI) matchesLibrary(i pkcs11.Info) bool {
	return same(u.LibraryManufacturer, i.ManufacturerID) && same(u.LibraryDescription, i.LibraryDescription) &&
		same(u.LibraryVersion, fmt.Sprintf("%d.%d", i.LibraryVersion.Major, i.LibraryVersion.Minor))
}

func (u *URI) matchesSlot(p *pkcs11.Ctx, id uint) bool {
	if u.SlotID != nil && *u.SlotID != uint64(id) {
		return false
	}
	token, err := p.GetTokenInfo(id)
	if err != nil { // a slot that is broken is not the one that is meant
		return false
	}
	if u.SlotManufacturer != "" || u.SlotDescription != "" {
		slot, err := p.GetSlotInfo(id)
		if err != nil || !same(u.SlotManufacturer, slot.ManufacturerID) ||
			!same(u.SlotDescription, slot.SlotDescription) {
			return false
		}
	}
	return same(u.Token, token.Label) && same(u.Serial, token.SerialNumber) &&
		same(u.Manufacturer, token.ManufacturerID) && same(u.Model, token.Model)
}

// find looks the key up by exactly what u says of it.
func find(ctx *crypto11.Context, u *URI) (crypto11.Signer, error) {
	pairs, err := ctx.FindKeyPairs(u.ID, []byte(u.Object))
	switch {
	case err != nil:
		return nil, fmt.Errorf("find key in token: %w", meaning(err))
	case len(pairs) == 0:
		return nil, fmt.Errorf("find key in token: no private key with a public key or certificate has this label and "+
			"id: %w", ErrNoKey)
	case len(pairs) > 1:
		return nil, fmt.Errorf("find key in token: %d keys have this label and id: name the one by both", len(pairs))
	}
	return pairs[0], nil
}

func (c *tokenConn) Public() crypto.PublicKey { return c.signer.Public() }

func (c *tokenConn) Sign(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch pub := c.signer.Public().(type) {
	case *ecdsa.PublicKey:
		// The leftmost bits of the hash are signed (FIPS 186-5, section 6.4.1).
		// Not every token cuts them off itself.
		digest = digest[:min(len(digest), (pub.Curve.Params().BitSize+7)/8)]
	case *rsa.PublicKey:
		var err error
		if opts, err = pssSalt(pub, opts); err != nil {
			return nil, err
		}
	}
	sig, err := c.signer.Sign(nil, digest, opts)
	return sig, meaning(err)
}

// pssSalt puts a number in the place of the salt length "auto", which for a
// signature is the longest that fits (RFC 8017, section 9.1.1).
func pssSalt(pub *rsa.PublicKey, opts crypto.SignerOpts) (crypto.SignerOpts, error) {
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok || pss.SaltLength != rsa.PSSSaltLengthAuto {
		return opts, nil
	}
	salt := (pub.N.BitLen()-1+7)/8 - 2 - pss.Hash.Size()
	if salt <= 0 {
		return nil, fmt.Errorf("%w: the key is too short for PSS with %s", ErrNotSigned, pss.Hash)
	}
	return &rsa.PSSOptions{SaltLength: salt, Hash: pss.Hash}, nil
}

func (c *tokenConn) Decrypt(msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	d, ok := c.signer.(crypto.Decrypter)
	if !ok {
		return nil, errDecrypt
	}
	plain, err := d.Decrypt(nil, msg, opts)
	return plain, meaning(err)
}

func (c *tokenConn) Close() error { return c.ctx.Close() }

// meaning translates errors of crypto11 and its parts. What is not a return
// value comes from the Go side: a wait for a session, or a closed pool.
func meaning(err error) error {
	var code pkcs11.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &code):
		return &tokenError{code: uint(code)}
	}
	switch err.Error() {
	case "context is closed", "cannot used closed Context":
		return errReplaced
	case "could not find PKCS#11 token":
		return errors.New("the module has no token of this label, serial or slot")
	}
	return err
}

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
	pinText, err := passphrase(secret)
	if err != nil {
		return err
	}
	defer clear(pinText)
	l := libraryAt(module)
	l.turn <- struct{}{}
	defer l.leave()
	ctx, err := login(u, module, pinText)
	if err != nil {
		return err
	}
	return errors.Join(generatePair(ctx, u, alg), ctx.Close())
}

func generatePair(ctx *crypto11.Context, u *URI, alg string) error {
	id := u.ID
	if len(id) == 0 {
		id = make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return err
		}
	}
	if err := vacant(ctx, id, u.Object); err != nil {
		return err
	}
	curves := map[string]elliptic.Curve{"ec-p256": elliptic.P256(), "ec-p384": elliptic.P384(),
		"ec-p521": elliptic.P521()}
	bits := map[string]int{"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
	public, err := crypto11.NewAttributeSetWithIDAndLabel(id, []byte(u.Object))
	if err != nil {
		return err
	}
	private := public.Copy()
	if err := private.Set(crypto11.CkaPrivate, true); err != nil {
		return err
	}
	switch {
	case curves[alg] != nil:
		_, err = ctx.GenerateECDSAKeyPairWithAttributes(public, private, curves[alg])
	case bits[alg] != 0:
		_, err = ctx.GenerateRSAKeyPairWithAttributes(public, private, bits[alg])
	default:
		return fmt.Errorf("algorithm %q: want ec-p256, ec-p384, ec-p521, rsa-2048, rsa-3072 or rsa-4096 in a token",
			alg)
	}
	return meaning(err)
}

// vacant refuses an id or label that a private key already has, whole or without
// its public half.
func vacant(ctx *crypto11.Context, id []byte, label string) error {
	for _, by := range []struct{ id, label []byte }{{id, nil}, {nil, []byte(label)}} {
		pairs, err := ctx.FindPrivateKeys(by.id, by.label)
		if err != nil {
			return fmt.Errorf("look for the label in the token: %w", meaning(err))
		}
		if len(pairs) != 0 {
			return errors.New("a key with this label or id exists in the token and is not overwritten")
		}
	}
	return nil
}
