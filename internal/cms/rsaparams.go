package cms

import (
	"crypto"
	"crypto/rsa"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// readOAEP reads RSAES-OAEP-params (RFC 8017, appendix A.2.1). Hash and mask
// hash are independent: Java writes SHA-256 with a mask of SHA-1 where OpenSSL
// writes SHA-256 twice (rule S26). Left-out fields are SHA-1 and no label.
func readOAEP(s cryptobyte.String) (*rsa.OAEPOptions, bool) {
	o := &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1}
	if s.Empty() {
		return o, true
	}
	var params cryptobyte.String
	if !s.ReadASN1(&params, cbasn1.SEQUENCE) || !s.Empty() ||
		!readHashField(&params, tag0, &o.Hash) || !readMaskField(&params, tag1, &o.MGFHash) {
		return nil, false
	}
	var field cryptobyte.String
	var present bool
	if !params.ReadOptionalASN1(&field, &present, tag2.Constructed()) || !params.Empty() {
		return nil, false
	}
	if present {
		source, ok := readAlgorithm(&field)
		if !ok || !field.Empty() || !source.oid.Equal(oidPSpecified) ||
			!source.parameters.ReadASN1Bytes(&o.Label, cbasn1.OCTET_STRING) || !source.parameters.Empty() {
			return nil, false
		}
	}
	return o, true
}

// addOAEP writes the AlgorithmIdentifier of OAEP, defaults left out.
func addOAEP(b *cryptobyte.Builder, hash, mask crypto.Hash) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidOAEP)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addHashFields(b, hash, mask) })
	})
}

// readPSS reads RSASSA-PSS-params (RFC 8017, appendix A.2.3).
func readPSS(s cryptobyte.String) (hash, mask crypto.Hash, salt int, ok bool) {
	hash, mask, salt = crypto.SHA1, crypto.SHA1, 20
	trailer := 1
	var params cryptobyte.String
	ok = s.ReadASN1(&params, cbasn1.SEQUENCE) && s.Empty() &&
		readHashField(&params, tag0, &hash) && readMaskField(&params, tag1, &mask) &&
		params.ReadOptionalASN1Integer(&salt, tag2.Constructed(), 20) &&
		params.ReadOptionalASN1Integer(&trailer, tag3.Constructed(), 1) &&
		params.Empty() && salt >= 0 && salt <= 1024 && trailer == 1
	return hash, mask, salt, ok
}

// addPSS writes the AlgorithmIdentifier of PSS with one hash for all and a salt
// as long as the hash.
func addPSS(b *cryptobyte.Builder, hash crypto.Hash) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPSS)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addHashFields(b, hash, hash)
			if hash.Size() != 20 {
				b.AddASN1(tag2.Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(hash.Size())) })
			}
		})
	})
}

// readHashField reads an optional hash under an explicit tag.
func readHashField(s *cryptobyte.String, tag cbasn1.Tag, hash *crypto.Hash) bool {
	var field cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&field, &present, tag.Constructed()) {
		return false
	}
	if !present {
		return true
	}
	a, ok := readAlgorithm(&field)
	*hash = a.hash()
	return ok && field.Empty() && *hash != 0
}

// readMaskField reads an optional mask generation function, which is MGF1.
func readMaskField(s *cryptobyte.String, tag cbasn1.Tag, hash *crypto.Hash) bool {
	var field cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&field, &present, tag.Constructed()) {
		return false
	}
	if !present {
		return true
	}
	mgf, ok := readAlgorithm(&field)
	if !ok || !field.Empty() || !mgf.oid.Equal(oidMGF1) {
		return false
	}
	a, ok := readAlgorithm(&mgf.parameters)
	*hash = a.hash()
	return ok && mgf.parameters.Empty() && *hash != 0
}

func addHashFields(b *cryptobyte.Builder, hash, mask crypto.Hash) {
	if hash != crypto.SHA1 {
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { addAlgorithmNULL(b, hashOID(hash)) })
	}
	if mask != crypto.SHA1 {
		b.AddASN1(tag1.Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidMGF1)
				addAlgorithmNULL(b, hashOID(mask))
			})
		})
	}
}
