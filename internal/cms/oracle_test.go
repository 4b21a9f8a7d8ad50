package cms

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"
)

// malformations are ways in which an envelope of a known plaintext can be
// broken. Each returns a new envelope every time.
func malformations(key []byte) map[string]func() []byte {
	ra := raRSA().cert.PublicKey.(*rsa.PublicKey)
	random := func(n int) []byte {
		b := make([]byte, n)
		rand.Read(b)
		return b
	}
	good := cbcContent(key, plaintext)
	wrapped := wrapV15(key)
	broken := append(slices.Clone(plaintext), 1, 2, 0)
	oaep := algorithmElement(oidOAEP, []byte{0x30, 0})
	gcm, mac := gcmParts(key, plaintext, nil, 16)
	mac[5] ^= 1
	return map[string]func() []byte{
		"padding of the key": func() []byte {
			block := append([]byte{0, 3}, random(254)...)
			c := new(big.Int).Exp(new(big.Int).SetBytes(block), big.NewInt(int64(ra.E)), ra.N)
			return envelope{wrapped: c.FillBytes(make([]byte, 256)), content: good}.der()
		},
		"length of the key":      func() []byte { return envelope{wrapped: wrapV15(random(24)), content: good}.der() },
		"another key":            func() []byte { return envelope{wrapped: wrapV15(random(16)), content: good}.der() },
		"a key over the modulus": func() []byte { return envelope{wrapped: bytes.Repeat([]byte{0xff}, 256), content: good}.der() },
		"padding of the content": func() []byte {
			return envelope{wrapped: wrapped, content: rawContent(key, append(slices.Clone(broken), make([]byte, 32-len(broken))...))}.der()
		},
		"length of the content": func() []byte { return envelope{wrapped: wrapped, content: element(tag0, good[2:len(good)-1])}.der() },
		"OAEP": func() []byte {
			return envelope{transport: oaep, wrapped: append([]byte{0}, random(255)...), content: good}.der()
		},
		"tag": func() []byte {
			return envelope{outer: OIDAuthEnvelopedData, wrapped: wrapped, cipher: gcmParams(12, 16), content: gcm, trailer: [][]byte{mac}}.der()
		},
	}
}

// S25: whatever is wrong with an envelope, the answer is the same value. How
// long it takes is printed as Welch's t of each pair, and never asserted: the
// machine is shared. Rounds are interleaved. A key over the modulus is left out
// of that: everybody can see what is wrong with it, and it is refused without
// the private operation.
func TestSCEP_S25_OneFailure(t *testing.T) {
	ra := raRSA()
	key := bytes.Repeat([]byte{9}, 16)
	kinds := malformations(key)
	names := slices.Sorted(maps.Keys(kinds))
	rounds := 125 // of 8 kinds
	if testing.Short() {
		rounds = 5
	}
	times := map[string][]float64{}
	lucky := 0
	for range rounds {
		for _, name := range names {
			der := kinds[name]()
			e := mustParseEnveloped(t, der)
			start := time.Now()
			got, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{})
			times[name] = append(times[name], float64(time.Since(start)))
			if garbage(got, err) {
				lucky++
				continue
			}
			if err != ErrDecrypt || got != nil { //nolint:errorlint // the very value
				t.Fatalf("%s: %q, %v", name, got, err)
			}
		}
	}
	t.Logf("%d of %d wrong keys gave a good padding; about one in 256 does", lucky, rounds*5)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "a key over the modulus" })
	for i, a := range names {
		for _, b := range names[:i] {
			t.Logf("%-24s %-24s t = %6.2f", b, a, welch(times[b], times[a]))
		}
	}
}

// welch returns Welch's t of two samples, without the slowest tenth of each.
func welch(a, b []float64) float64 {
	mean := func(s []float64) (m, v, n float64) {
		s = slices.Sorted(slices.Values(s))
		s = s[:max(len(s)*9/10, 2)]
		n = float64(len(s))
		for _, x := range s {
			m += x / n
		}
		for _, x := range s {
			v += (x - m) * (x - m) / (n - 1)
		}
		return m, v, n
	}
	ma, va, na := mean(a)
	mb, vb, nb := mean(b)
	return (ma - mb) / math.Sqrt(va/na+vb/nb)
}

func TestPadding(t *testing.T) {
	t.Parallel()
	for size := 8; size <= 16; size += 8 {
		for last := range 256 {
			for wrong := range size + 1 { // octets from the end; 0 is none
				block := bytes.Repeat([]byte{byte(last)}, size)
				if wrong > 1 {
					block[size-wrong] ^= 0x40
				}
				n, ok := padding(block)
				want := last >= 1 && last <= size && (wrong <= 1 || wrong > last)
				if (ok == 1) != want || want && n != last {
					t.Fatalf("%x: %d, %d", block, n, ok)
				}
			}
		}
	}
}
