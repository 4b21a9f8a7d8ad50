package admin

import (
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
)

// The issuer need not be said where there is one, or one pool.
func TestOnlyIssuer(t *testing.T) {
	t.Parallel()
	one := []*issuer.Issuer{nil}
	for name, tt := range map[string]struct {
		issuers map[string][]*issuer.Issuer
		members map[string][]string
		want    string
		kind    fault.Kind
	}{
		"none":              {nil, nil, "", fault.Unavailable},
		"one that waits":    {map[string][]*issuer.Issuer{"a": nil}, nil, "", fault.Unavailable},
		"one":               {map[string][]*issuer.Issuer{"a": one, "b": nil}, nil, "a", 0},
		"one pool":          {map[string][]*issuer.Issuer{"a": one, "b": one, "p": {nil, nil}}, map[string][]string{"p": {"a", "b"}}, "p", 0},
		"a pool and one":    {map[string][]*issuer.Issuer{"a": one, "b": one, "p": one}, map[string][]string{"p": {"a"}}, "", fault.Malformed},
		"two without pools": {map[string][]*issuer.Issuer{"a": one, "b": one}, nil, "", fault.Malformed},
	} {
		got, err := onlyIssuer(&issuance.Rules{Issuers: tt.issuers, Members: tt.members})
		if got != tt.want || (tt.want == "") != fault.Is(err, tt.kind) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
