package admin_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// wantProblem checks that err is a problem of that status and reason.
func wantProblem(t *testing.T, err error, status int, reason string) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status || p.Reason != reason {
		t.Errorf("got %v, want %d because %q", err, status, reason)
		return
	}
	if p.RequestID == "" {
		t.Errorf("%v has no request id", err)
	}
}

func uid() string { return fmt.Sprintf("uid:%d", os.Getuid()) }

func issued(t *testing.T, c *api.Client, name string) *api.IssuedCertificate {
	t.Helper()
	cert, err := c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: admintest.CSR(t, name)})
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// The operator's way from a request to a revoked certificate, on both engines.
func TestIssueFindRevoke(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		s := admintest.Start(t, st, "web-a-1")
		c := s.Client(t)
		cert := issued(t, c, "www.a.test")

		chain, err := pki.ParseChain([]byte(cert.Chain))
		if err != nil || len(chain) != 2 {
			t.Fatalf("chain of %d, %v", len(chain), err)
		}
		roots, middle := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(s.Root)
		middle.AddCert(chain[1])
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, DNSName: "www.a.test"}); err != nil {
			t.Error(err)
		}

		for _, ref := range []string{cert.ID, cert.Serial, strings.ToUpper(cert.Serial)} {
			row, err := api.GetCertificate.Call(t.Context(), c, api.CertificateRef{Certificate: ref}, api.None{})
			if err != nil || row.ID != cert.ID || row.Status != api.StatusIssued || row.Requester != uid() ||
				row.Protocol != "operator" || row.Fingerprint != cert.Fingerprint || row.RequestID == "" {
				t.Errorf("Certificate(%s) = %+v, %v", ref, row, err)
			}
		}
		if text, err := c.PEM(t.Context(), cert.Serial, "web-a-1"); err != nil || string(text) != cert.Chain {
			t.Errorf("PEM: %v\n%s", err, text)
		}

		row, err := api.RevokeCertificate.Call(t.Context(), c,
			api.CertificateRef{Certificate: cert.Serial},
			api.RevokeRequest{Reason: "superseded", InvalidityAt: time.Now().Add(-time.Hour)})
		if err != nil || row.Status != api.StatusRevoked || row.Revocation.Reason != "superseded" || row.Revocation.Requester != uid() || row.Revocation.InvalidityAt.IsZero() {
			t.Errorf("Revoke = %+v, %v", row, err)
		}
		_, err = api.RevokeCertificate.Call(t.Context(), c,
			api.CertificateRef{Certificate: cert.Serial}, api.RevokeRequest{Reason: "superseded"})
		wantProblem(t, err, http.StatusConflict, "")

		page, err := api.ListAuditEvents.Call(t.Context(), c, api.PageParams{}, api.None{})
		if err != nil {
			t.Fatal(err)
		}
		var actions []string
		for _, e := range page.Events {
			actions = append(actions, e.Action)
			if e.Actor != uid() && e.Action == "certificate.revoked" {
				t.Errorf("%s by %q", e.Action, e.Actor)
			}
		}
		for _, want := range []string{"certificate.intent", "certificate.issued", "certificate.revoked"} {
			if !slices.Contains(actions, want) {
				t.Errorf("audit has %v, not %s", actions, want)
			}
		}
	})
}

func TestDryRunSignsAndStoresNothing(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	c := s.Client(t)
	s.KeyFails.Store(true)

	v, err := c.Preview(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: admintest.CSR(t, "www.a.test")})
	if err != nil || v.Verdict != api.DecisionIssue {
		t.Fatalf("%+v, %v", v, err)
	}
	tmpl := v.Template
	if tmpl.Profile != "tls-server" || tmpl.Issuer != "web-a-1" || tmpl.KeyAlgorithm != "ec-p256" || tmpl.CA ||
		!slices.Contains(tmpl.ExtKeyUsage, "serverAuth") || !slices.Contains(tmpl.KeyUsage, "digitalSignature") ||
		len(tmpl.Names) != 1 || tmpl.Names[0].Value != "www.a.test" || !tmpl.NotAfter.After(tmpl.NotBefore) {
		t.Errorf("template %+v", tmpl)
	}

	for name, r := range map[string]api.IssueRequest{
		"no names":        {Profile: "tls-server", CSR: admintest.CSR(t)},
		"unknown profile": {Profile: "boredom", CSR: admintest.CSR(t, "a.test")},
		"not PEM":         {Profile: "tls-server", CSR: "hello"},
		"no profile":      {CSR: admintest.CSR(t, "a.test")},
	} {
		if v, err := c.Preview(t.Context(), r); err != nil || v.Verdict != api.DecisionRefuse || v.Kind == "" || v.Detail == "" {
			t.Errorf("%s: %+v, %v; want a refusal", name, v, err)
		}
	}
	page, err := api.ListCertificates.Call(t.Context(), c, api.ListCertificatesParams{}, api.None{})
	if err != nil || len(page.Certificates) != 0 {
		t.Errorf("a dry run left %d rows, %v", len(page.Certificates), err)
	}
}

