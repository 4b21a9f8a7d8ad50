package access

import "testing"

// FuzzSecret: only what newSecret could have made has a digest.
func FuzzSecret(f *testing.F) {
	good, _ := newSecret(tokenPrefix)
	for _, seed := range []string{good, good[1:], "", sessionPrefix, "pvs_t_00000000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		digest, ok := digestOf(text)
		if ok != (digest != nil) {
			t.Fatal("a digest of what is no secret")
		}
		if ok && text[len(text)-8:] != checkDigits(text[:len(text)-8]) {
			t.Errorf("%q has wrong check digits", text)
		}
	})
}
