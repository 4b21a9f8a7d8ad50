package quorum

// The field is GF(2^8) as AES has it (FIPS 197, section 4): polynomials modulo
// x^8+x^4+x^3+x+1. Addition is exclusive or. Neither function looks anything up
// in a table or branches on a value, so neither tells a secret by its timing.

// mul returns the product of two elements.
func mul(a, b byte) byte {
	var product byte
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return product
}

// inverse returns 1/a, and 0 of 0: a^254, since a^255 is 1 for all others.
func inverse(a byte) byte {
	power, product := a, byte(1)
	for range 7 { // 254 = 2 + 4 + … + 128
		power = mul(power, power)
		product = mul(product, power)
	}
	return product
}

// evaluate returns the polynomial of the given coefficients, the constant one
// first, at x.
func evaluate(coefficients []byte, x byte) byte {
	var y byte
	for i := len(coefficients) - 1; i >= 0; i-- {
		y = mul(y, x) ^ coefficients[i]
	}
	return y
}

// weights returns by what the values at the given places must be multiplied so
// that their sum is the polynomial's value at 0 (Lagrange). The places differ
// and none is 0; they are not secret.
func weights(places []byte) []byte {
	w := make([]byte, len(places))
	for i, x := range places {
		w[i] = 1
		for j, other := range places {
			if j != i {
				w[i] = mul(w[i], mul(other, inverse(other^x)))
			}
		}
	}
	return w
}
