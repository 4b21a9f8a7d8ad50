package keys

import (
	"crypto"
	"crypto/aes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"
)

// ErrWrongPassphrase is in the chain of the error when a key file does not open
// with the passphrase that was given.
var ErrWrongPassphrase = errors.New("wrong passphrase")

// Decrypt reads what Encrypt writes, and PBES2 files of other tools that use
// scrypt or PBKDF2 with AES-CBC.
func Decrypt(text []byte, secret Secret) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("no PEM block found")
	case block.Type == "PRIVATE KEY" || block.Type == "EC PRIVATE KEY" || block.Type == "RSA PRIVATE KEY":
		return nil, errors.New("the key is not encrypted as PKCS#8: convert it with openssl pkcs8 -topk8 -scrypt")
	case block.Type != pemEncrypted:
		return nil, fmt.Errorf("PEM block %q: want %s", block.Type, pemEncrypted)
	}
	if err := checkEncrypted(block.Bytes, fileLimits); err != nil {
		return nil, err
	}
	pass, err := passphrase(secret)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, pass)
	if err != nil {
		// Bad padding and a bad inner structure both mean, after the checks
		// above, that the derived key was another one.
		return nil, fmt.Errorf("%w (%w)", ErrWrongPassphrase, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T cannot sign", key)
	}
	return signer, nil
}

// The algorithms of PBES2 (RFC 8018, appendix A; scrypt: RFC 7914, section 7).
var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidScrypt     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
	oidAES        = map[string]bool{
		"2.16.840.1.101.3.4.1.2":  true, // AES-128-CBC
		"2.16.840.1.101.3.4.1.22": true, // AES-192-CBC
		"2.16.840.1.101.3.4.1.42": true, // AES-256-CBC
	}
)

// limits bound a key derivation. Beyond them a damaged file could hold the
// process for minutes or exhaust its memory.
type limits struct {
	iterations int // PBKDF2
	memory     int // scrypt, 128·N·r octets
	work       int // scrypt, 128·N·r·p
}

// fileLimits leave room for four times what any current tool writes.
var fileLimits = limits{iterations: 10_000_000, memory: 1 << 30, work: 1 << 32}

// checkEncrypted refuses every structure on which the decoder would panic, or
// spend without bound, before a passphrase is asked for.
func checkEncrypted(der []byte, most limits) error {
	var outer struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if err := unmarshal(der, &outer); err != nil {
		return fmt.Errorf("encrypted key: %w", err)
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return fmt.Errorf("encrypted key: scheme %s: want PBES2", outer.Algorithm.Algorithm)
	}
	if len(outer.Data) == 0 || len(outer.Data)%aes.BlockSize != 0 {
		return errors.New("encrypted key: the data is not whole AES blocks")
	}
	var params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	if err := unmarshal(outer.Algorithm.Parameters.FullBytes, &params); err != nil {
		return fmt.Errorf("encrypted key: PBES2: %w", err)
	}
	if !oidAES[params.Cipher.Algorithm.String()] {
		return fmt.Errorf("encrypted key: cipher %s: want AES-CBC", params.Cipher.Algorithm)
	}
	var iv []byte
	if err := unmarshal(params.Cipher.Parameters.FullBytes, &iv); err != nil || len(iv) != aes.BlockSize {
		return errors.New("encrypted key: AES-CBC wants an initialization vector of 16 octets")
	}
	return checkDerivation(params.KDF, most)
}

func checkDerivation(kdf pkix.AlgorithmIdentifier, most limits) error {
	switch {
	case kdf.Algorithm.Equal(oidPBKDF2):
		var p struct {
			Salt       []byte
			Iterations int
			PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
		}
		if err := unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return fmt.Errorf("encrypted key: PBKDF2: %w", err)
		}
		if p.Iterations < 1 || p.Iterations > most.iterations {
			return fmt.Errorf("encrypted key: PBKDF2 with %d iterations: want 1 to %d", p.Iterations, most.iterations)
		}
		if prf := p.PRF.Algorithm; len(prf) != 0 && !prf.Equal(oidHMACSHA1) && !prf.Equal(oidHMACSHA256) {
			return fmt.Errorf("encrypted key: PBKDF2 with %s: want HMAC with SHA-256", prf)
		}
	case kdf.Algorithm.Equal(oidScrypt):
		var p struct {
			Salt    []byte
			N, R, P int
		}
		if err := unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return fmt.Errorf("encrypted key: scrypt: %w", err)
		}
		if p.N < 2 || p.N&(p.N-1) != 0 || p.R < 1 || p.P < 1 ||
			p.R > most.memory/128/p.N || p.P > most.work/128/p.N/p.R {
			return fmt.Errorf("encrypted key: scrypt with N=%d r=%d p=%d is out of bounds", p.N, p.R, p.P)
		}
	default:
		return fmt.Errorf("encrypted key: derivation %s: want scrypt or PBKDF2", kdf.Algorithm)
	}
	return nil
}

// unmarshal is asn1.Unmarshal that refuses what follows the value.
func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return errors.New("octets after the end")
	}
	return nil
}
