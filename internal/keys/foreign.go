package keys

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/internal/pki"
)

// DecryptForeign reads a private key that another program has written, so that it
// can be taken over: what Decrypt reads, PKCS#1, SEC 1 and PKCS#8 without
// encryption, and those under OpenSSL's former encryption of PEM ("Proc-Type:
// 4,ENCRYPTED"). It says whether the key was encrypted; secret is asked for only
// then. Nothing here reads such files for use: Encrypt writes the key anew.
func DecryptForeign(text []byte, secret Secret) (key crypto.Signer, encrypted bool, err error) {
	block, rest := pem.Decode(pki.Plain(text))
	for block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, false, errors.New("no private key in PEM found: convert DER with openssl pkey -inform DER " +
			"-in FILE -out key.pem, PKCS#12 with openssl pkcs12 -in FILE -nocerts -out key.pem")
	}
	if block.Type == pemEncrypted {
		key, err = Decrypt(pem.EncodeToMemory(block), secret)
		return key, true, err
	}
	der := block.Bytes
	// Weak, and for that reason never written here; but such keys exist and are to be taken over.
	//nolint:staticcheck // SA1019
	if encrypted = x509.IsEncryptedPEMBlock(block); encrypted {
		if der, err = decryptPEM(block, secret); err != nil {
			return nil, true, err
		}
	}
	if key, err = parseKey(block.Type, der); err != nil && encrypted {
		err = fmt.Errorf("%w (%w)", ErrWrongPassphrase, err)
	}
	return key, encrypted, err
}

func decryptPEM(block *pem.Block, secret Secret) ([]byte, error) {
	pass, err := passphrase(secret)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	der, err := x509.DecryptPEMBlock(block, pass) //nolint:staticcheck // SA1019: see DecryptForeign
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrWrongPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt PEM: %w; convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc", err)
	}
	return der, nil
}

func parseKey(kind string, der []byte) (crypto.Signer, error) {
	var key any
	var err error
	switch kind {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(der)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(der)
	default:
		return nil, fmt.Errorf("PEM block %q is no private key that is known here", kind)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T cannot sign", key)
	}
	return signer, nil
}
