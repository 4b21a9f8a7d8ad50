package cms

import (
	"bytes"
	"context"
	"encoding/asn1"
	"runtime"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// hostile are messages of about n octets that cost a careless reader the square
// of n, or its stack.
var hostile = map[string]func(n int) []byte{
	"deep":               func(n int) []byte { return bytes.Repeat([]byte{0x30, 0x80}, n/2) },
	"deep strings":       func(n int) []byte { return bytes.Repeat([]byte{0x24, 0x80}, n/2) },
	"deep and closed":    func(n int) []byte { return append(bytes.Repeat([]byte{0x30, 0x80}, n/4), make([]byte, n/4*2)...) },
	"many empty":         func(n int) []byte { return open(bytes.Repeat([]byte{5, 0}, n/2)) },
	"many open":          func(n int) []byte { return open(bytes.Repeat([]byte{0x30, 0x80, 0, 0}, n/4)) },
	"string of pieces":   func(n int) []byte { return openAs(0x24, bytes.Repeat([]byte{4, 1, 0}, n/3)) },
	"string of strings":  func(n int) []byte { return openAs(0x24, bytes.Repeat([]byte{0x24, 3, 4, 1, 0}, n/5)) },
	"implicit pieces":    func(n int) []byte { return hostileEnvelope(openAs(0xa0, bytes.Repeat([]byte{4, 1, 0}, n/3))) },
	"empty pieces":       func(n int) []byte { return hostileEnvelope(openAs(0xa0, bytes.Repeat([]byte{4, 0}, n/2))) },
	"many recipients":    func(n int) []byte { return hostileRecipients(n) },
	"many certificates":  func(n int) []byte { return forgery{certs: repeat([]byte{0x30, 0}, n/2)}.der() },
	"many attributes":    func(n int) []byte { return forgery{attributes: numbered(n / 12)}.der() },
	"many signers":       func(n int) []byte { return forgery{signers: n / 500}.der() },
	"a long OID":         func(n int) []byte { return element(cbasn1.SEQUENCE, longOID(n)) },
	"a long OID and [0]": func(n int) []byte { return element(cbasn1.SEQUENCE, longOID(n), element(tag0.Constructed())) },
	"a long attribute type": func(n int) []byte {
		return forgery{attributes: [][]byte{element(cbasn1.SEQUENCE, longOID(n), element(cbasn1.SET))}}.der()
	},
	"a long number": func(n int) []byte {
		return forgery{name: element(cbasn1.SEQUENCE, deviceRSA().cert.RawIssuer, element(cbasn1.INTEGER, bytes.Repeat([]byte{0x7f}, n)))}.der()
	},
	"a long name": func(n int) []byte {
		rdn := element(cbasn1.SET, element(cbasn1.SEQUENCE, oidElement(asn1.ObjectIdentifier{2, 5, 4, 3}), []byte{0x13, 1, 'a'}))
		return forgery{name: element(cbasn1.SEQUENCE, element(cbasn1.SEQUENCE, repeat(rdn, n/len(rdn))...), []byte{2, 1, 77})}.der()
	},
	"a large certificate": func(n int) []byte { return forgery{certs: [][]byte{fat(n)}}.der() },
}

func open(body []byte) []byte { return openAs(0x30, body) }

func openAs(tag byte, body []byte) []byte {
	return append(append([]byte{tag, 0x80}, body...), 0, 0)
}

func repeat(e []byte, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = e
	}
	return all
}

func numbered(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = attributeElement(asn1.ObjectIdentifier{1, 2, i}, null)
	}
	return all
}

func longOID(n int) []byte {
	return element(cbasn1.OBJECT_IDENTIFIER, []byte{0x2a}, bytes.Repeat([]byte{1}, n))
}

func hostileEnvelope(content []byte) []byte { return envelope{content: content}.der() }

func hostileRecipients(n int) []byte {
	return envelope{recipients: repeat(element(tag1.Constructed()), n/2)}.der()
}

// fat returns a certificate with an unknown extension of n octets.
func fat(n int) []byte {
	var b cryptobyte.Builder
	b.AddASN1OctetString(make([]byte, n))
	tbs := cryptobyte.String(deviceRSA().cert.RawTBSCertificate)
	var body cryptobyte.String
	tbs.ReadASN1(&body, cbasn1.SEQUENCE)
	whole := cryptobyte.String(deviceRSA().cert.Raw)
	var outer, skip cryptobyte.String
	whole.ReadASN1(&outer, cbasn1.SEQUENCE)
	outer.ReadASN1Element(&skip, cbasn1.SEQUENCE)
	// What is in front of the extensions, then one of ours.
	front := body[:len(body)-len(element(tag3.Constructed(), extensions(body)))]
	ext := element(cbasn1.SEQUENCE, oidElement(asn1.ObjectIdentifier{1, 2, 3}), b.BytesOrPanic())
	return element(cbasn1.SEQUENCE, element(cbasn1.SEQUENCE, front, element(tag3.Constructed(), element(cbasn1.SEQUENCE, ext))), outer)
}

func extensions(body cryptobyte.String) []byte {
	var last cryptobyte.String
	var tag cbasn1.Tag
	for !body.Empty() {
		body.ReadAnyASN1(&last, &tag)
	}
	return last
}

// What reading costs grows no faster than the message: four times the octets
// are at most five times the steps, and eight times the memory, for slices grow
// in leaps (what is quadratic takes sixteen times). The caps are out of the way
// in one run, so that what they would hide is seen too.
func TestSCEP_S28_LinearTime(t *testing.T) {
	wide := Limits{Size: 1 << 20, Depth: 1 << 20, Elements: 1 << 20, Entries: 1 << 20, Signers: 1 << 20}
	for name, make := range hostile {
		if name == "many attributes" {
			continue // compared in pairs, which the cap of 32 bounds
		}
		small, large := make(16<<10), make(64<<10)
		if a, b := steps(small, wide), steps(large, wide); b > 5*a+100 {
			t.Errorf("%s: %d steps, then %d", name, a, b)
		}
		if a, b := spent(small, wide), spent(large, wide); b > 8*a+64<<10 {
			t.Errorf("%s: %d octets allocated, then %d", name, a, b)
		}
	}
	for name, make := range hostile {
		small, large := make(16<<10), make(62<<10)
		if a, b := spent(small, Limits{}), spent(large, Limits{}); b > 8*a+64<<10 || b > 8<<20 {
			t.Errorf("%s within the caps: %d octets allocated, then %d", name, a, b)
		}
	}
}

// steps counts what normalise does.
func steps(ber []byte, l Limits) int {
	r := reader{in: ber, limits: l}
	if r.read() == nil && r.changed {
		r.write()
	}
	return r.steps
}

// spent returns the octets that reading and verifying a message allocates.
func spent(ber []byte, l Limits) uint64 {
	least := ^uint64(0)
	for range 3 { // others may allocate meanwhile
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if s, err := ParseSignedData(ber, l); err == nil {
			_, _ = s.Verify(context.Background(), Policy{})
		}
		if e, err := ParseEnvelopedData(ber, l); err == nil {
			_, _ = e.Decrypt(raRSA().cert, openKey{}, Policy{})
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}
