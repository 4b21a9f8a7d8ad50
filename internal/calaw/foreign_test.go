package calaw

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what is refused has to be made
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/need"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// keysOf makes one key of each kind for all tests.
var keysOf = func() func(kind string) crypto.Signer {
	var mu sync.Mutex
	made := map[string]crypto.Signer{}
	return func(kind string) crypto.Signer {
		mu.Lock()
		defer mu.Unlock()
		if made[kind] != nil {
			return made[kind]
		}
		var key crypto.Signer
		var err error
		switch {
		case strings.HasPrefix(kind, "rsa-1024"):
			key, err = rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // what is refused has to be made
		case strings.HasPrefix(kind, "rsa-2048"):
			key, err = rsa.GenerateKey(rand.Reader, 2048)
		case strings.HasPrefix(kind, "p224"):
			key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		default:
			key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
		if err != nil {
			panic(err)
		}
		made[kind] = key
		return key
	}
}()

// made is one CA of a chain that a test describes from the root down.
type made struct {
	key    string // kind, and a word to tell two of one kind apart
	change func(*x509.Certificate)
}

func ext(oid asn1.ObjectIdentifier, critical bool, value string) pkix.Extension {
	der, err := hex.DecodeString(value)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: oid, Critical: critical, Value: der}
}

// with adds extensions, which replace those that the template would have.
func with(extensions ...pkix.Extension) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, extensions...) }
}

// chain makes the CAs and returns them issuer first.
func chain(t testing.TB, down ...made) []*x509.Certificate {
	t.Helper()
	var up []*x509.Certificate
	var upKey crypto.Signer
	for i, m := range down {
		key := keysOf(m.key)
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10-i, 0, 0),
			Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"Example"}, CommonName: "CA " + string(rune('0'+i))},
			IsCA:    true, BasicConstraintsValid: true, MaxPathLen: -1,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if m.change != nil {
			m.change(c)
		}
		parent := c
		if upKey == nil {
			upKey = key
		} else {
			parent = up[0]
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), upKey)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		up, upKey = append([]*x509.Certificate{made}, up...), key
	}
	return up
}

// without takes an extension out of the first certificate, or changes it, and signs
// that again with the key given.
func resigned(t testing.TB, c *x509.Certificate, key crypto.Signer, change func(*tbs)) *x509.Certificate {
	t.Helper()
	var in tbs
	if rest, err := asn1.Unmarshal(c.RawTBSCertificate, &in); err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	change(&in)
	in.Raw = nil
	body, err := asn1.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	hash := crypto.SHA256
	sum := hash.New()
	if in.Algorithm.Algorithm.Equal(sha1WithRSA) || in.Algorithm.Algorithm.Equal(sha1WithECDSA) {
		hash, sum = crypto.SHA1, sha1.New() //nolint:gosec // as above
	}
	sum.Write(body)
	sig, err := key.Sign(rand.Reader, sum.Sum(nil), hash)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: body}, in.Algorithm, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

type tbs struct {
	Raw        asn1.RawContent
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   asn1.RawValue
	Subject    asn1.RawValue
	Key        asn1.RawValue
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

var (
	sha1WithRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	sha1WithECDSA = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}

	oidPolicies          = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidMappings          = asn1.ObjectIdentifier{2, 5, 29, 33}
	oidPolicyConstraints = asn1.ObjectIdentifier{2, 5, 29, 36}
	oidInhibitAny        = asn1.ObjectIdentifier{2, 5, 29, 54}
	oidAKI               = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidSKI               = asn1.ObjectIdentifier{2, 5, 29, 14}
)

// drop takes extensions out.
func drop(oids ...asn1.ObjectIdentifier) func(*tbs) {
	return func(in *tbs) {
		in.Extensions = slices.DeleteFunc(in.Extensions, func(e pkix.Extension) bool { return slices.ContainsFunc(oids, e.Id.Equal) })
	}
}

func uncritical(oid asn1.ObjectIdentifier) func(*tbs) {
	return func(in *tbs) {
		for i := range in.Extensions {
			if in.Extensions[i].Id.Equal(oid) {
				in.Extensions[i].Critical = false
			}
		}
	}
}

// first changes the CA's own certificate, which the given key has signed.
func first(t testing.TB, of []*x509.Certificate, key string, change func(*tbs)) []*x509.Certificate {
	t.Helper()
	return append([]*x509.Certificate{resigned(t, of[0], keysOf(key), change)}, of[1:]...)
}