func TestIssueOverridesNames(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	cert, err := c.Issue(t.Context(), api.IssueRequest{
		Profile: "tls-server", CSR: admintest.CSR(t, "asked.test"),
		Names: []api.Identifier{{Type: "dns", Value: "given.test"}, {Type: "ip", Value: "192.0.2.7"}}, Subject: "CN=given.test",
		NotAfter: time.Now().Add(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseChain([]byte(cert.Chain))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := chain[0]; !slices.Equal(leaf.DNSNames, []string{"given.test"}) || len(leaf.IPAddresses) != 1 || leaf.Subject.CommonName != "given.test" ||
		time.Until(leaf.NotAfter) > 25*time.Hour {
		t.Errorf("leaf %v %v %v until %v", leaf.Subject, leaf.DNSNames, leaf.IPAddresses, leaf.NotAfter)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1", "web-b-1")
	c := s.Client(t)
	good := admintest.CSR(t, "a.test")
	block, _ := pem.Decode([]byte(good))
	for name, want := range map[string]struct {
		r      api.IssueRequest
		status int
		reason string
	}{
		"profile missing": {api.IssueRequest{CSR: good}, 400, "profile_missing"},
		"profile unknown": {api.IssueRequest{Profile: "x", CSR: good, Issuer: "web-a-1"}, 400, ""},
		"issuer missing":  {api.IssueRequest{Profile: "tls-server", CSR: good}, 400, "issuer_missing"},
		"issuer unknown":  {api.IssueRequest{Profile: "tls-server", CSR: good, Issuer: "x"}, 404, "issuer_unknown"},
		"not PEM":         {api.IssueRequest{Profile: "tls-server", CSR: "x"}, 400, "csr_not_pem"},
		"a certificate":   {api.IssueRequest{Profile: "tls-server", CSR: string(pki.EncodeChain(s.Root.Raw))}, 400, "csr_other_pem"},
		"two requests":    {api.IssueRequest{Profile: "tls-server", CSR: good + good}, 400, "csr_trailing"},
		"bad subject":     {api.IssueRequest{Profile: "tls-server", CSR: good, Issuer: "web-a-1", Subject: "=,="}, 400, "subject"},
	} {
		_, err := c.Issue(t.Context(), want.r)
		t.Run(name, func(t *testing.T) { wantProblem(t, err, want.status, want.reason) })
	}
	block.Bytes[len(block.Bytes)-1] ^= 1 // the request's own signature
	if _, err := c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "web-a-1", CSR: string(pem.EncodeToMemory(block))}); err == nil {
		t.Error("a request with a broken signature was taken")
	}

	s.KeyFails.Store(true)
	_, err := c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "web-a-1", CSR: good})
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || strings.Contains(p.Detail, "token is gone") {
		t.Errorf("a key that fails: %v", err)
	}
}

func TestSearchPages(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	for i := range 5 {
		issued(t, c, fmt.Sprintf("h%d.a.test", i))
	}
	other := issued(t, c, "h.b.test")
	var found []string
	p := api.ListCertificatesParams{
		CertificateFilter: api.CertificateFilter{Name: "*.a.test"}, PageParams: api.PageParams{Limit: 2},
	}
	for more := true; more; more = p.Cursor != "" {
		page, err := api.ListCertificates.Call(t.Context(), c, p, api.None{})
		if err != nil {
			t.Fatal(err)
		}
		for _, cert := range page.Certificates {
			found = append(found, cert.Names[0].Value)
		}
		p.Cursor = page.Next
	}
	if want := []string{"h4.a.test", "h3.a.test", "h2.a.test", "h1.a.test", "h0.a.test"}; !slices.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	search := func(f api.CertificateFilter) (*api.CertificatePage, error) {
		return api.ListCertificates.Call(t.Context(), c, api.ListCertificatesParams{CertificateFilter: f}, api.None{})
	}
	for _, filter := range []api.CertificateFilter{
		{Serial: other.Serial}, {Name: "b.test"}, {
			Name: "h.b", Profile: "tls-server", Issuer: "web-a-1", Status: api.StatusIssued, Requester: uid(),
			ExpiresAfter: time.Now(),
		},
	} {
		page, err := search(filter)
		if err != nil || len(page.Certificates) != 1 || page.Certificates[0].ID != other.ID {
			t.Errorf("%+v: %+v, %v", filter, page, err)
		}
	}
	page, err := search(api.CertificateFilter{ExpiresBefore: time.Now()})
	if err != nil || len(page.Certificates) != 0 {
		t.Errorf("expired by now: %d found, %v", len(page.Certificates), err)
	}
	_, err = search(api.CertificateFilter{Status: "lost"})
	wantProblem(t, err, 400, "status")
	tooMany := api.ListCertificatesParams{PageParams: api.PageParams{Limit: 1001}}
	_, err = api.ListCertificates.Call(t.Context(), c, tooMany, api.None{})
	wantProblem(t, err, 400, "limit")
	_, err = search(api.CertificateFilter{Serial: "xyz"})
	wantProblem(t, err, 400, "serial")
}

