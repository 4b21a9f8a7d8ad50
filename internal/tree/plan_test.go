package tree

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/ceremony"
)

// What the laws of the tree would refuse at the ceremony is refused in the plan,
// by the same reasons (G2-37, G2-38, G1-40).
func TestG2_39_PlansThatBreakALaw(t *testing.T) {
	t.Parallel()
	const root = "name: x\ncas:\n  - {id: root, subject: 'CN=Root,O=E'}\n"
	ca := func(id, parent, rest string) string {
		return fmt.Sprintf("  - {id: %s, parent: %s, subject: 'CN=%s,O=E'%s}\n", id, parent, id, rest)
	}
	template := func(n int) string {
		return fmt.Sprintf(", template: SubordinateCACertificate_PathLen%d/V1, years: %d", n, 15+n)
	}
	b := newBench(t) // a plan changes nothing
	for name, c := range map[string]struct{ text, reason string }{
		"two levels":                 {root + ca("a", "root", ""), ""},
		"five levels":                {root + ca("a", "root", template(3)) + ca("b", "a", template(2)) + ca("c", "b", template(1)) + ca("d", "c", template(0)), ""},
		"six levels":                 {root + ca("a", "root", template(3)) + ca("b", "a", template(2)) + ca("c", "b", template(1)) + ca("d", "c", template(0)) + ca("e", "d", ", years: 3"), "max_depth"},
		"path length as above":       {root + ca("a", "root", template(1)) + ca("b", "a", template(1)), "path_length"},
		"below path length 0":        {root + ca("a", "root", template(0)) + ca("b", "a", ", years: 3"), "path_length"},
		"outlives the CA above":      {root + ca("a", "root", template(1)) + ca("b", "a", ", years: 17"), "validity_nesting"},
		"as long as its root":        {root + ca("a", "root", ", years: 20"), "validity_nesting"},
		"a root of 26 years":         {strings.Replace(root, "O=E'", "O=E', years: 26", 1), "validity"},
		"usages beyond those above":  {root + ca("a", "root", template(1)+", ext_key_usage: [serverAuth]") + ca("b", "a", ", ext_key_usage: [clientAuth]"), "eku_nesting"},
		"names beyond those above":   {root + ca("a", "root", template(1)+", name_constraints: {permitted: {directory_name: ['O=Other']}}") + ca("b", "a", ""), "name_constraints"},
		"more than max_children":     {strings.Replace(root, "O=E'", "O=E', max_children: 1", 1) + ca("a", "root", "") + ca("b", "root", ""), "max_children"},
		"another organisation":       {root + strings.Replace(ca("a", "root", ""), "O=E", "O=Other", 1), "name_policy"},
		"parent that is nowhere":     {root + ca("a", "nobody", ""), "hierarchy"},
		"child before its parent":    {"name: x\ncas:\n" + ca("a", "root", "") + "  - {id: root, subject: 'CN=Root,O=E'}\n", "hierarchy"},
		"an id twice":                {root + ca("root", "root", ""), "hierarchy"},
		"unknown key":                {root + "extra: 1\n", "hierarchy"},
		"a root on a server":         {strings.Replace(root, "O=E'", "O=E', key: online", 1), "hierarchy"},
		"a root's template below":    {root + ca("a", "root", ", template: RootCACertificate/V1"), "hierarchy"},
		"a leaf's template":          {root + ca("a", "root", ", template: EndEntityCertificate/V1"), "hierarchy"},
		"a profile that is no model": {root + ca("a", "root", ", template: issuing-ca"), "hierarchy"},
		"a weak key":                 {root + ca("a", "root", ", algorithm: rsa-2048"), "key_type"},
		"one custodian":              {root + "quorum: {need: 1, custodians: [a]}\n", "hierarchy"},
		"not YAML":                   {"\x00", "hierarchy"},
		"nothing":                    {"", "hierarchy"},
	} {
		plan, err := b.Plan(t.Context(), []byte(c.text))
		if c.reason != "" {
			refused(t, name, err, c.reason)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if deep := strings.Contains(strings.Join(plan.Warnings, "\n"), "levels of CAs"); deep != (name == "five levels") {
			t.Errorf("%s: warnings %q", name, plan.Warnings)
		}
	}
}

// A plan goes from what is not declared to what is in place, and stays there.
func TestG2_39_APlanIsIdempotent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	all := b.declared
	b.declared = nil
	text := []byte("name: two\nquorum: {need: 2, custodians: [Ann, Ben]}\ncas:\n  - {id: root-1, subject: 'CN=root,O=Example'}\n  - {id: web-a, parent: root-1, subject: 'CN=web-a,O=Example'}\n  - {id: web-b, parent: root-1, subject: 'CN=web-b,O=Example'}\n")
	states := func(want ...string) *Plan {
		t.Helper()
		plan, err := b.Plan(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range plan.Steps {
			got = append(got, s.State)
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("states %q, want %q", got, want)
		}
		for _, c := range plan.Ceremonies {
			if _, err := ceremony.DecodeFile([]byte(c.File)); err != nil {
				t.Errorf("a ceremony that the tool does not read: %v\n%s", err, c.File)
			}
		}
		return plan
	}
	if plan := states(Undeclared, Undeclared, Undeclared); !strings.Contains(plan.Declare, "- id: web-a") || !strings.Contains(plan.Declare, "offline:\n  - id: root-1") {
		t.Errorf("declare:\n%s", plan.Declare)
	}
	b.declared = all
	states(PendingCeremony, WantsRequest, WantsRequest)
	csr := b.request(t, "web-a")
	plan := states(PendingCeremony, PendingCeremony, WantsRequest)
	if len(plan.Ceremonies) != 1 || !strings.Contains(plan.Ceremonies[0].File, "csr: web-a.csr") || strings.Contains(plan.Ceremonies[0].File, "web-b") ||
		!strings.Contains(plan.Ceremonies[0].File, "http://ca.test/crl/root-1.crl") {
		t.Errorf("ceremonies: %+v", plan.Ceremonies)
	}
	if _, err := b.Install(t.Context(), "root-1", Certificate{Chain: pemOf(b.rootCert), NoTranscript: true}, operatorActor); err != nil {
		t.Fatal(err)
	}
	if plan = states(InPlace, PendingCeremony, WantsRequest); strings.Contains(plan.Ceremonies[0].File, "root:") || !strings.Contains(plan.Ceremonies[0].File, "out: out-2\n") {
		t.Errorf("a second root is planned: %s", plan.Ceremonies[0].File)
	}
	if _, err := b.Install(t.Context(), "web-a", Certificate{Chain: pemOf(b.sign(t, csr, 10)), NoTranscript: true}, operatorActor); err != nil {
		t.Fatal(err)
	}
	states(InPlace, InPlace, WantsRequest)
	_, err := b.Plan(t.Context(), []byte(strings.Replace(string(text), "CN=web-a", "CN=web-z", 1)))
	refused(t, "another name for what is installed", err, "hierarchy_differs")
	b.declared[1].Offline = true
	b.declared[1].ID = "web-b"
	b.declared = b.declared[:2]
	_, err = b.Plan(t.Context(), text)
	refused(t, "declared elsewhere than the file says", err, "hierarchy")
}

// Fifty CAs below one root, and what lint says of them (G2-02).
func TestG2_02_FiftyCAsBelowOneRoot(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.declared = []ca.Declaration{{ID: "root-1", Offline: true}}
	text := "name: many\ncas:\n  - {id: root-1, subject: 'CN=root,O=Example'}\n"
	for n := range 50 {
		id := fmt.Sprintf("ca-%02d", n)
		b.declared = append(b.declared, ca.Declaration{ID: id, Offline: true})
		text += fmt.Sprintf("  - {id: %s, parent: root-1, subject: 'CN=%s,O=Example', key: offline}\n", id, id)
	}
	if plan, err := b.Plan(t.Context(), []byte(text)); err != nil || strings.Count(plan.Ceremonies[0].File, "sign-ca:") != 50 {
		t.Fatal(err)
	}
	if _, err := b.Install(t.Context(), "root-1", Certificate{Chain: pemOf(b.rootCert), NoTranscript: true}, operatorActor); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		id := fmt.Sprintf("ca-%02d", n)
		c := b.sign(t, b.outside(t, id), 10)
		if _, err := b.Install(t.Context(), id, Certificate{Chain: pemOf(c), NoTranscript: true}, operatorActor); err != nil {
			t.Fatal(err)
		}
	}
	places, findings, err := b.Look(t.Context())
	if err != nil || len(places) != 51 || places[0].Children != 50 || len(findings) != 0 {
		t.Errorf("%d places, %v, %v", len(places), findings, err)
	}
	if plan, err := b.Plan(t.Context(), []byte(text)); err != nil || !plan.Done() {
		t.Errorf("the plan is not done: %v", err)
	}
}

// The example that comes with the sources is a plan.
func TestG2_26_TheManufacturersExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/hierarchies/manufacturer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := newBench(t).Plan(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	roots := map[string]bool{}
	for _, s := range plan.Steps {
		roots[s.Root] = true
	}
	if len(roots) != 3 || len(plan.Steps) != 11 || len(plan.Warnings) != 0 {
		t.Errorf("%d roots, %d CAs, warnings %q", len(roots), len(plan.Steps), plan.Warnings)
	}
}

func FuzzParseSpec(f *testing.F) {
	text, err := os.ReadFile("../../deploy/hierarchies/manufacturer.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("name: x\ncas:\n  - {id: root, subject: 'CN=Root'}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseSpec(text); err == nil && len(s.CAs) == 0 {
			t.Error("a hierarchy without a CA")
		}
	})
}
