package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	authorities "github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

const issuerID = "bench-1"

// runServer is the responder as `privyseal serve` builds it: a P-256 CA, a
// delegate, SQLite, the listener's own limits. It serves until it is killed.
func runServer(dir string) error {
	ctx := context.Background()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := store.Open(ctx, store.Config{URL: "sqlite:" + filepath.Join(dir, "bench.db"), Node: "bench"})
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	secret := func() ([]byte, error) { return []byte("bench"), nil }
	ca, pipeline, err := authority(ctx, db, dir, secret, quiet)
	if err != nil {
		return err
	}
	delegate := ocsp.NewDelegate(ocsp.DelegateConfig{
		Folder: owncert.Folder{
			IssuerID: issuerID, Node: "bench", Dir: filepath.Join(dir, "ocsp"), Secret: secret, Store: db,
			Now: time.Now, Log: quiet,
		},
		Pipeline: pipeline,
	})
	if err := delegate.Ensure(ctx); err != nil {
		return err
	}
	server := ocsp.New(ocsp.Config{Store: db, Now: time.Now, Log: quiet})
	err = server.Swap(pipeline.Rules().CAs,
		map[string]ocsp.Answers{issuerID: {Signer: delegate.Responder, Policy: ocsp.Policy{
			Mode: ocsp.Live, Validity: 24 * time.Hour, Unknown: ocsp.UnknownUnauthorized, Cache: 100 << 20,
		}}})
	if err != nil {
		return err
	}
	go func() { _ = server.Run(ctx) }()
	ln, err := web.Listen(ctx, "http", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web.Start(ln, http.NotFoundHandler(), web.Config{
		Name: "http", Limits: web.DefaultLimits(), Log: quiet, Now: time.Now, Observe: func(web.Event) {},
		Direct: server.Direct,
	})
	s, err := prepare(ctx, pipeline, ca, ln.Addr().String())
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return err
	}
	select {}
}

// authority makes a root, a CA and the pipeline that issues under it.
func authority(
	ctx context.Context, db *store.Store, dir string, secret keys.Secret, log *slog.Logger,
) (*x509.Certificate, *issuance.Pipeline, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := keys.Generate(keys.Ref("file:"+filepath.Join(dir, "ca.key")), "ec-p256", secret)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bench Root"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	root, err := certify(template, template, rootKey.Public(), rootKey)
	if err != nil {
		return nil, nil, err
	}
	below := *template
	below.SerialNumber, below.Subject, below.NotAfter, below.MaxPathLenZero = big.NewInt(2),
		pkix.Name{CommonName: "Bench CA"}, time.Now().AddDate(5, 0, 0), true
	ca, err := certify(&below, root, key.Public(), rootKey)
	if err != nil {
		return nil, nil, err
	}
	parent := ""
	for _, r := range []struct {
		id   string
		cert *x509.Certificate
	}{{"root", root}, {issuerID, ca}} {
		err := db.PutIssuer(ctx, store.IssuerRecord{ID: r.id, Name: r.id, Generation: 1, State: "active",
			ParentID:    parent,
			Certificate: r.cert.Raw, Subject: r.cert.Subject.String(), NotAfter: r.cert.NotAfter,
			CreatedAt: time.Now()})
		if err != nil {
			return nil, nil, err
		}
		parent = r.id
	}
	base := "http://ca.test/"
	i, err := issuer.New(issuerID, []*x509.Certificate{ca, root}, key, issuer.Locations{
		CRL: base + "crl/" + issuerID + ".crl", OCSP: base + "ocsp/" + issuerID, CAIssuers: base + "issuers/" +
			issuerID + ".cer",
	})
	if err != nil {
		return nil, nil, err
	}
	rules := issuance.Rules{Profiles: map[string]*profile.Profile{}, CAs: authorities.NewSet(authorities.Of(i))}
	for name, cfg := range profile.BuiltIn() {
		if rules.Profiles[name], err = profile.Compile(name, cfg); err != nil {
			return nil, nil, err
		}
	}
	p := issuance.New(issuance.Config{Store: db, Node: "bench", Now: time.Now, Log: log})
	p.Swap(rules)
	return ca, p, nil
}

func certify(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// prepare issues a certificate, asks about it once and writes down the requests
// of the load.
func prepare(ctx context.Context, p *issuance.Pipeline, ca *x509.Certificate, addr string) (*setup, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c, err := p.Issue(ctx, issuance.Request{
		Protocol: "operator", Profile: "tls-server", Issuer: issuerID, Origin: "request:bench", PublicKey: key.Public(),
		Names: []pki.Identifier{{Type: pki.DNS, Value: "www.bench.test"}}, Subject: &pki.Name{}, Requester: "uid:0",
	})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, err
	}
	der, err := xocsp.CreateRequest(leaf, ca, &xocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		return nil, err
	}
	path := "/ocsp/" + issuerID + "/"
	res, err := http.Post("http://"+addr+path, "application/ocsp-request", bytes.NewReader(der)) //nolint:noctx // our own server
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	if _, err := xocsp.ParseResponseForCert(body, leaf, ca); err != nil {
		return nil, err
	}
	s := &setup{
		Addr: addr, Body: body, Get: getRequest(addr, path+url.PathEscape(base64.StdEncoding.EncodeToString(der))),
		Post:  postRequest(addr, path, der),
		Nonce: postRequest(addr, path, withNonce(der)),
	}
	s.At = len(s.Nonce) - 16
	return s, nil
}

// withNonce adds a nonce of 16 octets to a request without extensions: its last
// octets.
func withNonce(der []byte) []byte {
	nonce := append([]byte{0x06, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2, 0x04, 18, 0x04, 16}, make([]byte, 16)...)
	extensions := wrap(0xa2, wrap(0x30, wrap(0x30, nonce)))
	tbs := content(content(der)) // of OCSPRequest, then of TBSRequest
	return wrap(0x30, wrap(0x30, append(bytes.Clone(tbs), extensions...)))
}

func wrap(tag byte, value []byte) []byte {
	if len(value) < 128 {
		return append([]byte{tag, byte(len(value))}, value...)
	}
	return append([]byte{tag, 0x81, byte(len(value))}, value...)
}

func content(der []byte) []byte {
	if der[1] < 128 {
		return der[2:]
	}
	return der[3:]
}
