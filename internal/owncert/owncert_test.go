package owncert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// lab is a CA and places for its server's own certificates.
type lab struct {
	*issuancetest.CA
	t     *testing.T
	store *store.Store
	dir   string
	ahead atomic.Int64
}

func (l *lab) now() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) }

func newLab(t *testing.T, change ...func(*x509.Certificate)) *lab {
	t.Helper()
	l := &lab{t: t, store: storetest.SQLite(t), dir: t.TempDir()}
	l.CA = issuancetest.New(t, l.store, l.now, "ca", nil, change...)
	return l
}

func secret() ([]byte, error) { return []byte("correct horse"), nil }

// kinds are the three kinds of own certificates.
var kinds = []string{"tls", "ocsp", "ra"}

// keeper returns a Keeper of a kind, as a process makes it that has just started.
func (l *lab) keeper(kind string, change ...func(*Config)) *Keeper {
	l.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	cfg := Config{What: kind, Issuer: "ca", Pipeline: l.Pipeline, Now: l.now, Log: quiet}
	switch kind {
	case "tls":
		cfg.Storage = File{Path: filepath.Join(l.dir, "tls", "https.pem"), Secret: secret, Log: quiet}
		cfg.Specs = []Spec{{Profile: "tls-server", CommonName: "ca.example.test", Algorithm: "ec-p256",
			Names: []pki.Identifier{{Type: pki.DNS, Value: "ca.example.test"}}}}
	case "ocsp":
		cfg.Storage = &Folder{IssuerID: "ca", Node: "n", Dir: filepath.Join(l.dir, "ocsp"), Secret: secret, Store: l.store, Now: l.now, Log: quiet}
		cfg.Specs = []Spec{{Profile: "ocsp-signing", CommonName: "OCSP responder ca", Algorithm: "ec-p256"}}
	case "ra":
		sealer, err := seal.New(bytes.Repeat([]byte{7}, seal.KEKSize))
		if err != nil {
			l.t.Fatal(err)
		}
		cfg.Storage = &Sealed{Name: "scep-ra:default:ca", Store: l.store, Sealer: sealer}
		cfg.Specs = []Spec{
			{Profile: "scep-ra-decryption", CommonName: "SCEP RA default (encryption)", Algorithm: "rsa-2048"},
			{Profile: "scep-ra-signing", CommonName: "SCEP RA default (signature)", Algorithm: "rsa-2048"},
		}
	}
	for _, f := range change {
		f(&cfg)
	}
	return New(cfg, nil)
}

func (l *lab) ensure(k *Keeper) *Pair {
	l.t.Helper()
	if err := k.Ensure(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return k.Newest()
}

func (l *lab) revoke(c *x509.Certificate, reason pki.Reason) {
	l.t.Helper()
	r := issuance.Revocation{IssuerID: "ca", Serial: pki.SerialFromBig(c.SerialNumber), Reason: reason, Requester: "uid:0", BlockKey: true}
	if err := l.Pipeline.Revoke(l.t.Context(), r); err != nil {
		l.t.Fatal(err)
	}
}

func has(k *Keeper, c *x509.Certificate) bool {
	for _, g := range k.All() {
		for _, p := range g.Pairs {
			if p.Certificate.Equal(c) || bytes.Equal(p.Certificate.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
				return true
			}
		}
	}
	return false
}

// Whatever the reason, a revoked certificate and its key are out of use at the next
// look, on every node and after a restart, and another key takes over.
func TestFT2_RevokedIsReplacedByAnotherKey(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		for _, reason := range []pki.Reason{pki.KeyCompromise, pki.Superseded, pki.CertificateHold, pki.Unspecified} {
			t.Run(kind+"/"+reason.String(), func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				var dropped []*x509.Certificate
				k := l.keeper(kind, func(c *Config) { c.Dropped = func(c *x509.Certificate) { dropped = append(dropped, c) } })
				first := l.ensure(k).Certificate
				if again := l.ensure(k); again.Certificate != first || len(dropped) != 0 {
					t.Fatal("replaced without need")
				}
				other := k
				if kind == "ra" { // the others are of one node
					other = l.keeper(kind)
				}
				if !l.ensure(other).Certificate.Equal(first) {
					t.Fatal("another node has another RA")
				}
				l.revoke(first, reason)
				second := l.ensure(k).Certificate
				if has(k, first) || second.Equal(first) || len(dropped) == 0 {
					t.Errorf("the revoked one is in use: %d generations, %d dropped", len(k.All()), len(dropped))
				}
				if l.ensure(other); has(other, first) || !has(other, second) {
					t.Error("another node goes on with the revoked one")
				}
				if restarted := l.keeper(kind); !l.ensure(restarted).Certificate.Equal(second) {
					t.Error("a restart has another one")
				}
				l.revoke(second, reason)
				if restarted := l.keeper(kind); l.ensure(restarted) == nil || has(restarted, second) {
					t.Error("a process that starts uses what was revoked while it was down")
				}
				if found, _ := filepath.Glob(filepath.Join(l.dir, "ocsp", "*.key")); kind == "ocsp" && len(found) != 1 {
					t.Errorf("keys in the folder: %v", found)
				}
			})
		}
	}
}

