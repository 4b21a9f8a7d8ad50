package health

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/store"
)

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

type key struct{ *ecdsa.PrivateKey }

func (k key) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Sign(rand.Reader, digest, opts)
}

func newKey(t *testing.T) key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{k}
}

func certificate(
	t *testing.T, cn string, from, until time.Time, parent *x509.Certificate, pub crypto.PublicKey, by key,
) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(from.Unix() + int64(len(cn))), Subject: pkix.Name{CommonName: cn},
		NotBefore: from, NotAfter: until, IsCA: true,
		BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = template
	}
	return pkitest.Certify(t, template, parent, pub, by)
}

// inputs are a root of twenty years and the issuers a-1 and b-1 of the pool "web",
// ten years each, of which a-1 ends when it is told to.
func inputs(t *testing.T, end time.Time) ca.Inputs {
	t.Helper()
	rootKey := newKey(t)
	root := certificate(t, "Root", now.AddDate(-1, 0, 0), now.AddDate(19, 0, 0), nil, rootKey.Public(), rootKey)
	in := ca.Inputs{Keys: map[string]issuer.Signer{}, Lost: map[string]error{}, Now: now}
	in.Declared = []ca.Declaration{{ID: "root", Offline: true}}
	in.Records = []store.IssuerRecord{ca.NewRecord("root", "", ca.OfflineRow, root, now)}
	for id, until := range map[string]time.Time{"a-1": end, "b-1": now.AddDate(9, 0, 0)} {
		k := newKey(t)
		c := certificate(t, id, now.AddDate(-1, 0, 0), until, root, k.Public(), rootKey)
		in.Declared = append(in.Declared, ca.Declaration{ID: id, Pool: "web"})
		in.Records = append(in.Records, ca.NewRecord(id, "root", string(ca.Active), c, now))
		in.Keys[id] = k
	}
	return in
}

func checks(in ca.Inputs, needed bool) map[string]Check {
	set := ca.Build(in)
	c := CAs{
		Set: func() *ca.Set { return set }, Now: func() time.Time { return in.Now },
		Needs: func(string) ([]string, bool) {
			if !needed {
				return nil, false
			}
			return []string{"https"}, true
		},
		Longest: func(string) time.Duration { return 397 * day },
	}
	all := map[string]Check{}
	for _, check := range c.Checks(context.Background()) {
		all[check.Name] = check
	}
	return all
}

// TestFT6_BadNewsIsNotOK: what is known of a CA never stands under ok.
func TestFT6_BadNewsIsNotOK(t *testing.T) {
	t.Parallel()
	long := now.AddDate(9, 0, 0)
	for name, tt := range map[string]struct {
		end    time.Time
		change func(in *ca.Inputs)
		needed bool
		check  string
		state  State
		says   string
		needs  int
	}{
		"all is well":            {long, func(*ca.Inputs) {}, true, "issuer a-1", "", "", 0},
		"twelve days left":       {now.Add(12 * day), func(*ca.Inputs) {}, true, "issuer a-1", Warning, "in 12 days", 0},
		"leaves are cut":         {now.Add(396 * day), func(*ca.Inputs) {}, true, "issuer a-1", Warning, "certificates of 397 days are cut", 0},
		"it has expired":         {now.Add(-day), func(*ca.Inputs) {}, true, "issuer a-1", Warning, "has expired", 0},
		"revoked, pool goes on":  {long, revoke("a-1"), true, "issuer a-1", Warning, "stolen", 0},
		"all of a pool revoked":  {long, revoke("a-1", "b-1"), true, "issuer a-1", Failed, "stolen", 1},
		"revoked, nobody asks":   {long, revoke("a-1", "b-1"), false, "issuer a-1", Warning, "stolen", 0},
		"pool without a signer":  {long, revoke("a-1", "b-1"), true, "pool web", Failed, "", 1},
		"key lost, pool goes on": {long, lose("a-1"), true, "issuer a-1", Warning, "CKR_TOKEN_NOT_PRESENT", 0},
		"keys lost":              {long, lose("a-1", "b-1"), true, "issuer a-1", Failed, "CKR_TOKEN_NOT_PRESENT", 1},
		"broken, nobody asks": {long, func(in *ca.Inputs) {
			in.Declared = append(in.Declared, ca.Declaration{ID: "broken"})
			in.Records = append(in.Records, store.IssuerRecord{ID: "broken", State: "active", Certificate: []byte("x")})
		}, false, "issuer broken", Failed, "not taken in", 0},
		"keys lost, for operators alone": {long, lose("a-1", "b-1"), false, "issuer a-1", Failed, "CKR_TOKEN_NOT_PRESENT", 1},
		"waits for its certificate": {long, func(in *ca.Inputs) {
			in.Declared = append(in.Declared, ca.Declaration{ID: "next"})
		}, false, "issuer next", Warning, "no certificate yet", 0},
		"root has expired": {long, func(in *ca.Inputs) { in.Now = now.AddDate(20, 0, 0) }, true, "ca root", Failed, "has expired", 0},
		"root ends soon":   {long, func(in *ca.Inputs) { in.Now = now.AddDate(18, 10, 0) }, true, "ca root", Warning, "ends on", 0},
		"forgotten": {long, func(in *ca.Inputs) {
			in.Declared = in.Declared[:1]
		}, false, "ca a-1", Warning, "not in the configuration", 0},
		"none is installed": {long, func(in *ca.Inputs) { in.Records = nil }, true, "issuers", Failed, "none is installed", 1},
	} {
		in := inputs(t, tt.end)
		tt.change(&in)
		got, ok := checks(in, tt.needed)[tt.check]
		if !ok || got.State != tt.state || !strings.Contains(got.Detail, tt.says) || len(got.Needs) != tt.needs {
			t.Errorf("%s: %+v, want %q and …%s…, needed by %d", name, got, tt.state, tt.says, tt.needs)
		}
		if got.State != "" && got.Remedy == "" && tt.check != "pool web" {
			t.Errorf("%s: it says nowhere what to do: %+v", name, got)
		}
	}
}

