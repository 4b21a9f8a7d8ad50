package cms

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"

	"github.com/privyseal/privyseal/internal/fault"
)

// Decrypt opens the message with the key of the certificate, which may live in
// a token. PKCS #1 v1.5 is asked for with the length of the content key, so a
// key that does not unwrap becomes a random one, and what follows takes the
// same way and ends in ErrDecrypt like every other failure: a stranger who
// sends changed copies of somebody's envelope must not learn where they failed
// (rule S25; Bleichenbacher, Vaudenay). A Decrypter has to honour
// rsa.PKCS1v15DecryptOptions.SessionKeyLen for that.
//
// With CBC, success proves nothing: a wrong key gives a well-padded plaintext
// once in 256 times. A caller that cannot read the plaintext answers ErrDecrypt
// too.
//
// Other faults depend only on what everybody can see of the message, or on
// the token: ErrNotRecipient, BadAlgorithm for what is not accepted, and
// Unavailable, passed on as it comes from the key.
func (e *EnvelopedData) Decrypt(c *x509.Certificate, key crypto.Decrypter, p Policy) ([]byte, error) {
	to := e.recipient(c)
	if to == nil {
		return nil, ErrNotRecipient
	}
	if e.Cipher == 0 || ciphers[e.Cipher].gcm != e.authentic {
		return nil, fault.New(fault.BadAlgorithm, "encrypted message: the content cipher %s is not accepted",
			e.algorithm.oid).Because("content_cipher")
	}
	if !p.allowed(e.Cipher) {
		return nil, fault.New(fault.BadAlgorithm, "encrypted message: the content cipher %v is not accepted here",
			e.Cipher).Because("content_cipher")
	}
	how, err := to.options(ciphers[e.Cipher].key)
	if err != nil {
		return nil, err
	}
	contentKey, err := unwrap(key, to.key, how, ciphers[e.Cipher].key)
	if err != nil {
		return nil, err
	}
	block, err := ciphers[e.Cipher].block(contentKey)
	if err != nil {
		return nil, ErrDecrypt
	}
	var plain []byte
	var ok bool
	if e.authentic {
		plain, ok = openGCM(block, e.iv, e.encrypted, e.mac, e.attributes, e.tag)
	} else {
		plain, ok = openCBC(block, e.iv, e.encrypted)
	}
	if !ok {
		return nil, ErrDecrypt
	}
	return plain, nil
}

// options says how a content key of n octets was encrypted.
func (r *recipient) options(n int) (crypto.DecrypterOpts, error) {
	switch {
	case r.algorithm.oid.Equal(oidRSA):
		//nolint:staticcheck // deprecated, but what SCEP clients write (S25)
		return &rsa.PKCS1v15DecryptOptions{SessionKeyLen: n}, nil
	case r.algorithm.oid.Equal(oidOAEP):
		o, ok := readOAEP(r.algorithm.parameters)
		if !ok {
			return nil, fault.New(fault.BadAlgorithm,
				"encrypted message: RSA-OAEP with these parameters is not accepted").Because("key_transport")
		}
		return o, nil
	}
	return nil, fault.New(fault.BadAlgorithm, "encrypted message: the key transport %s is not accepted",
		r.algorithm.oid).Because("key_transport")
}

// Transport returns how the content key was encrypted to a certificate, so that
// an answer can do likewise. It is the zero value if that is not known.
func (e *EnvelopedData) Transport(c *x509.Certificate) KeyTransport {
	if to := e.recipient(c); to != nil && to.algorithm.oid.Equal(oidOAEP) {
		if o, ok := readOAEP(to.algorithm.parameters); ok {
			return KeyTransport{OAEP: o.Hash, MGF: o.MGFHash}
		}
	}
	return KeyTransport{}
}

// unwrap returns the content key, or a random one if it does not decrypt to n
// octets. Its only error is that of a key that cannot be asked.
func unwrap(key crypto.Decrypter, encrypted []byte, how crypto.DecrypterOpts, n int) ([]byte, error) {
	random := make([]byte, n)
	rand.Read(random) // never fails
	got, err := key.Decrypt(rand.Reader, encrypted, how)
	if fault.Is(err, fault.Unavailable) {
		return nil, err
	}
	good := subtle.ConstantTimeEq(int32(len(got)), int32(n))
	if err != nil {
		good = 0
	}
	padded := make([]byte, n)
	copy(padded, got)
	subtle.ConstantTimeCopy(good, random, padded)
	return random, nil
}