// Nothing revoked is used because nothing else can be had.
func TestFT2_RevokedIsDroppedWithoutASuccessor(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			k := l.keeper(kind)
			l.revoke(l.ensure(k).Certificate, pki.KeyCompromise)
			away := errors.New("the token is gone")
			l.Key.Broken.Store(&away)
			err := k.Ensure(t.Context())
			if h := k.Health(); err == nil || k.Newest() != nil || h.Failed == nil || !h.NotAfter.IsZero() {
				t.Errorf("%v, %+v", err, h)
			}
			l.Key.Broken.Store(nil)
			if l.ensure(k); k.Health().Failed != nil {
				t.Errorf("healed, and still %+v", k.Health())
			}
		})
	}
}

// What cannot be renewed yet goes on, and its health says since when and why.
func TestHealthSaysWhatCannotBeRenewed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	k := l.keeper("ocsp")
	first := l.ensure(k).Certificate
	l.ahead.Store(int64(24 * 24 * time.Hour))
	away := errors.New("the token is gone")
	l.Key.Broken.Store(&away)
	if err := k.Ensure(t.Context()); err == nil || k.Newest().Certificate != first {
		t.Fatalf("%v", err)
	}
	if h := k.Health(); h.Failed != nil || !strings.Contains(h.Warning, "expires on") || !strings.Contains(h.Warning, "cannot be renewed since") {
		t.Errorf("%+v", h)
	}
	l.ahead.Store(int64(40 * 24 * time.Hour))
	_ = k.Ensure(t.Context())
	if h := k.Health(); h.Failed == nil || k.Newest() != nil {
		t.Errorf("expired: %+v", h)
	}
}

// What is not on record is nobody's certificate.
func TestNotOnRecord(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first := l.ensure(l.keeper("tls")).Certificate
	other := newLab(t)
	other.dir = l.dir
	if now := other.ensure(other.keeper("tls")).Certificate; now.Equal(first) {
		t.Error("a certificate of another database is used")
	}
}

// ill is a key whose device is away.
type ill struct {
	crypto.Signer
	why error
}

func (k *ill) Healthy() error { return k.why }

// FT7: the key is asked.
func TestFT7_HealthAsksTheKey(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	key := &ill{Signer: issuancetest.NewKey(t)}
	k := l.keeper("tls", func(c *Config) {
		c.Token = &Token{Ref: "pkcs11:token=lab;object=x", Open: func(context.Context) (crypto.Signer, error) { return key, nil }}
		c.Storage = memory{}
	})
	l.ensure(k)
	if h := k.Health(); h.Failed != nil {
		t.Fatal(h.Failed)
	}
	key.why = errors.New("no such token")
	if h := k.Health(); h.Failed == nil || !strings.Contains(fault.Of(h.Failed).Detail, "no such token") || h.NotAfter.IsZero() {
		t.Errorf("%+v", h)
	}
}

// memory keeps nothing.
type memory struct{}

func (memory) Load(_ context.Context, have []Generation) ([]Generation, error) { return have, nil }
func (memory) Keep(_ context.Context, all []Generation) ([]Generation, error)  { return all[:1], nil }

