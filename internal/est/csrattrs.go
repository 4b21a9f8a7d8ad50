package est

import (
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/http"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

var (
	oidExtensionReq      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidChallenge         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidRequestTemplate   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 61} // RFC 9908, section 3.4
	oidExtensionTemplate = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 62}
	oidEKU               = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidECKey             = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidRSAKey            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEd25519           = asn1.ObjectIdentifier{1, 3, 101, 112}
	curves               = map[string]asn1.ObjectIdentifier{
		"ec-p256": {1, 2, 840, 10045, 3, 1, 7}, "ec-p384": {1, 3, 132, 0, 34}, "ec-p521": {1, 3, 132, 0, 35},
	}
)

// csrattrs tells a client what the endpoint's profile expects of a request (RFC
// 9908): the list that clients of RFC 7030 read, and the template, which can say
// more. Anybody may ask.
func (s *Server) csrattrs(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	p := s.Pipeline.Rules().Profiles[ep.DefaultProfile]
	if p == nil {
		return fault.New(fault.Unavailable, "the profile of this endpoint is not installed").Because("no_profile")
	}
	der, err := attributesFor(p.Outline(), ep.Challenge == ChallengeRequired)
	if err != nil {
		return fmt.Errorf("encode csrattrs: %w", err)
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Vary", "User-Agent") // see wraps
	ep.reply(w, r, typeAttributes, der)
	return nil
}

// attributesFor is CsrAttrs: a sequence of attributes and bare types. There is at
// most one extension request in it, with all extensions (rule E16).
func attributesFor(o profile.Outline, binding bool) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if binding {
			b.AddASN1ObjectIdentifier(oidChallenge)
		}
		if algorithm, parameter := keyType(o.Key); algorithm != nil {
			addAttribute(b, algorithm, parameter)
		}
		if len(o.EKUs) > 0 {
			addAttribute(b, oidExtensionReq, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addEKU(b, o) })
			})
		}
		addAttribute(b, oidRequestTemplate, func(b *cryptobyte.Builder) { addTemplate(b, o, binding) })
	})
	return b.Bytes()
}

// addAttribute writes an Attribute; its values are what the callback writes.
func addAttribute(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, values func(*cryptobyte.Builder)) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			if values != nil {
				values(b)
			}
		})
	})
}

// addEKU writes the extension that says what the certificate will be good for.
func addEKU(b *cryptobyte.Builder, o profile.Outline) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidEKU)
		b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, eku := range o.EKUs {
					b.AddASN1ObjectIdentifier(eku)
				}
			})
		})
	})
}

// keyType is the algorithm of the only kind of key that is accepted, and the
// value of its attribute: the curve, or the least size of an RSA modulus.
func keyType(key string) (algorithm asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
	if curve, ok := curves[key]; ok {
		return oidECKey, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(curve) }
	}
	if digits, ok := strings.CutPrefix(key, "rsa-"); ok {
		var bits int64
		if _, err := fmt.Sscan(digits, &bits); err != nil {
			return nil, nil
		}
		return oidRSAKey, func(b *cryptobyte.Builder) { b.AddASN1Int64(bits) }
	}
	if key == "ed25519" {
		return oidEd25519, nil
	}
	return nil, nil
}

// addTemplate writes a CertificationRequestInfoTemplate (RFC 9908, section 3.4):
// version, subject with values or without, the kind of key, and attributes.
func addTemplate(b *cryptobyte.Builder, o profile.Outline, binding bool) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		if len(o.Subject) > 0 {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, f := range o.Subject {
					b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { addSubjectTemplate(b, f) })
				}
			})
		}
		addKeyTemplate(b, o.Key)
		b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			if binding { // the type alone: DER sorts it before the longer one below
				addAttribute(b, oidChallenge, nil)
			}
			if len(o.EKUs) == 0 && !o.SANRequired {
				return
			}
			addAttribute(b, oidExtensionTemplate, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					if o.SANRequired { // which names, the client knows
						b.AddASN1(cbasn1.SEQUENCE,
							func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(pki.OIDSubjectAltName) })
					}
					if len(o.EKUs) > 0 {
						addEKU(b, o)
					}
				})
			})
		})
	})
}

// addSubjectTemplate writes a type, with the value that every certificate gets,
// or without one for the client to fill in.
func addSubjectTemplate(b *cryptobyte.Builder, f profile.OutlineField) {
	if f.Value == "" {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(f.OID) })
		return
	}
	name, err := pki.SingleName(pki.Attribute{OID: f.OID, Value: f.Value}).DER()
	sequence := cryptobyte.String(name)
	var rdns, set cryptobyte.String
	if err != nil || !sequence.ReadASN1(&rdns, cbasn1.SEQUENCE) || !rdns.ReadASN1(&set, cbasn1.SET) {
		b.SetError(fmt.Errorf("subject template: value of %s: %w", f.OID, err))
		return
	}
	b.AddBytes(set)
}

// addKeyTemplate writes SubjectPublicKeyInfoTemplate under its implicit tag: the
// algorithm; of RSA, whose parameters say no size, with a placeholder of a key
// that has it (RFC 9908, section 3.4).
func addKeyTemplate(b *cryptobyte.Builder, key string) {
	algorithm, value := keyType(key)
	if algorithm == nil {
		return
	}
	b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(algorithm)
			switch {
			case algorithm.Equal(oidRSAKey):
				b.AddASN1NULL()
			case value != nil:
				value(b)
			}
		})
		if algorithm.Equal(oidRSAKey) {
			b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
				b.AddUint8(0) // no unused bits
				addPlaceholder(b, key)
			})
		}
	})
}

// addPlaceholder writes an RSA public key of the right size that is nobody's.
func addPlaceholder(b *cryptobyte.Builder, key string) {
	var bits uint
	if _, err := fmt.Sscanf(key, "rsa-%d", &bits); err != nil || bits == 0 {
		b.SetError(fmt.Errorf("key template: %q", key))
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).Lsh(big.NewInt(1), bits-1))
		b.AddASN1Int64(65537)
	})
}
