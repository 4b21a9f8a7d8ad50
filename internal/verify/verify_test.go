package verify_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/verify"
)

// issued makes a CA with a root and one issuing CA and issues n certificates.
func issued(t *testing.T, s *store.Store, n int) {
	t.Helper()
	secret := func() ([]byte, error) { return []byte("correct horse"), nil }
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	root := create(t, template, template, rootKey.Public(), rootKey)
	key, err := keys.Generate(keys.Ref("file:"+t.TempDir()+"/issuing.key"), "ec-p256", secret)
	if err != nil {
		t.Fatal(err)
	}
	issuing := create(t, &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{CommonName: "Issuing"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, root, key.Public(), rootKey)
	for _, r := range []store.IssuerRecord{
		{ID: "root", Name: "root", State: "offline", Certificate: root.Raw, Subject: "CN=Root", NotAfter: root.NotAfter, CreatedAt: now},
		{ID: "web-1", Name: "web", Generation: 1, State: "active", ParentID: "root", Certificate: issuing.Raw,
			Subject: "CN=Issuing", NotAfter: issuing.NotAfter, CreatedAt: now},
	} {
		if err := s.PutIssuer(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	iss, err := issuer.New("web-1", []*x509.Certificate{issuing, root}, key, issuer.Locations{
		CRL: "http://issuing.test/crl/web-1.crl", OCSP: "http://issuing.test/ocsp/web-1",
		CAIssuers: "http://issuing.test/issuers/web-1.cer",
	})
	if err != nil {
		t.Fatal(err)
	}
	prof, err := profile.Compile("tls-server", profile.BuiltIn()["tls-server"])
	if err != nil {
		t.Fatal(err)
	}
	p := issuance.New(issuance.Config{Store: s, Node: "node-1", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	p.Swap(issuance.Rules{
		Profiles: map[string]*profile.Profile{"tls-server": prof}, CAs: ca.NewSet(ca.Of(iss)),
	})
	list(t, s, iss)
	for range n {
		_, err := p.Issue(t.Context(), issuance.Request{
			Protocol: "operator", Profile: "tls-server", Issuer: "web-1", Origin: "request:" + store.NewID(),
			PublicKey: rootKey.Public(), Names: []pki.Identifier{{Type: pki.DNS, Value: "a.example.test"}}, Requester: "uid:0",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// list publishes an empty list of the issuer.
func list(t *testing.T, s *store.Store, iss *issuer.Issuer) {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	number, err := s.NextCRLNumber(t.Context(), iss.ID(), now, 0)
	if err != nil {
		t.Fatal(err)
	}
	der, err := iss.SignCRL(t.Context(), issuer.CRL{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 7)})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	err = s.PutCRL(t.Context(), store.CRLRecord{
		IssuerID: iss.ID(), Number: number, ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 7), SHA256: sum[:], Size: int64(len(der)),
	}, 0, bytes.NewReader(der))
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, template, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	return pkitest.Certify(t, template, parent, pub, key)
}

// foreign is a certificate of another CA, in hexadecimal for SQL.
func foreign(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	return create(t, template, template, key.Public(), key).Raw
}

func TestCheckCAFindsEachBrokenInvariant(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper string
		want   string // part of a finding; empty for none
	}{
		"whole":                     {`SELECT 1`, ""},
		"1: no intent":              {`UPDATE audit_events SET subject = 'x' WHERE action = 'certificate.intent'`, "invariant 1"},
		"1: status unknown":         {`UPDATE certificates SET status = 'odd'`, "none that exists"},
		"1: void without a row":     {`UPDATE certificates SET status = 'void'`, "not entered as revoked"},
		"1: abandoned but signed":   {`UPDATE certificates SET status = 'abandoned'`, "abandoned, but has a signature"},
		"2: serial differs":         {`UPDATE certificates SET serial = SUBSTR(serial, 1, 36)`, "invariant 2"},
		"3: another's signature":    {`UPDATE certificates SET der = $FOREIGN`, "does not verify to its issuer"},
		"3: not a certificate":      {`UPDATE certificates SET der = tbs_or_junk`, "cannot be parsed"},
		"3: names differ":           {`UPDATE certificates SET names = '[{"type":"dns","value":"b.example.test"}]'`, "its names"},
		"3: issuer gone":            {`DELETE FROM issuers WHERE id = 'web-1'`, "is not installed"},
		"3: chain broken":           {`DELETE FROM issuers WHERE id = 'root'`, "does not reach a root"},
		"4: origin without subject": {`INSERT INTO origins (origin, certificate_id) VALUES ('order:9', 'gone')`, "invariant 4"},
		"5: revoked, not on it": {`INSERT INTO revocations (certificate_id, issuer_id, serial, shard, not_after, reason, revoked_at, seq, requester)
			SELECT id, issuer_id, serial, shard, not_after, 1, reserved_at, 0, 'x' FROM certificates`, "is revoked and not on it"},
		"5: octets altered": {`UPDATE crls SET sha256 = tbs_or_junk`, "not those that were published"},
		"5: number unknown": {`UPDATE issuers SET last_crl_number = 1`, "was never taken"},
		"5: piece missing":  {`DELETE FROM crl_chunks`, "a part of it is missing"},
		"5: expired":        {`UPDATE crls SET next_update = this_update`, "no newer one came"},
		"7: event altered":  {`UPDATE audit_events SET outcome = 'x' WHERE seq = 2`, "invariant 7"},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
				issued(t, s, 2)
				literal := func(b []byte) string {
					if strings.HasPrefix(url, "sqlite:") {
						return "x'" + hex.EncodeToString(b) + "'"
					}
					return `'\x` + hex.EncodeToString(b) + `'`
				}
				sql := strings.NewReplacer("$FOREIGN", literal(foreign(t)), "tbs_or_junk", literal([]byte("junk"))).Replace(tt.tamper)
				storetest.Exec(t, url, sql)
				report, err := verify.CheckCA(t.Context(), s, verify.Config{Now: time.Now()})
				if err != nil {
					t.Fatal(err)
				}
				var all []string
				for _, f := range report.Findings {
					all = append(all, f.String())
				}
				text := strings.Join(all, "\n")
				if tt.want == "" && text != "" || !strings.Contains(text, tt.want) {
					t.Errorf("findings:\n%s\nwant one with %q", text, tt.want)
				}
				if report.Certificates != 2 {
					t.Errorf("%d certificates looked at, want 2", report.Certificates)
				}
			})
		})
	}
}

// A reservation, and an order in processing, are findings only once they are
// older than what the door allows them.
func TestCheckCAKnowsWhatIsUnderWay(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		issued(t, s, 1)
		storetest.Exec(t, url, `UPDATE certificates SET status = 'reserved'`)
		for later, want := range map[time.Duration]int{time.Second: 0, 3 * time.Minute: 1} {
			report, err := verify.CheckCA(t.Context(), s, verify.Config{Now: time.Now().Add(later)})
			if err != nil || len(report.Findings) != want {
				t.Errorf("after %v: %v, %v; want %d findings", later, report, err, want)
			}
		}
	})
}