// A key in a token outlives certificates, but not its compromise: then a person is
// told what to do, and another object gets another key.
func TestFT2_KeyInAToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	in := func(name string) func(*Config) {
		ref := keys.Ref("file:" + filepath.Join(l.dir, name))
		return func(c *Config) {
			folder, ok := c.Storage.(*Folder)
			if !ok {
				t.Fatal("no folder")
			}
			c.Token = &Token{Ref: ref, Setting: "issuers[].ocsp.key", Open: func(ctx context.Context) (crypto.Signer, error) {
				return keys.Ensure(ctx, ref, "ec-p256", secret, keys.Config{})
			}}
			folder.Token = c.Token
		}
	}
	k := l.keeper("ocsp", in("a"))
	first := l.ensure(k).Certificate
	l.revoke(first, pki.Superseded)
	second := l.ensure(k).Certificate
	if second.Equal(first) || !bytes.Equal(first.RawSubjectPublicKeyInfo, second.RawSubjectPublicKeyInfo) {
		t.Error("want another certificate for the same key")
	}
	l.revoke(first, pki.KeyCompromise) // of the key that the second has too
	for _, k := range []*Keeper{k, l.keeper("ocsp", in("a"))} {
		err := k.Ensure(t.Context())
		if h := k.Health(); !fault.Is(err, fault.BadPublicKey) || k.Newest() != nil ||
			!strings.Contains(fault.Of(h.Failed).Detail, "name another object in issuers[].ocsp.key") || Impossible(h.Failed) {
			t.Errorf("%v, %+v", err, h)
		}
	}
	if l.ensure(l.keeper("ocsp", in("b"))) == nil {
		t.Error("another object has no certificate")
	}
}

// below names a CA and permits one subtree of the directory below it.
func below(subject pkix.Name, permitted string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		nc := pki.NameConstraints{Permitted: []pki.Subtree{{Type: pki.DirName, Value: permitted}}}
		value, err := nc.Marshal()
		if err != nil {
			panic(err)
		}
		c.Subject = subject
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: value})
	}
}

// FT15: where the directory is constrained, our names stand beside the CA's own;
// elsewhere they are as they were.
func TestFT15_NamesBelowDirectoryConstraints(t *testing.T) {
	t.Parallel()
	subject := pkix.Name{Country: []string{"DE"}, Province: []string{"Bayern"}, Organization: []string{"Example"}, CommonName: "Issuing CA"}
	free, bound := newLab(t), newLab(t, below(subject, "ST=Bayern,C=DE"))
	for _, kind := range kinds {
		want := map[string][2]string{
			"tls":  {"CN=ca.example.test", ""},
			"ocsp": {"CN=OCSP responder ca", "CN=OCSP responder ca,O=Example,ST=Bayern,C=DE"},
			"ra":   {"CN=SCEP RA default (encryption)", "CN=SCEP RA default (encryption),O=Example,ST=Bayern,C=DE"},
		}[kind]
		for i, l := range []*lab{free, bound} {
			name, err := pki.ParseNameDER(l.ensure(l.keeper(kind)).Certificate.RawSubject)
			if err != nil || name.String() != want[i] {
				t.Errorf("%s: %q, %v, want %q", kind, name, err, want[i])
			}
		}
	}
}

// FT15: a CA that certifies nothing of ours is told apart from one that is away.
func TestFT15_ImpossibleIsTold(t *testing.T) {
	t.Parallel()
	l := newLab(t, below(pkix.Name{Organization: []string{"Example"}, CommonName: "Issuing CA"}, "O=Elsewhere"))
	for _, kind := range []string{"ocsp", "ra"} {
		k := l.keeper(kind)
		if err := k.Ensure(t.Context()); !Impossible(err) || !Impossible(k.Health().Failed) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	l.ensure(l.keeper("tls"))
	away := errors.New("the token is gone")
	l.Key.Broken.Store(&away)
	l.dir = t.TempDir()
	if err := l.keeper("tls").Ensure(t.Context()); err == nil || Impossible(err) {
		t.Errorf("away: %v", err)
	}
}
