package server

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/verify"
)

// refused wants a problem with a status and a reason.
func refused(t *testing.T, err error, status int, reason string) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status || p.Reason != reason {
		t.Errorf("got %v, want %d because of %s", err, status, reason)
	}
}

// holds runs the whole-store oracle.
func (srv *server) holds(t *testing.T) {
	t.Helper()
	report, err := verify.CheckCA(t.Context(), srv.store, verify.Config{
		Now: time.Now(), AuditKeys: []crypto.PublicKey{srv.auditKey.Public()},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("verify: %s", f)
	}
}

// An online CA between the root and the issuing one certifies it through the same
// door, after a second operator has approved, and signs no leaves itself.
func TestG2_22_G2_23_OnlineMiddleCA(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	policy := l.newIssuerBelow(t, l.root(t), "policy-1", ceremony.CASpec{PathLen: 1}, "")
	l.change(t, "issuers:\n", "issuers:\n"+policy+strings.TrimPrefix(secondIssuer, "issuers:\n"))
	h := l.serve(t).server
	c := l.client()
	defer c.Close()
	_, err := c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "policy-1", CSR: newCSR(t, "a.localhost")})
	refused(t, err, 403, "middle_ca_issuance_forbidden")
	csr, err := api.CreateIssuerCSR.Call(t.Context(), c, api.IssuerRef{Issuer: "web-b"}, api.NewIssuerCSR{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Issue(t.Context(), api.IssueRequest{Profile: "issuing-ca", Issuer: "policy-1", CSR: csr.CSR})
	refused(t, err, 202, "approval_pending")
	page, err := api.ListRequests.Call(t.Context(), c, api.ListRequestsParams{}, api.None{})
	if err != nil || len(page.Requests) != 1 {
		t.Fatalf("requests: %+v, %v", page, err)
	}
	id := page.Requests[0].ID
	_, err = api.ApproveRequest.Call(t.Context(), c, api.IDRef{ID: id}, api.None{})
	refused(t, err, 403, "own_request")
	v, err := h.approvals.Approve(t.Context(), id, approval.Actor{Name: "uid:4242"})
	if err != nil || v.State != "issued" {
		t.Fatalf("approval by another operator: %+v, %v", v, err)
	}
	chain, err := c.PEM(t.Context(), v.CertificateID, "")
	if err != nil {
		t.Fatal(err)
	}
	done, err := api.InstallIssuer.Call(t.Context(), c, api.IssuerRef{Issuer: "web-b"},
		api.IssuerCertificate{Certificate: string(chain), NoTranscript: true})
	if err != nil || done.Installed.Issuer.Parent != "policy-1" {
		t.Fatalf("install: %+v, %v", done, err)
	}
	leaf, err := c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "web-b", CSR: newCSR(t, "a.localhost")})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(leaf.Chain, "BEGIN"); n != 3 {
		t.Errorf("the chain has %d certificates, want leaf, web-b and policy-1", n)
	}
	// Below an issuing CA there is none, whoever approves.
	_, err = c.Issue(t.Context(), api.IssueRequest{Profile: "issuing-ca", Issuer: "web-b", CSR: csr.CSR})
	refused(t, err, 403, "path_length")
	h.holds(t)
}

// An issuer that its parent's list revokes signs nothing; its pool goes on.
func TestG2_06_PoolGoesOnWithoutARevokedIssuer(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pool(t, l.newIssuer(t, "dev-b-1", "    pool: web\n"))
	h := l.serve(t).server
	a1 := l.issue(t, "dev-a-1")
	l.revoke(t, "dev-a-1")
	if err := h.checkParents(t.Context()); err != nil {
		t.Fatal(err)
	}
	b1 := l.issue(t, "dev-b-1")
	if err := h.tendTLS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if own := presented(t, l.addr.https); !bytes.Equal(own.RawIssuer, b1.RawIssuer) {
		t.Errorf("the listener presents a certificate of %s", own.Issuer)
	}
	_, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "dev-a-1", CSR: newCSR(t, "a.localhost")})
	refused(t, err, 503, "issuer_revoked")
	status, answer := l.readyz(t)
	if a := check(t, answer, "issuer dev-a-1"); status != 200 || !strings.Contains(a.Detail, "dev-root has revoked") {
		t.Errorf("readyz: %d %+v", status, a)
	}
	if a1.Issuer.CommonName == "" {
		t.Error("no issuer")
	}
	l.revoke(t, "dev-b-1")
	if err := h.checkParents(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: newCSR(t, "a.localhost")})
	refused(t, err, 503, "issuer_revoked")
	if status, _ := l.readyz(t); status != 503 {
		t.Errorf("nobody signs, and readyz says %d", status)
	}
}

