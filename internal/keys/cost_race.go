//go:build race

package keys

// scryptN is low in programs with the race detector, which are for tests: it
// slows the derivation tenfold and has nothing to find in it.
const scryptN = 1 << 8
