package quorum

import (
	"fmt"
	"slices"
	"strings"
)

// A word stands for one octet and has two syllables of a consonant and a vowel.
// The consonants are the octet: the first its upper four bits, the second its
// lower four. The vowels are the check. With the upper four bits as two pairs a,
// b and the lower four as c, d, the first vowel is number b⊕c and the second
// number a⊕d⊕3. So two words differ in two letters at least, and a word with its
// syllables exchanged is no word: a slip of one letter never makes another word.
const (
	consonants = "bdfghjklmnprstvz"
	vowels     = "ioua"
)

// word returns the word of an octet.
func word(b byte) string {
	hi, lo := b>>4, b&15
	return string([]byte{
		consonants[hi], vowels[hi&3^lo>>2],
		consonants[lo], vowels[hi>>2^lo&3^3],
	})
}

// number returns the octet of a word.
func number(w string) (byte, bool) {
	if len(w) != 4 {
		return 0, false
	}
	hi, lo := strings.IndexByte(consonants, w[0]), strings.IndexByte(consonants, w[2])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	b := byte(hi<<4 | lo)
	return b, word(b) == w
}

// like returns up to three words that are one slip away from what was typed.
func like(typed string) []string {
	var near []string
	for b := range 256 {
		if w := word(byte(b)); distance(w, typed) <= 1 {
			near = append(near, w)
		}
	}
	return near[:min(len(near), 3)]
}

// distance is 0 or 1 if one letter was changed, dropped or added, or two
// neighbours were exchanged, and 2 for everything else.
func distance(w, typed string) int {
	if w == typed {
		return 0
	}
	for i := range len(w) + 1 {
		same := func(from, other int) bool {
			return len(typed) >= other && i <= len(typed) && from <= len(w) && w[:i] == typed[:i] &&
				w[from:] == typed[other:]
		}
		if same(i+1, i+1) || same(i+1, i) || same(i, i+1) {
			return 1
		}
		if i+2 <= len(w) && same(i+2, i+2) && w[i] == typed[i+1] && w[i+1] == typed[i] {
			return 1
		}
	}
	return 2
}

// unknown is the error for what is no word.
func unknown(typed string) error {
	if len(typed) > 12 {
		typed = typed[:12] + "…"
	}
	near := like(typed)
	if len(near) == 0 {
		return fmt.Errorf("%q is not a word of these sheets", typed)
	}
	slices.Sort(near)
	return fmt.Errorf("%q is not a word of these sheets; is it %s?", typed, strings.Join(near, " or "))
}
