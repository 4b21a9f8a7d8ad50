package tree

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// lawful is one CA that can be asked for by a plan, in a ceremony and at the door.
type lawful struct {
	subject   string
	raw       []byte // the name in the request, where the text is none that a name can have
	algorithm string // default ec-p256
	years     int
	pathLen   int
	usages    []string // default serverAuth
	policies  []string
	names     *profile.NameConstraints
}

// threeWays is one CA with path length 1, whose key signs in a ceremony and at the
// door, and below which a plan puts CAs.
type threeWays struct {
	now      time.Time
	bench    *bench
	offline  ceremony.CA
	pipeline *issuance.Pipeline
	key      *keys.Key
	chain    []*x509.Certificate
	signers  map[string]crypto.Signer
}

const middleName = "CN=Policy CA,O=Example,ST=Bremen,C=DE"

func newThreeWays(t *testing.T) *threeWays {
	t.Helper()
	w := &threeWays{now: time.Now().Truncate(time.Second), bench: newBench(t), signers: map[string]crypto.Signer{}}
	clock := func() time.Time { return w.now }
	w.bench.Now = clock
	root := ceremony.CA{Dir: filepath.Join(t.TempDir(), "root"), Secret: secret, Now: clock}
	w.offline = ceremony.CA{Dir: filepath.Join(t.TempDir(), "policy"), Secret: secret, Now: clock}
	_, err := ceremony.Root(t.Context(), root, ceremony.RootSpec{Subject: "CN=Root,O=Example,ST=Bremen,C=DE", Years: 40, Override: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ceremony.Subordinate(t.Context(), root, w.offline, ceremony.SubordinateSpec{Subject: middleName, CASpec: ceremony.CASpec{
		PathLen: 1, Years: 15, ExtKeyUsage: []string{"serverAuth", "clientAuth", "OCSPSigning"},
		NameConstraints: &profile.NameConstraints{Permitted: profile.Subtrees{Directory: []string{"C=DE"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if w.chain, err = w.offline.Chain(); err != nil {
		t.Fatal(err)
	}
	parent := ""
	for i, id := range []string{"root", "policy"} {
		c := w.chain[1-i]
		row := store.IssuerRecord{ID: id, Name: id, ParentID: parent, State: "offline", Certificate: c.Raw, NotAfter: c.NotAfter, CreatedAt: w.now}
		if err := w.bench.Store.PutIssuer(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		parent = id
	}
	if w.key, err = keys.Open(t.Context(), keys.Ref("file:"+filepath.Join(w.offline.Dir, "private/ca.key")), secret, keys.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.key.Close() })
	w.pipeline = issuance.New(issuance.Config{
		Store: w.bench.Store, Node: "node-1", Now: clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	return w
}

func (w *threeWays) signer(t *testing.T, algorithm string) crypto.Signer {
	t.Helper()
	if w.signers[algorithm] != nil {
		return w.signers[algorithm]
	}
	var key crypto.Signer
	var err error
	switch algorithm {
	case "rsa-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case "ec-p224":
		key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.signers[algorithm] = key
	return key
}

func (w *threeWays) request(t *testing.T, c lawful) (*pki.CSR, error) {
	t.Helper()
	raw := c.raw
	if raw == nil {
		name, err := pki.ParseName(c.subject)
		if err == nil {
			raw, err = name.DER()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: raw}, w.signer(t, c.algorithm))
	if err != nil {
		t.Fatal(err)
	}
	return pki.ParseCSR(t.Context(), der)
}

func (w *threeWays) plan(t *testing.T, c lawful) error {
	t.Helper()
	ca := map[string]any{
		"id": "new", "parent": "policy", "subject": c.subject, "key": "online", "ext_key_usage": c.usages,
		"template": fmt.Sprintf("SubordinateCACertificate_PathLen%d/V1", c.pathLen),
	}
	if c.algorithm != "" {
		ca["algorithm"] = c.algorithm
	}
	if c.years != 0 {
		ca["years"] = c.years
	}
	if c.policies != nil {
		ca["policies"] = c.policies
	}
	if c.names != nil {
		ca["name_constraints"] = map[string]any{"permitted": map[string]any{"dns": c.names.Permitted.DNS, "ip": c.names.Permitted.IP}}
	}
	text, err := json.Marshal(map[string]any{"name": "x", "cas": []any{ca}}) // which is YAML too
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.bench.Plan(t.Context(), text)
	return err
}

func (w *threeWays) sign(t *testing.T, c lawful) error {
	t.Helper()
	csr, err := w.request(t, c)
	if err != nil {
		return err
	}
	_, err = ceremony.SignCA(t.Context(), w.offline, csr, ceremony.CASpec{
		Years: c.years, PathLen: c.pathLen, ExtKeyUsage: c.usages, Policies: c.policies, NameConstraints: c.names,
	})
	return err
}

// door asks as an operator would, by a profile of the operator's own.
func (w *threeWays) door(t *testing.T, c lawful) (*fault.Error, error) {
	t.Helper()
	config := profile.BuiltIn()["SubordinateCACertificate_PathLen1/V1"]
	config.PathLen, config.ExtKeyUsage, config.Policies, config.NameConstraints = &c.pathLen, c.usages, c.policies, c.names
	p, err := profile.Compile("sub", config)
	if err != nil {
		return nil, err
	}
	i, err := issuer.New("policy", w.chain, w.key, issuer.Locations{CRL: "http://ca.test/crl/policy.crl"})
	if err != nil {
		t.Fatal(err)
	}
	w.pipeline.Swap(issuance.Rules{Profiles: map[string]*profile.Profile{"sub": p}, CAs: ca.NewSet(ca.Of(i))})
	csr, err := w.request(t, c)
	if err != nil {
		return fault.Of(err), nil
	}
	r := issuance.Request{Protocol: "operator", Profile: "sub", Issuer: "policy", CSR: csr}
	if c.years != 0 {
		r.NotAfter = w.now.AddDate(c.years, 0, 0).Add(-time.Second)
	}
	return w.pipeline.Preview(t.Context(), r).Fault, nil
}

// One function decides what CA certificate is signed: the plan of a hierarchy, the
// ceremony and the door say the same of every one, for the same reason.
func TestFT13_PlanCeremonyAndDoorSayTheSame(t *testing.T) {
	t.Parallel()
	w := newThreeWays(t)
	const rest = ",O=Example,ST=Bremen,C=DE"
	pairs := func(kv ...string) []byte {
		var rdns pkix.RDNSequence
		for i := 0; i < len(kv); i += 2 {
			oid, err := pki.ParseAttributeType(kv[i])
			if err != nil {
				t.Fatal(err)
			}
			rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: kv[i+1]}})
		}
		der, err := asn1.Marshal(rdns)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, c := range map[string]struct {
		ask    lawful
		reason string
	}{
		"as usual":                  {lawful{subject: "CN=a" + rest}, ""},
		"with OU":                   {lawful{subject: "CN=a,OU=Web" + rest}, ""},
		"mailbox":                   {lawful{subject: "CN=a,emailAddress=ca@example.test" + rest}, "name_policy"},
		"CN with commas and space":  {lawful{subject: `CN=Web\, and more` + rest}, ""},
		"L":                         {lawful{subject: "CN=a,L=Bremen" + rest}, "name_policy"},
		"UID":                       {lawful{subject: "CN=a,UID=x" + rest}, "name_policy"},
		"serialNumber":              {lawful{subject: "CN=a,serialNumber=1" + rest}, "name_policy"},
		"DC":                        {lawful{subject: "CN=a,DC=example" + rest}, "name_policy"},
		"title":                     {lawful{subject: "CN=a,title=x" + rest}, "name_policy"},
		"L beside CN":               {lawful{subject: "CN=a+L=Bremen" + rest}, "name_policy"},
		"other O":                   {lawful{subject: "CN=a,O=Other,ST=Bremen,C=DE"}, "name_policy"},
		"O by another case":         {lawful{subject: "CN=a,O=EXAMPLE,ST=Bremen,C=DE"}, "name_policy"},
		"O with more space":         {lawful{subject: "CN=a,O=Exam ple,ST=Bremen,C=DE"}, "name_policy"},
		"O twice":                   {lawful{subject: "CN=a,O=Example,O=Example,ST=Bremen,C=DE"}, "subject_count"},
		"other ST":                  {lawful{subject: "CN=a,O=Example,ST=Hamburg,C=DE"}, "name_policy"},
		"no ST":                     {lawful{subject: "CN=a,O=Example,C=DE"}, "name_policy"},
		"other C":                   {lawful{subject: "CN=a,O=Example,ST=Bremen,C=FR"}, "name_constraints"},
		"no C":                      {lawful{subject: "CN=a,O=Example,ST=Bremen"}, "name_constraints"},
		"no CN":                     {lawful{subject: "OU=a" + rest}, "name_policy"},
		"empty O":                   {lawful{subject: "CN=a,O=,ST=Bremen,C=DE", raw: pairs("C", "DE", "ST", "Bremen", "O", "", "CN", "a")}, "subject"},
		"C of three letters":        {lawful{subject: "CN=a,O=Example,ST=Bremen,C=DEU", raw: pairs("C", "DEU", "ST", "Bremen", "O", "Example", "CN", "a")}, "subject"},
		"the signer's own name":     {lawful{subject: middleName}, "name_taken"},
		"its name by another case":  {lawful{subject: "CN=POLICY  ca,O=example,ST=bremen,C=DE"}, "name_taken"},
		"the root's name":           {lawful{subject: "CN=Root" + rest}, "name_taken"},
		"outside the constraints":   {lawful{subject: "C=DE,ST=Bremen,O=Example,CN=a"}, "name_constraints"},
		"years negative":            {lawful{subject: "CN=a" + rest, years: -1}, "validity"},
		"years 1":                   {lawful{subject: "CN=a" + rest, years: 1}, ""},
		"years 14":                  {lawful{subject: "CN=a" + rest, years: 14}, ""},
		"years as those above":      {lawful{subject: "CN=a" + rest, years: 15}, "validity_nesting"},
		"years over the end above":  {lawful{subject: "CN=a" + rest, years: 16}, "validity_nesting"},
		"years 25":                  {lawful{subject: "CN=a" + rest, years: 25}, "validity_nesting"},
		"years 26":                  {lawful{subject: "CN=a" + rest, years: 26}, "validity"},
		"path length as above":      {lawful{subject: "CN=a" + rest, pathLen: 1}, "path_length"},
		"path length beyond":        {lawful{subject: "CN=a" + rest, pathLen: 3}, "path_length"},
		"usage that is not above":   {lawful{subject: "CN=a" + rest, usages: []string{"codeSigning"}}, "eku_nesting"},
		"one usage too many":        {lawful{subject: "CN=a" + rest, usages: []string{"serverAuth", "emailProtection"}}, "eku_nesting"},
		"any usage":                 {lawful{subject: "CN=a" + rest, usages: []string{"anyExtendedKeyUsage"}}, "eku_nesting"},
		"usage that is none":        {lawful{subject: "CN=a" + rest, usages: []string{"serving"}}, "ca_terms"},
		"usage twice":               {lawful{subject: "CN=a" + rest, usages: []string{"serverAuth", "serverAuth"}}, "ca_terms"},
		"a policy":                  {lawful{subject: "CN=a" + rest, policies: []string{"1.3.6.1.4.1.99999.1"}}, ""},
		"a policy that is none":     {lawful{subject: "CN=a" + rest, policies: []string{"gold"}}, "ca_terms"},
		"a policy twice":            {lawful{subject: "CN=a" + rest, policies: []string{"1.2.3", "1.2.3"}}, "ca_terms"},
		"a policy of one number":    {lawful{subject: "CN=a" + rest, policies: []string{"1"}}, "ca_terms"},
		"constraints":               {lawful{subject: "CN=a" + rest, names: &profile.NameConstraints{Permitted: profile.Subtrees{DNS: []string{"test"}}}}, ""},
		"constraints that are none": {lawful{subject: "CN=a" + rest, names: &profile.NameConstraints{Permitted: profile.Subtrees{IP: []string{"10.0.0.1/8"}}}}, "ca_terms"},
		"P-224":                     {lawful{subject: "CN=a" + rest, algorithm: "ec-p224"}, "key_type"},
		"RSA of 2048 bits":          {lawful{subject: "CN=a" + rest, algorithm: "rsa-2048"}, "key_type"},
		"RSA of 3072 bits":          {lawful{subject: "CN=a" + rest, algorithm: "rsa-3072"}, ""},
	} {
		if c.ask.usages == nil {
			c.ask.usages = []string{"serverAuth"}
		}
		why := func(err error) string {
			if err == nil {
				return ""
			}
			return fault.Of(err).Reason
		}
		door, err := w.door(t, c.ask)
		got := map[string]string{"plan": why(w.plan(t, c.ask)), "ceremony": why(w.sign(t, c.ask))}
		switch {
		case err != nil: // the configuration with such a profile is refused, and says why
			got["door"] = c.reason
			if c.reason != "ca_terms" {
				t.Errorf("%s: the profile: %v", name, err)
			}
		case door != nil:
			got["door"] = door.Reason
		default:
			got["door"] = ""
		}
		want := map[string]string{"plan": c.reason, "ceremony": c.reason, "door": c.reason}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the reasons (-want +got):\n%s", name, diff)
		}
	}
}

// A CA that verifiers accept is taken in, whatever our laws say of new ones; what
// our laws cannot honour is said, and a CA that can do nothing here is refused.
func TestFT14_FR19_InstallJudgesByRFC5280(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change  func(*x509.Certificate)
		root    func(*x509.Certificate)
		key     any // of the CA; nil is that of its request
		offline bool
		reason  string
		warning string
	}{
		"good":               {},
		"longer than a root": {change: func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(25, 0, 0) }, warning: "nearly as long as its root"},
		"no cRLSign":         {change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }, reason: "key_usage"},
		"no keyCertSign": {
			change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, warning: "signs nothing new, only lists and OCSP: the key usage",
		},
		"policy demanded": {change: func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 3, 0x80, 1, 0}}}
		}, warning: "signs nothing new, only lists and OCSP: the chain"},
		"RSA-2048, offline":    {key: rsaKey.Public(), offline: true, warning: "too weak to sign anything new"},
		"below a stock root":   {root: func(c *x509.Certificate) { c.KeyUsage = 0 }, warning: "has no key usage, as openssl req -x509 makes it"},
		"below a renewed root": {root: func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Hour) }},
		"expired": {change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = c.NotBefore.AddDate(-2, 0, 0), c.NotBefore.AddDate(-1, 0, 0)
		}, warning: "expired"},
		"not a CA": {change: func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }, reason: "not_a_ca"},
	} {
		b := newBench(t)
		csr := b.request(t, "web-a")
		if c.root != nil {
			template := authority(b.rootCert.RawSubject, 20)
			template.MaxPathLen, template.MaxPathLenZero, template.CRLDistributionPoints = -1, false, nil
			c.root(template)
			b.rootCert = create(t, template, template, b.rootKey.Public(), b.rootKey)
			b.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
		}
		template := authority(csr.RawSubject, 10)
		if c.change != nil {
			c.change(template)
		}
		key := c.key
		if key == nil {
			key = csr.PublicKey
		}
		id := "web-a"
		if c.offline {
			id, b.declared = "old", append(b.declared, ca.Declaration{ID: "old", Offline: true})
		}
		cert := create(t, template, b.rootCert, key, b.rootKey)
		done, err := b.Install(t.Context(), id, Certificate{Chain: pemOf(cert, b.rootCert), NoTranscript: true}, operatorActor)
		if c.reason != "" {
			refused(t, name, err, c.reason)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		said := slices.DeleteFunc(done.Warnings, func(w string) bool { return strings.HasPrefix(w, "no transcript speaks") })
		if text := strings.Join(said, "\n"); !strings.Contains(text, c.warning) || (c.warning == "") != (text == "") {
			t.Errorf("%s: warnings %q, want %q", name, text, c.warning)
		}
	}
}
