package hierarchy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
)

// Trees of one to five CAs, with the path lengths that count down, verify with
// openssl at every level, and the sixth is refused (G2-01, G2-34, G2-38).
func TestG2_01_OneToFiveLevels(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	down := []int{-1, 3, 2, 1, 0}
	for depth := 1; depth <= len(down); depth++ {
		chain := limits(t, down[:depth]...)
		end := leaf()
		end.Names = []pki.Identifier{{Type: pki.DNS, Value: "a.example.com"}}
		if err := Check(chain, end); err != nil {
			t.Errorf("a leaf at depth %d: %v", depth, err)
		}
		if verdict := openssl(t, chain, certificateOf(t, end, chain[0])); verdict != "" {
			t.Errorf("a leaf at depth %d: openssl says %s", depth, verdict)
		}
		if depth < len(down) {
			if err := Check(chain, sub(down[depth])); err != nil {
				t.Errorf("CA %d: %v", depth+1, err)
			}
		}
		if got := reason(Check(chain, sub(down[depth-1]))); depth > 1 && got == "" {
			t.Errorf("CA %d with the path length of the one above was allowed", depth+1)
		}
	}
	if got := reason(Check(limits(t, -1, -1, -1, -1, -1), sub(0))); got != "max_depth" {
		t.Errorf("the sixth CA: %q", got)
	}
}

// A CA at level 2 to 5, or a leaf below them, that outlives any one CA above it
// is refused, whichever level that is; openssl would let it pass (G1-16, G1-40).
func TestG1_40_ValidityAtEveryLevel(t *testing.T) {
	t.Parallel()
	for depth := 1; depth <= MaxDepth; depth++ {
		for short := range depth {
			down := make([]ca, depth)
			for i := range down {
				down[i].limit = -1
			}
			down[short].change = func(c *x509.Certificate) { c.NotAfter = now.AddDate(1, 0, 0) }
			chain := build(t, down...)
			for days, want := range map[int]string{-1: "", 0: "", 1: "validity_nesting"} {
				end := leaf(func(c *Child) { c.NotAfter = now.AddDate(1, 0, days) })
				if got := reason(Check(chain, end)); got != want {
					t.Errorf("a leaf %+d days to the end of CA %d of %d: %q, want %q", days, short+1, depth, got, want)
				}
				under := sub(-1)
				under.NotAfter = end.NotAfter
				if days == 0 {
					want = "validity_nesting" // strictly inside
				}
				if got := reason(Check(chain, under)); depth < MaxDepth && got != want {
					t.Errorf("a CA %+d days to the end of CA %d of %d: %q, want %q", days, short+1, depth, got, want)
				}
			}
		}
	}
}

// Constraints of each form, permitted and excluded, at each of five levels: what
// is refused here is refused by openssl, and the other way round (X9).
func TestX9_EveryFormAtEveryLevel(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	forms := []struct{ tree, in, out string }{
		{"dns=example.com", "dns=a.example.com", "dns=a.example.org"},
		{"ip=10.0.0.0/8", "ip=10.1.2.3", "ip=192.0.2.1"},
		{"email=example.com", "email=ann@example.com", "email=ann@example.org"},
		{"uri=.example.com", "uri=https://a.example.com/x", "uri=https://a.example.org/x"},
		{"dirname=O=Example", "dirname=CN=a,O=Example", "dirname=CN=a,O=Other"},
	}
	for level := range MaxDepth {
		for _, f := range forms {
			for _, excluded := range []bool{false, true} {
				nc := pki.NameConstraints{Permitted: trees(f.tree)}
				if excluded {
					nc = pki.NameConstraints{Excluded: trees(f.tree)}
				}
				value, err := nc.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				down := make([]ca, MaxDepth)
				for i := range down {
					down[i].limit = -1
					down[i].change = func(c *x509.Certificate) {
						c.Subject = pkix.Name{Organization: []string{"Example"}, CommonName: fmt.Sprintf("CA %d", i)}
						if excluded {
							c.Subject.Organization = []string{"Third"}
						}
						if i == level {
							c.ExtraExtensions = []pkix.Extension{{Id: oidNameConstraints, Critical: true, Value: value}}
						}
					}
				}
				chain := build(t, down...)
				for _, name := range []string{f.in, f.out} {
					end := named("", name)
					ours := reason(Check(chain, end))
					theirs := openssl(t, chain, certificateOf(t, end, chain[0]))
					if (ours == "") != (theirs == "") || (ours == "") != ((name == f.in) != excluded) {
						t.Errorf("%s at level %d (excluded %v), %s: %q here, %q there", f.tree, level+1, excluded, name, ours, strings.TrimSpace(theirs))
					}
				}
			}
		}
	}
}