// A list that comes between the preparing of a change and its being put in force
// holds afterwards too.
func TestG2_06_RevokedWhileAChangeIsPrepared(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.serve(t).server
	h.changing.Lock()
	defer h.changing.Unlock()
	cfg := h.cfg.Load()
	prepared, err := h.prepare(t.Context(), cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	l.revoke(t, "dev-a-1")
	h.putInForce(t.Context(), cfg, prepared)
	_, err = l.client().Issue(t.Context(), api.IssueRequest{
		Profile: "tls-server", Issuer: "dev-a-1", CSR: newCSR(t, "a.localhost"),
	})
	refused(t, err, 503, "issuer_revoked")
}

// revoke enters an issuer's certificate as revoked at the root, and imports the
// root's list.
func (l *lab) revoke(t *testing.T, id string) {
	t.Helper()
	_, der := l.get(t, "http://"+l.addr.http+"/issuers/"+id+".cer")
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	root := l.root(t)
	if err := ceremony.Revoke(t.Context(), root, ceremony.Revocation{Serial: pki.SerialFromBig(cert.SerialNumber), Reason: pki.KeyCompromise}); err != nil {
		t.Fatal(err)
	}
	list, err := ceremony.CRL(t.Context(), root, ceremony.CRLSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ImportCRL.Call(t.Context(), l.client(),
		api.None{}, api.CRLImport{CRL: api.CRLText(list)}); err != nil {
		t.Fatal(err)
	}
}

// foreign is a root that other software made, with a CA of ours below it.
type foreign struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newForeign(t *testing.T, cn string) *foreign {
	t.Helper()
	f := &foreign{}
	var err error
	if f.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	f.cert = f.sign(t, template, template, f.key.Public())
	return f
}

func (f *foreign) sign(t *testing.T, template, parent *x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	return pkitest.Certify(t, template, parent, public, f.key)
}

// below makes an issuer whose certificate the foreign root signs, and returns its
// entry of the configuration.
func (f *foreign) below(t *testing.T, l *lab, id string) string {
	t.Helper()
	ref := keys.Ref("file:" + filepath.Join(l.dir, "keys", id+".key"))
	key, err := keys.Generate(ref, "ec-p256", config.Reference("file:secrets/issuer").Secret(l.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()                    //nolint:errcheck // a file's key has nothing to release
	cert := f.sign(t, &x509.Certificate{ // as other CAs make them: no path length, no usages
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Issuing " + id}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		CRLDistributionPoints: []string{"http://foreign.example/root.crl"},
	}, f.cert, key.Public())
	if err := os.WriteFile(filepath.Join(l.dir, id+".pem"), pki.EncodeChain(cert.Raw, f.cert.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("  - id: %s\n    key: file:keys/%s.key\n    passphrase: file:secrets/issuer\n    certificate: %s.pem\n", id, id, id)
}

// Several roots live in one server, one of them foreign: what one of them does or
// suffers does not touch the other's.
func TestG1_21_G2_26_RootsDoNotMix(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	other := newForeign(t, "Foreign Root")
	l.change(t, "issuers:\n", "issuers:\n"+other.below(t, l, "bulb-1"))
	h := l.serve(t).server
	ours, err := x509.ParseCertificate(h.signing.Load().cas().Get(devca.Root).Certificate().Raw)
	if err != nil {
		t.Fatal(err)
	}
	for issuer, root := range map[string]*x509.Certificate{"dev-a-1": ours, "bulb-1": other.cert} {
		made, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: issuer, CSR: newCSR(t, "a.localhost")})
		if err != nil {
			t.Fatal(err)
		}
		chain, err := pki.ParseChain([]byte(made.Chain))
		if err != nil {
			t.Fatal(err)
		}
		between := x509.NewCertPool()
		for _, c := range chain[1:] {
			between.AddCert(c)
		}
		for _, r := range []*x509.Certificate{ours, other.cert} {
			pool := x509.NewCertPool()
			pool.AddCert(r)
			_, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between})
			if (err == nil) != (r == root) {
				t.Errorf("leaf of %s under %s: %v", issuer, r.Subject, err)
			}
		}
		_, der := l.get(t, "http://"+l.addr.http+"/crl/"+issuer+".crl")
		list, err := x509.ParseRevocationList(der)
		if err != nil || list.CheckSignatureFrom(chain[1]) != nil {
			t.Errorf("list of %s: %v", issuer, err)
		}
	}
	// A revocation in one hierarchy stops that one only.
	l.revoke(t, "dev-a-1")
	if err := h.checkParents(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "bulb-1", CSR: newCSR(t, "b.localhost")}); err != nil {
		t.Errorf("the other hierarchy: %v", err)
	}
	_, body := l.get(t, "http://"+l.addr.http+"/roots.pem")
	roots, err := pki.ParseChain(body)
	if err != nil || len(roots) != 2 || !slices.ContainsFunc(roots, other.cert.Equal) {
		t.Errorf("roots.pem: %d, %v", len(roots), err)
	}
	h.holds(t)
}

// A second root that certifies the issuer too gives it another chain, by a file of
// the configuration.
func TestX6_CrossSignedChainsAreOffered(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	own, err := config.ReadChain(filepath.Join(l.dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	other := newForeign(t, "Other Root")
	crossed := *own[0]
	crossed.SerialNumber, crossed.AuthorityKeyId = big.NewInt(77), nil
	cross := other.sign(t, &crossed, other.cert, own[0].PublicKey)
	write := func(name string, certs ...*x509.Certificate) {
		var text []byte
		for _, c := range certs {
			text = append(text, pki.EncodeChain(c.Raw)...)
		}
		if err := os.WriteFile(filepath.Join(l.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cross.pem", cross, other.cert)
	l.change(t, "    certificate: chain.pem\n", "    certificate: chain.pem\n    chains: [cross.pem]\n")
	h := l.serve(t).server
	made, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: newCSR(t, "a.localhost")})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := h.pipeline.Certificate(t.Context(), made.ID)
	if err != nil || len(cert.Alternates) != 1 || string(cert.Alternates[0][0]) != string(cross.Raw) {
		t.Errorf("alternates of the certificate: %+v, %v", cert, err)
	}
	block, _ := pem.Decode([]byte(made.Chain))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.CheckSignatureFrom(cross) != nil {
		t.Errorf("the leaf under the cross-certificate: %v", err)
	}
	for name, certs := range map[string][]*x509.Certificate{"other key": {other.cert}, "no root": {cross}} {
		write("cross.pem", certs...)
		if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err == nil {
			t.Errorf("%s: the chain was taken", name)
		}
	}
}
