package admin_test

import (
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
)

// Names that an operator types are canonical in the certificate, or refused; a
// typed name never goes around the profile.
func TestOperatorsNamesAreChecked(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	for _, n := range []struct {
		typ, value, want string // want empty: refused
	}{
		{"dns", "WWW.A.test", "www.a.test"},
		{"dns", "www.a.test", "www.a.test"},
		{"dns", "a..test", ""},
		{"dns", "10.0.0.1", ""},
		{"ip", "2001:DB8:0:0::1", "2001:db8::1"},
		{"ip", "10.0.0.999", ""},
		{"email", "ann@a.test", ""}, // not a name of this profile
		{"fax", "+46 8 123", ""},
		{"dns", "", ""},
	} {
		v, err := c.Preview(t.Context(), api.IssueRequest{
			Profile: "tls-server", CSR: admintest.CSR(t, "asked.test"), Names: []api.Identifier{{Type: n.typ, Value: n.value}},
		})
		switch {
		case err != nil:
			t.Errorf("%s %q: %v", n.typ, n.value, err)
		case n.want == "" && v.Verdict != api.DecisionRefuse:
			t.Errorf("%s %q: %s as %v", n.typ, n.value, v.Verdict, v.Template.Names)
		case n.want != "" && (v.Verdict != api.DecisionIssue || v.Template.Names[0].Value != n.want):
			t.Errorf("%s %q: %s %s %v", n.typ, n.value, v.Verdict, v.Detail, v.Template.Names)
		}
	}
}
