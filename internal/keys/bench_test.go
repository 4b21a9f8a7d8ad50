package keys

import (
	"crypto"
	"crypto/rand"
	"path/filepath"
	"testing"
)

// What the queue and the deadline cost beside the bare key.
func BenchmarkSign(b *testing.B) {
	ref := Ref("file:" + filepath.Join(b.TempDir(), "k.pem"))
	k, err := Generate(ref, "ec-p256", pass("s"))
	if err != nil {
		b.Fatal(err)
	}
	bare := k.backend.(fileKey).signer
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if _, err := bare.Sign(rand.Reader, digest("m"), crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("key", func(b *testing.B) {
		for b.Loop() {
			if _, err := k.SignContext(b.Context(), digest("m"), crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := Open(b.Context(), ref, pass("s"), Config{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
