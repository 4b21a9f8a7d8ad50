package profile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/internal/pki"
)

// keyUsages maps RFC 5280's names to bits.
var keyUsages = []struct {
	name string
	bit  x509.KeyUsage
}{
	{"digitalSignature", x509.KeyUsageDigitalSignature},
	{"contentCommitment", x509.KeyUsageContentCommitment},
	{"nonRepudiation", x509.KeyUsageContentCommitment}, // its older name
	{"keyEncipherment", x509.KeyUsageKeyEncipherment},
	{"dataEncipherment", x509.KeyUsageDataEncipherment},
	{"keyAgreement", x509.KeyUsageKeyAgreement},
	{"keyCertSign", x509.KeyUsageCertSign},
	{"cRLSign", x509.KeyUsageCRLSign},
}

func parseKeyUsage(names []string) (usage x509.KeyUsage, err error) {
next:
	for _, n := range names {
		for _, u := range keyUsages {
			if strings.EqualFold(u.name, n) {
				usage |= u.bit
				continue next
			}
		}
		return 0, fmt.Errorf("key_usage: %q is not a name of RFC 5280 such as digitalSignature", n)
	}
	return usage, nil
}

const caUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

// usageFor leaves out what a key of this kind cannot do (rule X7; RFC 8813 and
// RFC 8410 for elliptic curves).
func usageFor(usage x509.KeyUsage, pub crypto.PublicKey) x509.KeyUsage {
	const encipher = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	switch pub.(type) {
	case *rsa.PublicKey:
		return usage &^ x509.KeyUsageKeyAgreement
	case *ecdsa.PublicKey:
		return usage &^ encipher
	default: // Ed25519 signs and does nothing else
		return usage &^ (encipher | x509.KeyUsageKeyAgreement)
	}
}

// keyRules is the compiled key list.
type keyRules struct {
	policy pki.KeyPolicy
	sizes  []sizeRange // accepted RSA moduli
}

type sizeRange struct{ min, max int }

const largestRSA = 8192

// compileKeys compiles the words of Config.Keys.
func compileKeys(words []string, floor int) (keyRules, error) {
	var k keyRules
	for _, w := range words {
		switch w {
		case "ec-p256", "ec-p384", "ec-p521":
			k.policy.Curves = append(k.policy.Curves, "P-"+w[len("ec-p"):])
			continue
		case "ed25519":
			k.policy.Ed25519 = true
			continue
		}
		digits, isRSA := strings.CutPrefix(w, "rsa-")
		digits, plus := strings.CutSuffix(digits, "+")
		bits, err := strconv.Atoi(digits)
		if !isRSA || err != nil || bits%8 != 0 || bits > largestRSA || bits < 1024 {
			return k, fmt.Errorf("keys: %q is none of ec-p256, ec-p384, ec-p521, ed25519, rsa-2048, rsa-3072, "+
				"rsa-4096, rsa-2048+ and the like", w)
		}
		if bits < floor {
			return k, fmt.Errorf("keys: %q is too short, at least %d bits are wanted here", w, floor)
		}
		r := sizeRange{bits, bits}
		if plus {
			r.max = largestRSA
		}
		k.sizes = append(k.sizes, r)
		if k.policy.RSAMin == 0 || r.min < k.policy.RSAMin {
			k.policy.RSAMin = r.min
		}
		k.policy.RSAMax = max(k.policy.RSAMax, r.max)
	}
	return k, nil
}

// takesSize reports whether an RSA modulus of that many bits is listed.
func (k keyRules) takesSize(bits int) bool {
	return slices.ContainsFunc(k.sizes, func(r sizeRange) bool { return r.min <= bits && bits <= r.max })
}