// An order that waits for a person is a finding when there is nothing that a
// person could decide, and when it was approved and nobody finishes it.
func TestCheckCAKnowsOrdersThatWait(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx, now := t.Context(), time.Now()
		noErr := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.CreateAccount(ctx, store.Account{ID: "a", Thumbprint: "t", JWK: []byte(`{}`), Status: "valid", CreatedAt: now}, nil, store.Event{At: now})
		noErr(err)
		noErr(s.CreateOrder(ctx, store.Order{ID: "o", AccountID: "a", Status: "pending", Expires: now.Add(24 * time.Hour), CreatedAt: now}, nil, nil))
		storetest.Exec(t, url, `UPDATE orders SET status = 'waiting'`)
		findings := func(at time.Time) (n int) {
			t.Helper()
			report, err := verify.CheckCA(ctx, s, verify.Config{Now: at})
			noErr(err)
			for _, f := range report.Findings {
				if strings.Contains(f.String(), "order o: it waits for an approval") {
					n++
				}
			}
			return n
		}
		if findings(now) != 1 {
			t.Error("an order that waits for nothing was not found")
		}
		digest := []byte{1}
		noErr(s.PutRequest(ctx, store.Request{
			ID: "r", Origin: "order:o", Identity: "account:a", CSRDigest: digest, TransactionID: "order:o", Protocol: "acme", TemplateDigest: digest,
			Status: store.RequestPending, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour),
		}, store.Event{At: now}))
		if findings(now.Add(time.Hour)) != 0 {
			t.Error("an order that a person may yet decide is a finding")
		}
		noErr(s.DecideRequest(ctx, "r", store.Decision{Status: store.RequestApproved, At: now, Digest: digest, Expires: now.Add(24 * time.Hour)}, store.Event{At: now}))
		if findings(now.Add(30*time.Second)) != 0 || findings(now.Add(2*time.Minute)) != 1 {
			t.Error("an approved order is a finding once it is not finished in a minute, and not before")
		}
	})
}
