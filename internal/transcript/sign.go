package transcript

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512" // SHA-384
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// Signature is one key's signature of a head.
type Signature struct {
	Signer    string `json:"signer"`    // CASigner, or a custodian's name
	Key       []byte `json:"key"`       // SubjectPublicKeyInfo
	Algorithm string `json:"algorithm"` // ecdsa-sha384, rsa-sha384 or ed25519
	Value     []byte `json:"value"`
}

// CASigner is the Signer of the CA's own signature.
const CASigner = "ca"

// Signer is a key that signs a transcript, and whose it is.
type Signer struct {
	Name string // CASigner, or a custodian's name as in the ceremony's opening
	Key  crypto.Signer
}

// message is what is signed of a head, and the time of the signature. It begins with a
// zero octet, which no certificate, list or other DER structure does: a signature of a
// transcript is never one of anything else that a CA signs.
func message(head string, at time.Time) []byte {
	return []byte("\x00privyseal transcript/2\x00" + head + "\x00" + at.UTC().Format(time.RFC3339))
}

// untimed is what was signed before the time was.
func untimed(head string) []byte { return []byte("\x00privyseal transcript/1\x00" + head) }

// Sign closes the ceremony: every signer signs the head. The CA's key is one of
// them; custodians sign with the keys that the opening names. One
// that fails leaves the transcript as it was.
func (t *Transcript) Sign(now time.Time, signers ...Signer) error {
	if !t.open() {
		return errors.New("sign transcript: no ceremony was begun since the last signature")
	}
	head := t.Head()
	list := make([]Signature, len(signers))
	ca := false
	for i, s := range signers {
		ca = ca || s.Name == CASigner
		var err error
		if list[i], err = sign(s, message(head, now)); err != nil {
			return fmt.Errorf("sign transcript as %s: %w", s.Name, err)
		}
	}
	if !ca {
		return errors.New("sign transcript: the CA's own signature is missing")
	}
	r := Record{Time: now, Signatures: list, Seq: len(t.records) + 1}
	if err := t.checkSigners(r); err != nil {
		return fmt.Errorf("sign transcript: %w", err)
	}
	if err := t.append(r); err != nil {
		return fmt.Errorf("sign transcript: %w", err)
	}
	return nil
}

func sign(s Signer, text []byte) (Signature, error) {
	spki, err := x509.MarshalPKIXPublicKey(s.Key.Public())
	if err != nil {
		return Signature{}, fmt.Errorf("encode key: %w", err)
	}
	out := Signature{Signer: s.Name, Key: spki}
	algorithm, digest, opts, err := input(s.Key.Public(), text)
	if err != nil {
		return Signature{}, err
	}
	out.Algorithm = algorithm
	if out.Value, err = s.Key.Sign(rand.Reader, digest, opts); err != nil {
		return Signature{}, err
	}
	return out, out.verify(text)
}

// input returns the algorithm for a kind of key and what it signs of the text.
func input(pub crypto.PublicKey, text []byte) (string, []byte, crypto.SignerOpts, error) {
	name := ""
	switch pub.(type) {
	case ed25519.PublicKey:
		return "ed25519", text, crypto.Hash(0), nil
	case *ecdsa.PublicKey:
		name = "ecdsa-sha384"
	case *rsa.PublicKey:
		name = "rsa-sha384"
	default:
		return "", nil, nil, fmt.Errorf("a key of type %T", pub)
	}
	h := crypto.SHA384.New()
	h.Write(text) //nolint:errcheck // a hash never fails
	return name, h.Sum(nil), crypto.SHA384, nil
}

// verify checks one signature of a message.
func (s Signature) verify(text []byte) error {
	pub, err := x509.ParsePKIXPublicKey(s.Key)
	if err != nil {
		return fmt.Errorf("its key cannot be read: %w", err)
	}
	if err := pki.Usable(pub); err != nil {
		return err
	}
	name, digest, _, err := input(pub, text)
	if err != nil {
		return err
	}
	if name != s.Algorithm {
		return fmt.Errorf("algorithm %s for a key of %s", s.Algorithm, name)
	}
	ok := false
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, digest, s.Value)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, digest, s.Value)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(pub, crypto.SHA384, digest, s.Value) == nil
	}
	if !ok {
		return errors.New("it does not fit the records before it")
	}
	return nil
}