func withHash(oid asn1.ObjectIdentifier) func(*tbs) {
	return func(in *tbs) {
		in.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: in.Algorithm.Parameters}
	}
}

// verdict is a Verdict in reasons: "refused x", "sign x", "now x", "lists x", "warn x".
func reasons(v Verdict) []string {
	var all []string
	if v.Refused != nil {
		all = append(all, "refused "+v.Refused.Reason)
	}
	for word, list := range map[string][]Finding{"sign": v.NoSigning, "now": v.NotNow, "lists": v.NoLists, "warn": v.Warnings} {
		for _, f := range list {
			all = append(all, word+" "+f.Reason)
			if f.Detail == "" {
				all = append(all, "no detail")
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

type judgement struct {
	chain []*x509.Certificate
	want  []string
}

func judge(t *testing.T, table map[string]judgement) {
	t.Helper()
	for name, c := range table {
		v := Foreign(c.chain, now)
		if diff := cmp.Diff(c.want, reasons(v)); diff != "" {
			t.Errorf("%s (-want +got):\n%s%+v", name, diff, v)
		}
		barred := slices.ContainsFunc(c.want, func(s string) bool { return !strings.HasPrefix(s, "warn") && !strings.HasPrefix(s, "lists") })
		if err := v.MaySign(); (err != nil) != barred || err != nil && (fault.Of(err).Kind != fault.Denied || fault.Of(err).Reason == "") {
			t.Errorf("%s: may sign: %v", name, err)
		}
	}
}

const (
	requireNow   = "3003800100" // requireExplicitPolicy 0
	requireLater = "3003800103" // 3
	policyA      = "300a300806062a0304050607"
	anyPolicies  = "300830060604551d2000"
)

func TestFT14_SignaturesKeysAndPolicies(t *testing.T) {
	t.Parallel()
	two := chain(t, made{key: "root"}, made{key: "sub"})
	rsaRoot := made{key: "rsa-2048 root"}
	third := chain(t, rsaRoot, made{key: "rsa-2048 middle"}, made{key: "sub"})
	oldRoot := func() []*x509.Certificate {
		c := chain(t, rsaRoot, made{key: "sub"})
		return []*x509.Certificate{c[0], resigned(t, c[1], keysOf("rsa-2048 root"), withHash(sha1WithRSA))}
	}()
	middle := []*x509.Certificate{third[0], resigned(t, third[1], keysOf("rsa-2048 root"), withHash(sha1WithRSA)), third[2]}
	dirNames := ext(oidNameConstraints, false, "3015a0133011a40f300d310b3009060355040613024445")
	judge(t, map[string]judgement{
		"a good CA":              {two, nil},
		"SHA-1":                  {first(t, chain(t, rsaRoot, made{key: "sub"}), "rsa-2048 root", withHash(sha1WithRSA)), []string{"sign weak_signature"}},
		"SHA-1 with ECDSA":       {first(t, two, "root", withHash(sha1WithECDSA)), []string{"sign weak_signature"}},
		"SHA-1 above":            {middle, []string{"sign weak_signature"}},
		"SHA-1 on the root":      {oldRoot, nil},
		"below an RSA-1024 root": {chain(t, made{key: "rsa-1024"}, made{key: "sub"}), []string{"sign weak_key"}},
		"an RSA-1024 middle":     {chain(t, made{key: "root"}, made{key: "rsa-1024"}, made{key: "sub"}), []string{"sign weak_key"}},
		"P-224":                  {chain(t, made{key: "root"}, made{key: "p224"}), []string{"sign weak_key"}},
		"below an RSA-2048 root": {chain(t, rsaRoot, made{key: "sub"}), nil},
		"policy demanded, none": {chain(t, made{key: "root"}, made{"sub", with(ext(oidPolicyConstraints, true, requireNow))}),
			[]string{"sign explicit_policy"}},
		"policy demanded above, none": {chain(t, made{key: "root"}, made{"middle", with(ext(oidPolicyConstraints, true, requireNow), ext(oidPolicies, false, policyA))}, made{key: "sub"}),
			[]string{"sign explicit_policy"}},
		"policy demanded, one": {chain(t, made{key: "root"}, made{"sub", with(ext(oidPolicyConstraints, true, requireNow), ext(oidPolicies, false, policyA))}),
			[]string{"warn explicit_policy"}},
		"policy demanded, any, inhibited below": {chain(t, made{key: "root"}, made{"middle", with(ext(oidPolicyConstraints, true, requireNow), ext(oidPolicies, false, anyPolicies), ext(oidInhibitAny, true, "020100"))},
			made{"sub", with(ext(oidPolicies, false, anyPolicies))}), []string{"sign explicit_policy"}},
		"policy demanded too late to matter": {chain(t, made{key: "root"}, made{"sub", with(ext(oidPolicyConstraints, true, requireLater))}), nil},
		"policy demanded by the root":        {chain(t, made{"root", with(ext(oidPolicyConstraints, true, requireNow))}, made{key: "sub"}), []string{"warn explicit_policy"}},
		"anyPolicy inhibited":                {chain(t, made{key: "root"}, made{"sub", with(ext(oidInhibitAny, true, "020100"))}), nil},
		"policies mapped": {chain(t, made{key: "root"}, made{"sub", with(ext(oidPolicies, false, policyA), ext(oidMappings, true, "3010300e06062a030405060706042a030405"))}),
			[]string{"sign policy_mapping"}},
		"no authority key identifier":  {first(t, two, "root", drop(oidAKI)), []string{"warn no_authority_key_identifier"}},
		"basic constraints uncritical": {first(t, two, "root", uncritical(oidBasicConstraints)), []string{"warn not_critical"}},
		"name constraints uncritical":  {chain(t, made{key: "root"}, made{"sub", with(dirNames)}), []string{"warn directory_constraints", "warn not_critical"}},
	})
}

func TestFR19_ForeignCAsByRFC5280(t *testing.T) {
	t.Parallel()
	two := chain(t, made{key: "root"}, made{key: "sub"})
	forged := *two[0]
	forged.Signature = slices.Clone(two[0].Signature)
	forged.Signature[len(forged.Signature)-1] ^= 1
	usage := func(u x509.KeyUsage) func(*x509.Certificate) { return func(c *x509.Certificate) { c.KeyUsage = u } }
	limit := func(n int) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 }
	}
	life := func(from, to time.Time) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
	}
	stock := usage(0)
	version1 := resigned(t, two[1], keysOf("root"), func(in *tbs) { in.Version, in.Extensions = 0, nil })
	judge(t, map[string]judgement{
		"a root alone":                         {two[1:], nil},
		"five CAs":                             {chain(t, made{key: "a"}, made{"b", limit(3)}, made{"c", limit(2)}, made{"d", limit(1)}, made{"e", limit(0)}), nil},
		"stock root":                           {chain(t, made{"root", stock}), []string{"warn no_key_usage"}},
		"below a stock root":                   {chain(t, made{"root", stock}, made{key: "sub"}), []string{"warn no_key_usage"}},
		"begins before its renewed root":       {chain(t, made{"root", life(now.AddDate(0, -1, 0), now.AddDate(20, 0, 0))}, made{key: "sub"}), nil},
		"outlives its root":                    {chain(t, made{"root", life(now.AddDate(-9, 0, 0), now.AddDate(1, 0, 0))}, made{key: "sub"}), nil},
		"path length above that of its parent": {chain(t, made{"root", limit(1)}, made{"sub", limit(5)}), nil},
		"RSA-2048":                             {chain(t, made{key: "root"}, made{key: "rsa-2048 sub"}), []string{"sign weak_key"}},
		"RSA-1024":                             {chain(t, made{key: "root"}, made{key: "rsa-1024"}), []string{"sign weak_key"}},
		"no keyCertSign":                       {chain(t, made{key: "root"}, made{"sub", usage(x509.KeyUsageCRLSign)}), []string{"sign key_usage"}},
		"no cRLSign":                           {chain(t, made{key: "root"}, made{"sub", usage(x509.KeyUsageCertSign)}), []string{"lists key_usage", "sign key_usage"}},
		"no subject key identifier":            {first(t, two, "root", drop(oidSKI)), []string{"warn no_key_identifier"}},
		"expired":                              {chain(t, made{key: "root"}, made{"sub", life(now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0))}), []string{"now expired"}},
		"below an expired root":                {chain(t, made{"root", life(now.AddDate(-9, 0, 0), now.AddDate(-1, 0, 0))}, made{key: "sub"}), []string{"now expired"}},
		"not begun":                            {chain(t, made{key: "root"}, made{"sub", life(now.AddDate(0, 1, 0), now.AddDate(2, 0, 0))}), []string{"now not_yet_valid"}},
		"ends soon":                            {chain(t, made{key: "root"}, made{"sub", life(now.AddDate(-2, 0, 0), now.AddDate(0, 2, 0))}), []string{"warn short_life"}},
		"below a root of version 1":            {[]*x509.Certificate{first(t, two, "root", drop(oidAKI))[0], version1}, []string{"warn no_authority_key_identifier", "warn no_basic_constraints", "warn no_key_identifier", "warn no_key_usage"}},
		"a root of version 1":                  {[]*x509.Certificate{version1}, []string{"sign not_a_ca", "warn no_basic_constraints", "warn no_key_identifier", "warn no_key_usage"}},

		"nothing":               {nil, []string{"refused chain"}},
		"no root":               {two[:1], []string{"refused chain"}},
		"another root":          {[]*x509.Certificate{two[0], chain(t, made{key: "other"})[0]}, []string{"refused chain"}},
		"wrong order":           {[]*x509.Certificate{two[1], two[0]}, []string{"refused chain"}},
		"forged":                {[]*x509.Certificate{&forged, two[1]}, []string{"refused chain"}},
		"six CAs":               {chain(t, made{key: "a"}, made{key: "b"}, made{key: "c"}, made{key: "d"}, made{key: "e"}, made{key: "f"}), []string{"refused max_depth"}},
		"CA:FALSE":              {chain(t, made{key: "root"}, made{"sub", func(c *x509.Certificate) { c.IsCA = false }}), []string{"refused not_a_ca"}},
		"no basic constraints":  {first(t, two, "root", drop(oidBasicConstraints)), []string{"refused not_a_ca"}},
		"no keyCertSign above":  {chain(t, made{"root", usage(x509.KeyUsageCRLSign)}, made{key: "sub"}), []string{"refused key_usage"}},
		"unknown critical":      {chain(t, made{key: "root"}, made{"sub", with(ext(asn1.ObjectIdentifier{1, 2, 3, 4}, true, "0500"))}), []string{"refused critical_extension"}},
		"deeper than permitted": {chain(t, made{"root", limit(0)}, made{key: "middle"}, made{key: "sub"}), []string{"refused path_length"}},
		"outside constraints": {chain(t, made{"root", with(ext(oidNameConstraints, true, "3015a0133011a40f300d310b3009060355040613024652"))}, made{key: "sub"}),
			[]string{"refused name_constraints"}},
		"unreadable constraints": {chain(t, made{"root", with(ext(oidNameConstraints, true, "300aa0083006820161800101"))}, made{key: "sub"}),
			[]string{"refused name_constraints"}},
		"another key identifier": {first(t, two, "root", func(in *tbs) {
			drop(oidAKI)(in)
			in.Extensions = append(in.Extensions, ext(oidAKI, false, "3003800109"))
		}), []string{"refused chain"}},
	})
}

