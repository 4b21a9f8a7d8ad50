package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	issued "github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// presented returns the certificate that a TLS listener presents.
func presented(t *testing.T, addr string) *x509.Certificate {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // to look at it
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return nil // it has none just now
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0] //nolint:forcetypeassert // a tls.Dialer's
}

// fetch is get for what may be away for a moment.
func (l *lab) fetch(t *testing.T, method, url string, body []byte) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return nil
	}
	return answer
}

// own returns a function for each certificate of the server's own that returns the
// one on the wire, nil if there is none just now.
func (l *lab) own(t *testing.T) map[string]func() *x509.Certificate {
	t.Helper()
	chain, err := config.ReadChain(filepath.Join(l.dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := presented(t, l.addr.https)
	query, err := ocsp.CreateRequest(leaf, chain[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func() *x509.Certificate{
		"https":     func() *x509.Certificate { return presented(t, l.addr.https) },
		"https-est": func() *x509.Certificate { return presented(t, l.addr.est) },
		"ocsp": func() *x509.Certificate {
			answered := l.fetch(t, http.MethodPost, "http://"+l.addr.http+"/ocsp/dev-a-1", query)
			answer, err := ocsp.ParseResponseForCert(answered, leaf, chain[0])
			if err != nil {
				return nil
			}
			return answer.Certificate
		},
		"scep": func() *x509.Certificate {
			certs := l.fetch(t, http.MethodGet, "http://"+l.addr.http+"/scep/default?operation=GetCACert", nil)
			bag, err := cms.ParseSignedData(certs, cms.Limits{})
			if err != nil {
				return nil
			}
			return bag.Certificates[0]
		},
	}
}

// Each certificate of the server's own that the operator API revokes for a
// compromise of its key is followed by another key within 40 s, without a reload,
// and stays away after a restart.
func TestFT2_RevokedOwnCertificateIsReplacedOnTheWire(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.serve(t)
	files := func() string {
		pem, err := os.ReadFile(filepath.Join(l.dir, "tls", "https.pem"))
		if err != nil {
			t.Fatal(err)
		}
		found, _ := filepath.Glob(filepath.Join(l.dir, "ocsp", "*.key"))
		return string(pem) + strings.Join(found, " ")
	}
	before := files()
	first, own := map[string]*x509.Certificate{}, l.own(t)
	for name, now := range own {
		if first[name] = now(); first[name] == nil {
			t.Fatalf("%s: nothing on the wire", name)
		}
	}
	c := l.client()
	defer c.Close()
	for _, cert := range first {
		serial := string(pki.SerialFromBig(cert.SerialNumber))
		if _, err := api.RevokeCertificate.Call(t.Context(), c,
			api.CertificateRef{Certificate: serial, Issuer: "dev-a-1"},
			api.RevokeRequest{Reason: "keyCompromise"}); err != nil {
			t.Fatal(err)
		}
	}
	second := map[string]*x509.Certificate{}
	for deadline := time.Now().Add(40 * time.Second); len(second) < len(own); time.Sleep(50 * time.Millisecond) {
		for name, now := range own {
			if got := now(); got != nil && !bytes.Equal(got.RawSubjectPublicKeyInfo, first[name].RawSubjectPublicKeyInfo) {
				second[name] = got
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 40 s there is another key for %d of %d only", len(second), len(own))
		}
	}
	after := files()
	for _, part := range strings.Fields(after) {
		if strings.HasSuffix(part, ".key") && strings.Contains(before, part) {
			t.Errorf("the key file %s is still there", part)
		}
	}
	if after == before || strings.Count(after, ".key") != 1 {
		t.Errorf("files: %s", after)
	}
	if status, h := l.readyz(t); status != http.StatusOK {
		t.Errorf("readyz: %d %+v", status, h)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	l.serve(t)
	for name, now := range l.own(t) {
		if got := now(); !second[name].Equal(got) {
			t.Errorf("%s: after a restart there is another one again", name)
		}
	}
}

// A certificate from a file is not ours to renew; when it is one of ours and
// revoked, or ends, health says so.
func TestFT2_CertificateFromAFile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.serve(t)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	p, err := owncert.File{
		Path: filepath.Join(l.dir, "tls", "https.pem"), Secret: config.Reference("file:secrets/state").Secret(l.dir),
	}.Read()
	if err != nil {
		t.Fatal(err)
	}
	ref := keys.Ref("file:" + filepath.Join(l.dir, "keys", "https.key"))
	if err := keys.Save(ref, p.Key, config.Reference("file:secrets/issuer").Secret(l.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "https.pem"), pki.EncodeChain(p.TLS().Certificate...), 0o600); err != nil {
		t.Fatal(err)
	}
	l.change(t, "    tls:\n      issuer: dev-a-1\n      names:\n        - localhost\n        - 127.0.0.1\n        - ::1\n",
		"    tls: {certificate: https.pem, key: 'file:keys/https.key', passphrase: 'file:secrets/issuer'}\n")
	l.serve(t)
	if status, h := l.readyz(t); status != http.StatusOK || check(t, h, "tls https").Detail != "" {
		t.Fatalf("%d %+v", status, h)
	}
	c := l.client()
	defer c.Close()
	serial := string(pki.SerialFromBig(p.Certificate.SerialNumber))
	if _, err := api.RevokeCertificate.Call(t.Context(), c,
		api.CertificateRef{Certificate: serial, Issuer: "dev-a-1"},
		api.RevokeRequest{Reason: "superseded"}); err != nil {
		t.Fatal(err)
	}
	_, h := l.readyz(t)
	if got := check(t, h, "tls https"); got.OK || !strings.Contains(got.Detail, "for superseded: put a new one into") {
		t.Errorf("%+v", got)
	}
}

// FT2 of a responder that an offline CA certified: what its list revokes signs no
// more, and health says what to do.
func TestFT2_ResponderOfAnOfflineCAIsWithdrawn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.certifyResponder(t, 120)
	h := l.serve(t).server
	cert, err := config.ReadChain(filepath.Join(l.dir, "root-ocsp.pem"))
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := config.ReadChain(filepath.Join(l.dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if got := l.ocsp(t, issuing[0], "dev-root"); got != ocsp.Good {
		t.Fatalf("status %d", got)
	}
	serial := pki.SerialFromBig(cert[0].SerialNumber)
	if err := ceremony.Revoke(t.Context(), l.root(t), ceremony.Revocation{Serial: serial, Reason: pki.KeyCompromise}); err != nil {
		t.Fatal(err)
	}
	list, err := ceremony.CRL(t.Context(), l.root(t), ceremony.CRLSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ImportCRL.Call(t.Context(), l.client(),
		api.None{}, api.CRLImport{CRL: api.CRLText(list)}); err != nil {
		t.Fatal(err)
	}
	if err := h.checkParents(t.Context()); err != nil {
		t.Fatal(err)
	}
	query, err := ocsp.CreateRequest(issuing[0], issuing[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := l.fetch(t, http.MethodPost, "http://"+l.addr.http+"/ocsp/dev-root", query)
	if _, err := ocsp.ParseResponse(answer, issuing[1]); err == nil {
		t.Error("the revoked responder signs")
	}
	_, ready := l.readyz(t)
	if got := check(t, ready, "ocsp dev-root"); got.OK || !strings.Contains(got.Detail, "revoked its responder certificate") {
		t.Errorf("%+v", got)
	}
}

// A CA below which our responder and RA are impossible fails its own checks; the
// server is ready for everybody else.
func TestFT15_OneImpossibleResponderIsNoReasonToBeAway(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	below := func(name string) ceremony.CASpec {
		permitted := profile.Subtrees{Directory: []string{name}}
		return ceremony.CASpec{NameConstraints: &profile.NameConstraints{Permitted: permitted}}
	}
	elsewhere, within := below("O=Elsewhere"), below("O=Privyseal Development")
	entry := l.newIssuerBelow(t, l.root(t), "narrow", elsewhere, "") + l.newIssuerBelow(t, l.root(t), "within", within, "")
	entry = strings.ReplaceAll(entry, "    ocsp: {signer: issuer}\n", "")
	l.change(t, "    certificate: chain.pem\n", "    certificate: chain.pem\n"+entry)
	l.serve(t)
	status, h := l.readyz(t)
	if got := check(t, h, "ocsp narrow"); status != http.StatusOK || !strings.Contains(got.Detail, "outside the permitted subtrees") {
		t.Errorf("readyz: %d %+v", status, h)
	}
	for _, name := range []string{"ocsp within", "ocsp dev-a-1", "scep scep"} {
		if got := check(t, h, name); !got.OK || got.Detail != "" {
			t.Errorf("%+v", got)
		}
	}
	_, told := l.get(t, "http://"+l.addr.ops+"/metrics")
	for id, want := range map[string]string{"narrow": "1", "within": "0", "dev-a-1": "0"} {
		if !strings.Contains(string(told), `privyseal_ocsp_responder_alarm{issuer="`+id+`"} `+want) {
			t.Errorf("alarm of %s is not %s", id, want)
		}
	}
}

// While the key of a responder is in a lost token, its check fails and its alarm
// is raised, whoever keeps the key.
func TestFT7_ResponderStateAsksTheKey(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.certifyResponder(t, 120)
	cert, err := config.ReadChain(filepath.Join(l.dir, "root-ocsp.pem"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := config.ReadChain(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ref := keys.Ref("file:" + filepath.Join(l.dir, "keys", "root-ocsp.key"))
	key, err := keys.Open(t.Context(), ref, config.Reference("file:secrets/issuer").Secret(l.dir), keys.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := issuer.NewResponder(root[0], cert[0], key)
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]issued.Answers{"root": {Signer: func() (*issuer.Responder, error) { return r, nil }}}
	set := ca.NewSet(&ca.CA{Declaration: ca.Declaration{ID: "root", Offline: true}})
	open := &openKey{Key: key}
	h := newServer(testEnv(io.Discard), nil, nil)
	h.signing.Store(&inForce{
		rules: issuance.Rules{CAs: set}, ocsp: &responders{answers: answers}, keys: map[string]*openKey{"ocsp-root": open},
	})
	if got := h.responderHealth(t.Context())[0]; got.State == health.Failed || got.Detail != "" {
		t.Fatalf("%+v", got)
	}
	if err := key.Close(); err != nil { // as a token that is lost
		t.Fatal(err)
	}
	if got := h.responderHealth(t.Context())[0]; got.State != health.Failed || !strings.Contains(got.Detail, "its key does not answer") {
		t.Errorf("%+v", got)
	}
	if s := h.responderStates()["root"]; s.Failed == nil || s.NotAfter.IsZero() {
		t.Errorf("no alarm: %+v", s)
	}
}

// TestFR8_DeviceWithoutECC: the EST listener has a certificate for devices that know
// RSA alone, keeps it through a restart, and another listener has one where it is asked to.
func TestFR8_DeviceWithoutECC(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	device := func(addr string) *x509.Certificate {
		d := tls.Dialer{Config: &tls.Config{ //nolint:gosec // to look at it
			InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		}}
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return nil
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0] //nolint:forcetypeassert // a tls.Dialer's
	}
	r := l.serve(t)
	got, other := device(l.addr.est), presented(t, l.addr.est)
	if got == nil || pki.KeyAlgorithm(got.PublicKey) != "rsa-2048" || pki.KeyAlgorithm(other.PublicKey) != "ec-p256" {
		t.Fatal("EST does not have both kinds")
	}
	if device(l.addr.https) != nil {
		t.Error("https has RSA without being asked")
	}
	if _, h := l.readyz(t); indexCheck(h, "tls https-est rsa") < 0 {
		t.Errorf("health does not know of it: %+v", h)
	}
	_, body := l.get(t, "http://"+l.addr.ops+"/metrics")
	for _, want := range []string{
		`privyseal_tls_handshake_failures_total{listener="https",reason="cipher"} 1`,
		`privyseal_ends_timestamp_seconds{id="https-est-rsa",kind="tls"}`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); !strings.Contains(log, `msg="TLS handshake failed"`) {
		t.Error("the log does not have the handshake that failed")
	}
	l.change(t, "    addr: "+l.addr.https+"\n    tls:\n", "    addr: "+l.addr.https+"\n    tls:\n      algorithms: [rsa-3072, ec-p384]\n")
	l.serve(t)
	if again := device(l.addr.est); again == nil || !again.Equal(got) {
		t.Error("after a restart EST has another one")
	}
	if c := device(l.addr.https); c == nil || pki.KeyAlgorithm(c.PublicKey) != "rsa-3072" {
		t.Error("https does not have what it is asked to")
	}
	if c := presented(t, l.addr.https); pki.KeyAlgorithm(c.PublicKey) != "rsa-3072" {
		t.Error("the first of the list is not preferred")
	}
}
