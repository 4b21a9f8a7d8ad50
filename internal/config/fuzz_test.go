package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/privyseal/privyseal/internal/strictyaml"
)

// FuzzLoad completes whatever can be decoded.
func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "dev.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("issuers: [{ocsp: {}, crl: {}}]\noffline: [{ocsp: {}}]\nendpoints: [{protocol: est}]\nwebhooks: [{}]\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		c := File{Dir: "/nonexistent"}
		if strictyaml.Decode("f.yaml", text, &c.Config).Err() == nil {
			c.complete()
		}
	})
}