// What openssl makes of a chain is what Foreign makes of it, as far as openssl
// looks: validity that does not nest, and a stock root, stand.
func TestFR19_AgreesWithOpenSSL(t *testing.T) {
	t.Parallel()
	need.Program(t, "openssl")
	for name, c := range map[string][]*x509.Certificate{
		"renewed root": chain(t, made{"root", func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, -1, 0) }}, made{key: "sub"}),
		"stock root":   chain(t, made{"root", func(c *x509.Certificate) { c.KeyUsage = 0 }}, made{key: "sub"}),
		"too deep": chain(t, made{"root", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }},
			made{key: "middle"}, made{key: "sub"}),
		"forbidden name": chain(t, made{"root", with(ext(oidNameConstraints, true, "3015a0133011a40f300d310b3009060355040613024652"))}, made{key: "sub"}),
	} {
		dir := t.TempDir()
		leaf := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{Country: []string{"DE"}, CommonName: "leaf"}, NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(0, 1, 0)}
		der, err := x509.CreateCertificate(rand.Reader, leaf, c[0], keysOf("leaf").Public(), keysOf("sub"))
		if err != nil {
			t.Fatal(err)
		}
		var between [][]byte
		for _, m := range c[:len(c)-1] {
			between = append(between, m.Raw)
		}
		args := []string{"verify", "-attime", "1795262400"}
		for file, text := range map[string][]byte{"-CAfile": pki.EncodeChain(c[len(c)-1].Raw), "-untrusted": pki.EncodeChain(between...)} {
			path := filepath.Join(dir, file)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, file, path)
		}
		path := filepath.Join(dir, "leaf")
		if err := os.WriteFile(path, pki.EncodeChain(der), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "openssl", append(args, path)...).CombinedOutput()
		if v := Foreign(c, now); (err == nil) != (v.Refused == nil) {
			t.Errorf("%s: openssl says %v %s, Foreign %+v", name, err, out, v.Refused)
		}
	}
}

