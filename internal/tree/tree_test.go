package tree

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/transcript"
)

var operatorActor = Actor{Name: "uid:0"}

func secret() ([]byte, error) { return []byte("a passphrase"), nil }

// bench is a tree over a store of its own and a root in a folder.
type bench struct {
	*Tree
	dir      string
	rootKey  *ecdsa.PrivateKey
	rootCert *x509.Certificate
	declared []ca.Declaration
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir()}
	b.Tree = New(Deps{
		Store: storetest.SQLite(t), Now: time.Now, Declared: func() []ca.Declaration { return b.declared },
		Refresh:    func(context.Context) error { return nil },
		CAProfiles: func() []string { return []string{"issuing-ca"} },
		PublicHTTP: func() string { return "http://ca.test" },
	})
	b.rootKey, b.rootCert = newRoot(t, "root")
	b.declared = []ca.Declaration{{ID: "root-1", Offline: true}, b.online("web-a"), b.online("web-b")}
	return b
}

// newRoot makes a root whose key is nowhere but here.
func newRoot(t *testing.T, name string) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := pki.ParseName("CN=" + name + ",O=Example")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := subject.DER()
	if err != nil {
		t.Fatal(err)
	}
	template := authority(raw, 20)
	template.MaxPathLen, template.MaxPathLenZero, template.CRLDistributionPoints = -1, false, nil
	return key, create(t, template, template, key.Public(), key)
}

// authority is a CA certificate to be, with path length 0.
func authority(subject []byte, years int) *x509.Certificate {
	now := time.Now().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), RawSubject: subject, NotBefore: now, NotAfter: now.AddDate(years, 0, 0), IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, CRLDistributionPoints: []string{"http://ca.test/crl/root-1.crl"},
	}
}

func create(t *testing.T, template, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	return pkitest.Certify(t, template, parent, pub, key)
}

func (b *bench) online(id string) ca.Declaration {
	return ca.Declaration{ID: id, Key: keys.Ref("file:" + filepath.Join(b.dir, id+".key")), Secret: secret, Subject: "CN=" + id + ",O=Example"}
}

