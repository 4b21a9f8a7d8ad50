//go:build !race

package keys

// scryptN is the cost of the derivation, N of RFC 7914.
const scryptN = 1 << 14