func TestFT15_OwnNames(t *testing.T) {
	t.Parallel()
	dir := func(value string) func(*x509.Certificate) { return with(ext(oidNameConstraints, true, value)) }
	const german = "3015a0133011a40f300d310b3009060355040613024445"
	free := chain(t, made{key: "root"}, made{key: "sub"})
	bound := chain(t, made{"root", dir(german)}, made{key: "sub"})
	whole := func() []*x509.Certificate { // only the CA itself and what is below its whole name
		der := chain(t, made{key: "root"}, made{key: "sub"})[0].RawSubject
		base := pki.NameConstraints{}
		name, err := pki.ParseNameDER(der)
		if err != nil {
			t.Fatal(err)
		}
		base.Permitted = []pki.Subtree{{Type: pki.DirName, Value: name.String()}}
		value, err := base.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return chain(t, made{"root", dir(hex.EncodeToString(value))}, made{key: "sub"})
	}()
	none := chain(t, made{key: "root"}, made{"sub", dir("3015a0133011a40f300d310b3009060355040613024652")})
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"free":                 {free, "CN=OCSP responder a"},
		"a country":            {bound, "CN=OCSP responder a,O=Example,C=DE"},
		"the CA's whole name":  {whole, "CN=OCSP responder a,CN=CA 1,O=Example,C=DE"},
		"nothing of its names": {none, ""},
	} {
		own, err := OwnName(c.chain, "OCSP responder a")
		if own.String() != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %s %v, want %s", name, own, err, c.want)
		}
		warned := slices.Contains(reasons(Foreign(c.chain, now)), "warn directory_constraints")
		if warned != (name != "free") {
			t.Errorf("%s: warned: %v", name, warned)
		}
	}
}

