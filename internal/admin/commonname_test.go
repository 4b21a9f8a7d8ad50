package admin

import (
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// TestCommonNameIsAName: a common name outside of a scope is no way round it.
func TestCommonNameIsAName(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"": "", "CN=x.one.test": "", "O=Example": "", "CN=Bank.test,O=Example": "bank.test", "no subject": "no subject",
	} {
		names := commonNamed(&profile.Template{
			Subject: subject, Names: []pki.Identifier{{Type: pki.DNS, Value: "x.one.test"}},
		})
		if got := names[len(names)-1].Value; want == "" && len(names) != 1 || want != "" && got != want {
			t.Errorf("%q: %v", subject, names)
		}
	}
}
