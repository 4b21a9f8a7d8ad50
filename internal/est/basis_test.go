package est

import (
	"crypto/x509"
	"testing"
)

// TestBasisIsBounded: of the certificates that a client sends, a request that waits
// keeps those that would be tried again.
func TestBasisIsBounded(t *testing.T) {
	t.Parallel()
	c := &presented{cert: &x509.Certificate{Raw: []byte{0}}}
	for n := range 300 {
		c.more = append(c.more, &x509.Certificate{Raw: []byte{byte(n), 1}})
	}
	if kept := c.basis(false).Chain; len(kept) != 5 || kept[4][0] != 3 {
		t.Errorf("%d certificates are kept", len(kept))
	}
	if kept := (&presented{cert: c.cert}).basis(false).Chain; len(kept) != 1 {
		t.Errorf("%d of one", len(kept))
	}
}