// What the leaf of a chain must say of policies is said before it is signed.
func TestFT14_PoliciesOfLeaves(t *testing.T) {
	t.Parallel()
	a, b := asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7}, asn1.ObjectIdentifier{1, 2, 3}
	demanded := chain(t, made{key: "root"}, made{"sub", with(ext(oidPolicyConstraints, true, requireNow), ext(oidPolicies, false, policyA))})
	for name, c := range map[string]struct {
		chain    []*x509.Certificate
		policies []asn1.ObjectIdentifier
		reason   string
	}{
		"nothing demanded":  {chain(t, made{key: "root"}, made{key: "sub"}), nil, ""},
		"the policy":        {demanded, []asn1.ObjectIdentifier{b, a}, ""},
		"none":              {demanded, nil, "explicit_policy"},
		"another":           {demanded, []asn1.ObjectIdentifier{b}, "explicit_policy"},
		"any":               {demanded, []asn1.ObjectIdentifier{{2, 5, 29, 32, 0}}, ""},
		"a root's demand":   {chain(t, made{"root", with(ext(oidPolicyConstraints, true, requireNow))}, made{key: "sub"}), nil, ""},
		"any, not any more": {chain(t, made{key: "root"}, made{"sub", with(ext(oidPolicyConstraints, true, requireNow), ext(oidPolicies, false, policyA), ext(oidInhibitAny, true, "020100"))}), []asn1.ObjectIdentifier{{2, 5, 29, 32, 0}}, "explicit_policy"},
	} {
		err := CheckPolicies(c.chain, c.policies)
		if got := ""; err != nil {
			if got = fault.Of(err).Reason; got != c.reason {
				t.Errorf("%s: %v", name, err)
			}
		} else if c.reason != "" {
			t.Errorf("%s: accepted", name)
		}
	}
}
