package issuer

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Extension OIDs (RFC 5280, section 4.2; RFC 6960, section 4.2.2.2.1; RFC 9608).
var (
	oidSubjectKeyID   = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasic          = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidCRLNumber      = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint   = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCRLPoints      = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies       = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidFreshestCRL    = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidNoRevAvail     = asn1.ObjectIdentifier{2, 5, 29, 56}
	oidInfoAccess     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidTLSFeature     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	oidOCSPNoCheck    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

	oidNextPublish = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 4} // Microsoft's

	oidMethodOCSP      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidMethodCAIssuers = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

// list collects extensions and keeps the first error.
type list struct {
	extensions []pkix.Extension
	err        error
}

// add appends an extension whose value fill writes.
func (l *list) add(oid asn1.ObjectIdentifier, critical bool, fill func(b *cryptobyte.Builder)) {
	var b cryptobyte.Builder
	fill(&b)
	value, err := b.Bytes()
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("extension %s: %w", oid, err)
	}
	l.extensions = append(l.extensions, pkix.Extension{Id: oid, Critical: critical, Value: value})
}

// extensions returns a certificate's extensions in the order in which they are
// encoded.
func (i *Issuer) extensions(t *profile.Template, serial pki.Serial, keyID []byte) ([]pkix.Extension, error) {
	var l list
	if t.KeyUsage != 0 {
		l.add(oidKeyUsage, true, func(b *cryptobyte.Builder) { addKeyUsage(b, t.KeyUsage) })
	}
	if len(t.ExtKeyUsage) > 0 {
		l.add(oidExtKeyUsage, false, func(b *cryptobyte.Builder) { addOIDs(b, t.ExtKeyUsage) })
	}
	if t.CA {
		l.add(oidBasic, true, func(b *cryptobyte.Builder) { addBasic(b, t.MaxPathLen) })
	}
	l.add(oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID) })
	l.add(oidAuthorityKeyID, false, func(b *cryptobyte.Builder) { addAuthorityKeyID(b, i.keyID) })
	i.addPointers(&l, t, serial)
	if len(t.Names) > 0 {
		san, err := pki.MarshalSAN(t.Names)
		if err != nil {
			return nil, fmt.Errorf("subjectAltName: %w", err)
		}
		// RFC 5280, section 4.2.1.6: critical if and only if the subject is empty.
		empty := len(t.RawSubject) == 0 || string(t.RawSubject) == string(emptyName)
		l.add(oidSubjectAltName, empty, func(b *cryptobyte.Builder) { b.AddBytes(san) })
	}
	if len(t.Policies) > 0 {
		l.add(oidPolicies, false, func(b *cryptobyte.Builder) { addPolicies(b, t.Policies) })
	}
	if t.NoRevAvail {
		if t.CA { // RFC 9608, section 2
			return nil, errors.New("noRevAvail does not belong in a CA certificate")
		}
		l.add(oidNoRevAvail, false, (*cryptobyte.Builder).AddASN1NULL)
	}
	if t.OCSPNoCheck {
		l.add(oidOCSPNoCheck, false, (*cryptobyte.Builder).AddASN1NULL)
	}
	if t.MustStaple {
		if i.locations.OCSP == "" || t.NoRevAvail || t.OCSPNoCheck {
			return nil, fault.New(fault.BadCSR, "must staple: the certificate would have no OCSP location").
				Because("must_staple")
		}
		l.add(oidTLSFeature, false, func(b *cryptobyte.Builder) { // RFC 7633, section 4.2.3: status_request
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(5) })
		})
	}
	if l.err != nil {
		return nil, l.err
	}
	return merge(l.extensions, t)
}

// merge appends the template's own extensions. They may add, and a CA certificate
// may bring the key identifier that its key already has elsewhere (rule X6), but
// none may replace what the issuer decides.
func merge(made []pkix.Extension, t *profile.Template) ([]pkix.Extension, error) {
	for _, extra := range t.Extra {
		found := -1
		for j := range made {
			if made[j].Id.Equal(extra.Id) {
				found = j
			}
		}
		switch {
		case found < 0:
			made = append(made, extra)
		case t.CA && extra.Id.Equal(oidSubjectKeyID):
			made[found].Value = extra.Value
		default:
			return nil, fmt.Errorf("extension %s is there already", extra.Id)
		}
	}
	return made, nil
}

// addPointers adds where revocation and the issuer's certificate are found (rule
// X10). A certificate that says noRevAvail or ocsp-nocheck has nothing to be
// looked up; a self-signed one has no issuer to fetch.
func (i *Issuer) addPointers(l *list, t *profile.Template, serial pki.Serial) {
	loc := i.locations
	loc.CRL = loc.List(loc.Shard(serial))
	if t.NoRevAvail || t.OCSPNoCheck {
		loc.CRL, loc.OCSP = "", ""
	}
	if loc.OCSP != "" || loc.CAIssuers != "" {
		l.add(oidInfoAccess, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addAccess(b, oidMethodOCSP, loc.OCSP)
				addAccess(b, oidMethodCAIssuers, loc.CAIssuers)
			})
		})
	}
	if loc.CRL != "" {
		l.add(oidCRLPoints, false, func(b *cryptobyte.Builder) { addPoints(b, loc.CRL) })
	}
}

// addPoints writes CRLDistributionPoints with one point (RFC 5280, section
// 4.2.1.13).
func addPoints(b *cryptobyte.Builder, uri string) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addPointName(b, uri) })
	})
}

// addPointName writes a DistributionPointName with one URI as its fullName (RFC
// 5280, section 4.2.1.13).
func addPointName(b *cryptobyte.Builder, uri string) {
	zero := cbasn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(zero, func(b *cryptobyte.Builder) {
		b.AddASN1(zero, func(b *cryptobyte.Builder) { addURI(b, uri) })
	})
}

// addURI writes a GeneralName of the form uniformResourceIdentifier.
func addURI(b *cryptobyte.Builder, uri string) {
	b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(uri)) })
}

func addAccess(b *cryptobyte.Builder, method asn1.ObjectIdentifier, uri string) {
	if uri == "" {
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(method)
		addURI(b, uri)
	})
}

// addKeyUsage writes the named bits without trailing zeros, as DER wants. Bit n
// of x509.KeyUsage is bit n of the ASN.1 string.
func addKeyUsage(b *cryptobyte.Builder, usage x509.KeyUsage) {
	length := bits.Len(uint(usage))
	octets := make([]byte, (length+7)/8)
	for n := range length {
		if usage>>n&1 == 1 {
			octets[n/8] |= 0x80 >> (n % 8)
		}
	}
	b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
		b.AddUint8(uint8(len(octets)*8 - length))
		b.AddBytes(octets)
	})
}

func addBasic(b *cryptobyte.Builder, maxPathLen int) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Boolean(true)
		if maxPathLen >= 0 {
			b.AddASN1Int64(int64(maxPathLen))
		}
	})
}

func addAuthorityKeyID(b *cryptobyte.Builder, keyID []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(keyID) })
	})
}

func addOIDs(b *cryptobyte.Builder, oids []asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, oid := range oids {
			b.AddASN1ObjectIdentifier(oid)
		}
	})
}

func addPolicies(b *cryptobyte.Builder, oids []asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, oid := range oids {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
		}
	})
}

// addExtensions writes an Extensions value.
func addExtensions(b *cryptobyte.Builder, extensions []pkix.Extension) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, e := range extensions {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(e.Id)
				if e.Critical { // DEFAULT FALSE is left out
					b.AddASN1Boolean(true)
				}
				b.AddASN1OctetString(e.Value)
			})
		}
	})
}