func revoke(ids ...string) func(*ca.Inputs) {
	return func(in *ca.Inputs) {
		in.Revoked = map[string]ca.Trust{}
		for _, id := range ids {
			in.Revoked[id] = ca.Trust{State: ca.Revoked, Why: "stolen", Since: now.Add(-day)}
		}
	}
}

func lose(ids ...string) func(*ca.Inputs) {
	return func(in *ca.Inputs) {
		for _, id := range ids {
			delete(in.Keys, id)
			in.Lost[id] = errors.New("CKR_TOKEN_NOT_PRESENT")
		}
	}
}

func TestFT6_Lists(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lists []crl.Status
		state State
	}{
		"current":        {[]crl.Status{{Name: "a", State: crl.StateCurrent}}, ""},
		"being made":     {[]crl.Status{{Name: "a", State: crl.StateMissing}}, ""},
		"aging":          {[]crl.Status{{Name: "a", State: crl.StateAging}}, Warning},
		"never imported": {[]crl.Status{{Name: "root", State: crl.StateMissing, Offline: true}}, Warning},
		"expired":        {[]crl.Status{{Name: "root", State: crl.StateExpired, Offline: true}, {Name: "a", State: crl.StateAging}}, Failed},
		"lost":           {[]crl.Status{{Name: "a", State: crl.StateCurrent, Lost: 1, Issuer: "a"}}, Failed},
		"refused":        {[]crl.Status{{Name: "a", State: crl.StateCurrent, Refused: "was an old backup restored?"}}, Failed},
	} {
		got := Lists(func() []crl.Status { return tt.lists }, func(id string) []string { return []string{"needs " + id} })(t.Context())
		if len(got) != 1 || got[0].State != tt.state || (tt.state != "") != (got[0].Remedy != "") ||
			(name == "lost") != (len(got[0].Needs) > 0) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestFT8_ReadinessPerListener: a database that is away takes ACME away, and not
// the lists.
func TestFT8_ReadinessPerListener(t *testing.T) {
	t.Parallel()
	at := now
	b := &Board{Now: func() time.Time { return at }}
	down := true
	b.Ask(func(context.Context) []Check {
		if !down {
			return []Check{{Name: "database"}}
		}
		return []Check{{Name: "database", State: Failed, Needs: []string{"https"}}}
	})
	b.Ask(func(context.Context) []Check { return []Check{{Name: "lists", State: Failed}} })
	handler := b.Readyz([]string{"http", "https"})
	ask := func(query string) (int, api.Health) {
		t.Helper()
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz"+query, nil))
		var r api.Health
		if w.Code != http.StatusNotFound {
			if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
		}
		return w.Code, r
	}
	for query, want := range map[string]int{"": 503, "?listener=https": 503, "?listener=http": 200, "?listener=smtp": 404} {
		if got, _ := ask(query); got != want {
			t.Errorf("%q: %d, want %d", query, got, want)
		}
	}
	at = at.Add(time.Hour)
	if _, r := ask(""); r.State != string(Failed) || !r.Checks[0].Since.Equal(now) {
		t.Errorf("since when: %+v", r.Checks[0])
	}
	down = false
	if code, r := ask(""); code != 200 || r.State != string(Failed) || !r.Ready || !r.Checks[0].Since.IsZero() {
		t.Errorf("with the database back: %d %+v", code, r)
	}
	b.Set(Check{Name: "server", State: Failed, Detail: "stopping", Needs: []string{All}})
	if code, _ := ask("?listener=http"); code != 503 {
		t.Errorf("while it stops: %d", code)
	}
	b.Clear("server")
	if code, _ := ask("?listener=http"); code != 200 {
		t.Errorf("when it is cleared: %d", code)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	set := ca.Build(inputs(t, now.AddDate(5, 0, 0)))
	b := &Board{Now: func() time.Time { return now }}
	b.AskEnds(CAs{Set: func() *ca.Set { return set }}.Ends)
	b.AskEnds(ListEnds(func() []crl.Status {
		return []crl.Status{{Name: "a", NextUpdate: now, State: crl.StateCurrent}, {State: crl.StateMissing}}
	}))
	kinds := map[string]int{}
	for _, e := range b.Ends() {
		kinds[e.Kind]++
	}
	if kinds["ca"] != 3 || kinds["list"] != 1 {
		t.Errorf("%v", kinds)
	}
}