func TestExport(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	for i := range 3 {
		issued(t, c, fmt.Sprintf("h%d.test", i))
	}
	for format, mark := range map[api.ExportFormat]string{api.FormatCSV: "uid:", api.FormatJSONL: `"serial":`, api.FormatPEM: "BEGIN CERTIFICATE"} {
		body, err := api.ExportCertificates.Call(t.Context(), c,
			api.ExportCertificatesParams{Format: format}, api.None{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(body.Body)
		if n := strings.Count(string(text), mark); err != nil || n != 3 {
			t.Errorf("%s: %d certificates, %v", format, n, err)
		}
		_ = body.Body.Close()
	}
	_, err := api.ExportCertificates.Call(t.Context(), c, api.ExportCertificatesParams{Format: "xml"}, api.None{})
	wantProblem(t, err, 400, "format")
	_, err = api.ExportCertificates.Call(t.Context(), c,
		api.ExportCertificatesParams{
			Format: api.FormatCSV, CertificateFilter: api.CertificateFilter{Status: "lost"},
		}, api.None{})
	wantProblem(t, err, 400, "status")
}

func TestEABKeys(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	ctx := t.Context()
	secret, err := api.CreateEABKey.Call(ctx, c,
		api.None{}, api.NewEABKey{
			Description: "team", Endpoint: "eab", Profiles: []string{"tls-server"}, Names: []string{"*.a.test"},
		})
	if err != nil || len(secret.HMAC) != 86 || secret.Key.MaxUses != 1 || secret.Key.CreatedBy != uid() || secret.Key.Status != "active" {
		t.Fatalf("%+v, %v", secret, err)
	}
	unlimited := 0
	if other, err := api.CreateEABKey.Call(ctx, c, api.None{}, api.NewEABKey{
		AnyName: true, MaxUses: &unlimited, ExpiresAt: time.Now().Add(time.Hour),
	}); err != nil || other.Key.MaxUses != 0 {
		t.Fatalf("%+v, %v", other, err)
	}
	var kids []string
	for p := (api.PageParams{Limit: 1}); ; {
		page, err := api.ListEABKeys.Call(ctx, c, p, api.None{})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			kids = append(kids, k.KID)
		}
		if p.Cursor = page.Next; p.Cursor == "" {
			break
		}
	}
	if len(kids) != 2 {
		t.Errorf("listed %v", kids)
	}
	if k, err := api.DisableEABKey.Call(ctx, c,
		api.EABKeyRef{KID: secret.KID}, api.None{}); err != nil || k.Status != "disabled" {
		t.Errorf("%+v, %v", k, err)
	}
	_, err = api.DisableEABKey.Call(ctx, c, api.EABKeyRef{KID: "nobody"}, api.None{})
	wantProblem(t, err, 404, "eab_unknown")
	_, err = api.CreateEABKey.Call(ctx, c, api.None{}, api.NewEABKey{Endpoint: "x"})
	wantProblem(t, err, 400, "endpoint_unknown")
	_, err = api.CreateEABKey.Call(ctx, c, api.None{}, api.NewEABKey{Profiles: []string{"x"}})
	wantProblem(t, err, 400, "profile_unknown")
	_, err = api.CreateEABKey.Call(ctx, c, api.None{}, api.NewEABKey{ExpiresAt: time.Now().Add(-time.Hour)})
	wantProblem(t, err, 400, "eab_expiry")
	_, err = api.CreateEABKey.Call(ctx, c, api.None{}, api.NewEABKey{Names: []string{"*"}})
	wantProblem(t, err, 400, "eab_name_pattern")
	_, err = api.CreateEABKey.Call(ctx, c, api.None{}, api.NewEABKey{})
	wantProblem(t, err, 400, "eab_unbound")
	_, err = api.CreateESTUser.Call(ctx, c, api.None{}, api.NewESTUser{Name: "d"})
	wantProblem(t, err, 400, "est_user_unbound")
	_, err = api.CreateSCEPChallenge.Call(ctx, c, api.None{}, api.NewSCEPChallenge{Names: []string{"a.test"}, AnyName: true})
	wantProblem(t, err, 400, "scep_challenge_any_name")
}

func TestSystem(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	c := s.Client(t)
	ctx := t.Context()
	list, err := api.ListIssuers.Call(ctx, c, api.None{}, api.None{})
	if err != nil || len(list.Issuers) != 2 || list.Issuers[1].ID != "web-a-1" && list.Issuers[0].ID != "web-a-1" ||
		!strings.Contains(list.Issuers[0].Certificate, "BEGIN CERTIFICATE") {
		t.Errorf("%+v, %v", list, err)
	}
	if v, err := api.GetVersion.Call(ctx, c, api.None{}, api.None{}); err != nil || v.Version != "v0-test" {
		t.Errorf("%+v, %v", v, err)
	}
	if h, err := api.GetHealth.Call(ctx, c, api.None{}, api.None{}); err != nil || !h.Ready || len(h.Checks) != 1 {
		t.Errorf("%+v, %v", h, err)
	}
	if r, err := api.ReloadConfig.Call(ctx, c,
		api.None{}, api.None{}); err != nil || !r.Changed || r.ConfigDigest != "d1g357" {
		t.Errorf("%+v, %v", r, err)
	}
	refusal := errors.New("privyseal.yaml:7:3: unknown key \"profle\"")
	s.ReloadErr.Store(&refusal)
	_, err = api.ReloadConfig.Call(ctx, c, api.None{}, api.None{})
	wantProblem(t, err, 400, "config_refused")
	if !strings.Contains(err.Error(), "privyseal.yaml:7:3") {
		t.Errorf("the operator does not learn what is wrong: %v", err)
	}
	restart := error(fault.New(fault.Conflict, "database: a change here needs a restart").Because("restart_needed"))
	s.ReloadErr.Store(&restart)
	_, err = api.ReloadConfig.Call(ctx, c, api.None{}, api.None{})
	wantProblem(t, err, 409, "restart_needed")
	page, err := api.ListAuditEvents.Call(ctx, c, api.PageParams{Limit: 1}, api.None{})
	if err != nil || len(page.Events) != 1 || page.Next == "" || page.Events[0].Action != "config.reloaded" || page.Events[0].Outcome != "refused" || page.Events[0].Actor != uid() {
		t.Errorf("%+v, %v", page, err)
	}
	if page, err = api.ListAuditEvents.Call(ctx, c,
		api.PageParams{Cursor: page.Next}, api.None{}); err != nil || len(page.Events) != 2 ||
		page.Events[1].Outcome != "success" {
		t.Errorf("%+v, %v", page, err)
	}
	_, err = api.ListAuditEvents.Call(ctx, c, api.PageParams{Cursor: "*"}, api.None{})
	wantProblem(t, err, 400, "")
}

// Whoever does not come over the unix socket has no uid and gets nothing.
func TestNobodyWithoutAPeer(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	for _, path := range []string{"/v1/version", "/v1/certificates", "/nowhere"} {
		w := httptest.NewRecorder()
		s.Admin.Routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d, want 401", path, w.Code)
		}
	}
}

func TestNewWantsEverything(t *testing.T) {
	t.Parallel()
	if _, err := admin.New(admin.Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

// A certificate that was never handed out has no PEM.
func TestReservedHasNoPEM(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	c := s.Client(t)
	s.KeyFails.Store(true)
	_, _ = c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: admintest.CSROf(t, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "a.test"}, DNSNames: []string{"a.test"},
	})})
	page, err := api.ListCertificates.Call(t.Context(), c, api.ListCertificatesParams{}, api.None{})
	if err != nil || len(page.Certificates) == 0 {
		t.Fatalf("%v, %v", page, err)
	}
	_, err = c.PEM(t.Context(), page.Certificates[0].ID, "")
	wantProblem(t, err, 404, "never_issued")
	_, err = api.RevokeCertificate.Call(t.Context(), c,
		api.CertificateRef{Certificate: page.Certificates[0].ID}, api.RevokeRequest{})
	wantProblem(t, err, 404, "")
}