func (b *bench) request(t *testing.T, id string) *pki.CSR {
	t.Helper()
	r, err := b.Request(t.Context(), id, RequestOptions{}, operatorActor)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(t.Context(), r.CSR)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// sign certifies a request below the root, for that many years.
func (b *bench) sign(t *testing.T, csr *pki.CSR, years int) *x509.Certificate {
	t.Helper()
	return create(t, authority(csr.RawSubject, years), b.rootCert, csr.PublicKey, b.rootKey)
}

// told writes the transcript of a ceremony that signed the certificate for the
// request, with the root's key.
func (b *bench) told(t *testing.T, csr, cert []byte) []byte {
	t.Helper()
	hash := pki.Fingerprint
	var s transcript.Transcript
	now := time.Now()
	zero := strings.Repeat("0", 64)
	for _, err := range []error{
		s.Begin(transcript.Ceremony{Name: "first", Reason: "a test", Tool: "test", ToolHash: zero, Configuration: "c.yaml", ConfigHash: zero}, now),
		s.Append(transcript.Act{Name: "sign-ca", Request: hash(csr), Certificate: hash(cert)}, now),
		s.Sign(now, transcript.Signer{Name: transcript.CASigner, Key: b.rootKey}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s.Bytes()
}

func pemOf(certs ...*x509.Certificate) []byte {
	var all []byte
	for _, c := range certs {
		all = append(all, pki.EncodeChain(c.Raw)...)
	}
	return all
}

// refused fails unless err is a fault with the given reason.
func refused(t *testing.T, what string, err error, reason string) {
	t.Helper()
	if f := fault.Of(err); err == nil || f.Reason != reason {
		t.Errorf("%s: %v, want the reason %s", what, err, reason)
	}
}

// What comes back from a ceremony is installed only if request, certificate,
// chain and the transcript's act belong together (G1-37).
func TestG1_37_Install(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	csr, other := b.request(t, "web-a"), b.request(t, "web-b")
	cert, foreign := b.sign(t, csr, 10), b.sign(t, other, 10)
	told := b.told(t, csr.Raw, cert.Raw)
	chain := pemOf(cert, b.rootCert)
	_, strangers := newRoot(t, "stranger")

	for name, c := range map[string]struct {
		id     string
		in     Certificate
		reason string
	}{
		"a name that is not declared":     {"web-x", Certificate{Chain: chain, Transcript: told}, "issuer_undeclared"},
		"not PEM":                         {"web-a", Certificate{Chain: []byte("x"), Transcript: told}, "certificate_form"},
		"chain without its root":          {"web-a", Certificate{Chain: pemOf(cert), Transcript: told}, "chain_incomplete"},
		"chain with another root":         {"web-a", Certificate{Chain: pemOf(cert, strangers), Transcript: told}, "chain"},
		"certificate for another key":     {"web-a", Certificate{Chain: pemOf(foreign, b.rootCert), NoTranscript: true}, "key_mismatch"},
		"a root where a key is":           {"web-a", Certificate{Chain: pemOf(b.rootCert), NoTranscript: true}, "root_online"},
		"nothing said about a transcript": {"web-a", Certificate{Chain: chain}, "transcript_missing"},
		"transcript of another act":       {"web-a", Certificate{Chain: chain, Transcript: b.told(t, other.Raw, foreign.Raw)}, "transcript"},
		"transcript of another request":   {"web-a", Certificate{Chain: chain, Transcript: b.told(t, other.Raw, cert.Raw)}, "transcript"},
		"transcript that was altered":     {"web-a", Certificate{Chain: chain, Transcript: []byte(strings.Replace(string(told), "a test", "a joke", 1))}, "transcript"},
		"transcript that was cut off":     {"web-a", Certificate{Chain: chain, Transcript: told[:strings.LastIndex(strings.TrimSpace(string(told)), "\n")+1]}, "transcript"},
	} {
		_, err := b.Install(t.Context(), c.id, c.in, operatorActor)
		refused(t, name, err, c.reason)
	}
	if all, err := b.Store.Issuers(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("what was refused left %d rows: %v", len(all), err)
	}
	done, err := b.Install(t.Context(), "web-a", Certificate{Chain: chain, Transcript: told}, operatorActor)
	if err != nil || done.Unchanged || done.Record.State != "active" || len(done.Warnings) != 0 {
		t.Fatalf("%+v %v", done, err)
	}
	if all, err := b.Store.Issuers(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%d rows, want the issuer and its root: %v", len(all), err)
	}
	// Another certificate for the same key is a renewal; another name is none.
	renewed := b.sign(t, csr, 9)
	if done, err = b.Install(t.Context(), "web-a", Certificate{Chain: pemOf(renewed), Transcript: b.told(t, csr.Raw, renewed.Raw)}, operatorActor); err != nil || done.Unchanged {
		t.Errorf("renewal: %+v %v", done, err)
	}
	_, err = b.Request(t.Context(), "web-a", RequestOptions{Subject: "CN=other,O=Example"}, operatorActor)
	refused(t, "request under another name", err, "issuer_subject")
	// One CA whose key is here has one id, or its lists would be numbered twice.
	b.declared = append(b.declared, ca.Declaration{ID: "web-c", Key: b.declared[1].Key, Secret: secret, Subject: b.declared[1].Subject})
	_, err = b.Install(t.Context(), "web-c", Certificate{Chain: pemOf(renewed), NoTranscript: true}, operatorActor)
	refused(t, "the key and certificate of another issuer", err, "issuer_elsewhere")
}

// The files of a ceremony install an offline CA by the name that is declared.
func TestG2_03_OfflineCAsAreInstalledByName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.Request(t.Context(), "root-1", RequestOptions{}, operatorActor)
	refused(t, "request of an offline CA", err, "issuer_offline")
	in := Certificate{Chain: pemOf(b.rootCert), Transcript: b.told(t, nil, b.rootCert.Raw)}
	if done, err := b.Install(t.Context(), "root-1", in, operatorActor); err != nil || done.Record.State != "offline" || done.Record.ParentID != "" {
		t.Fatalf("%+v %v", done, err)
	}
	b.declared = append(b.declared, ca.Declaration{ID: "policy-1", Offline: true})
	csr := b.outside(t, "policy-1")
	done, err := b.Install(t.Context(), "policy-1", Certificate{Chain: pemOf(b.sign(t, csr, 10)), NoTranscript: true}, operatorActor)
	if err != nil || done.Record.ParentID != "root-1" || len(done.Warnings) != 1 {
		t.Errorf("%+v %v", done, err)
	}
}

// G2-19: a CA has at most as many CAs below it as its declaration says.
func TestG2_19_MaxChildren(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.declared = []ca.Declaration{{ID: "root-1", Offline: true, MaxChildren: 1}, {ID: "web-a", Offline: true}, {ID: "web-b", Offline: true}}
	csr := b.outside(t, "web-a")
	in := Certificate{Chain: pemOf(b.rootCert), NoTranscript: true}
	if _, err := b.Install(t.Context(), "root-1", in, operatorActor); err != nil {
		t.Fatal(err)
	}
	first := b.sign(t, csr, 10)
	if _, err := b.Install(t.Context(), "web-a", Certificate{Chain: pemOf(first), NoTranscript: true}, operatorActor); err != nil {
		t.Fatal(err)
	}
	c := b.sign(t, b.outside(t, "web-b"), 10)
	_, err := b.Install(t.Context(), "web-b", Certificate{Chain: pemOf(c), NoTranscript: true}, operatorActor)
	refused(t, "a second child", err, "max_children")
	c = b.sign(t, csr, 9)
	if _, err := b.Install(t.Context(), "web-a", Certificate{Chain: pemOf(c), NoTranscript: true}, operatorActor); err != nil {
		t.Errorf("a renewal takes no room: %v", err)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, c := range map[string]struct {
		id     string
		o      RequestOptions
		reason string
	}{
		"undeclared":         {"nobody", RequestOptions{}, "issuer_undeclared"},
		"a key of no CA":     {"web-a", RequestOptions{Algorithm: "rsa-2048"}, "key_type"},
		"no name":            {"web-a", RequestOptions{Subject: "O=Example"}, "subject"},
		"not a name":         {"web-a", RequestOptions{Subject: "=,"}, "subject"},
		"passphrase missing": {"shut", RequestOptions{}, "key"},
	} {
		b.declared = append(b.declared[:3:3], ca.Declaration{ID: "shut", Key: "file:" + keys.Ref(filepath.Join(b.dir, "shut.key")), Subject: "CN=shut"})
		_, err := b.Request(t.Context(), c.id, c.o, operatorActor)
		refused(t, name, err, c.reason)
	}
	first, err := b.Request(t.Context(), "web-a", RequestOptions{Algorithm: "ec-p384"}, operatorActor)
	if err != nil || !first.KeyMade || first.Algorithm != "ec-p384" {
		t.Fatalf("%+v %v", first, err)
	}
	_, err = b.Request(t.Context(), "web-a", RequestOptions{Algorithm: "ec-p256"}, operatorActor)
	refused(t, "another kind of key", err, "key_exists")
	again, err := b.Request(t.Context(), "web-a", RequestOptions{Again: true}, operatorActor)
	if err != nil || again.KeyMade || string(again.CSR) == string(first.CSR) {
		t.Errorf("again: %+v %v", again, err)
	}
	if text, err := os.ReadFile(filepath.Join(b.dir, "web-a.key")); err != nil || !strings.Contains(string(text), "ENCRYPTED PRIVATE KEY") {
		t.Errorf("the key's file: %v", err)
	}
}

// outside is the request of a CA whose key is elsewhere.
func (b *bench) outside(t *testing.T, name string) *pki.CSR {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ceremony.NewRequest(key, "CN="+name+",O=Example")
	if err != nil {
		t.Fatal(err)
	}
	return csr
}
