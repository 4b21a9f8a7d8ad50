package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/test/deviceclient"
	"github.com/privyseal/privyseal/test/lab"
)

// parties are the server and who writes to it: a holder of a certificate, who is
// the attacker, and somebody whose request he has captured.
type parties struct {
	http      *http.Client
	url       string
	endpoint  *deviceclient.SCEP
	holder    *deviceclient.Device
	victimCSR []byte
	ecCSR     []byte // signed by P-521, which is the slowest to verify
}

// Transactions: of the holder's enrolment, of another device's, and of nobody's.
const (
	own     = "transaction-a"
	others  = "transaction-b"
	nobodys = "transaction-c"
)

func newParties(ctx context.Context, server *lab.Server) (*parties, error) {
	hc, err := server.Client(16)
	if err != nil {
		return nil, err
	}
	secret, err := os.ReadFile(filepath.Join(server.Dir, "scep-challenge"))
	if err != nil {
		return nil, err
	}
	p := &parties{http: hc, url: "http://" + server.Addr.HTTP + "/scep/default"}
	if p.endpoint, err = deviceclient.NewSCEP(ctx, hc, p.url); err != nil {
		return nil, err
	}
	challenge := strings.TrimSpace(string(secret))
	if p.holder, _, err = p.enrol(ctx, own, "holder", challenge); err != nil {
		return nil, err
	}
	if _, p.victimCSR, err = p.enrol(ctx, others, "victim", challenge); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p.ecCSR, err = deviceclient.CSR(key, "victim")
	return p, err
}

func (p *parties) enrol(ctx context.Context, transaction, cn, challenge string) (*deviceclient.Device, []byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	device, err := deviceclient.NewDevice(key)
	if err != nil {
		return nil, nil, err
	}
	csr, err := deviceclient.ChallengeCSR(key, cn, challenge)
	if err != nil {
		return nil, nil, err
	}
	a, err := p.endpoint.Send(ctx, device, deviceclient.PKCSReq, transaction, csr)
	if err != nil {
		return nil, nil, err
	}
	if len(a.Certificates) == 0 {
		return nil, nil, fmt.Errorf("%s is not enrolled: %s", cn, a.Text)
	}
	return &deviceclient.Device{Key: key, Cert: a.Certificates[0]}, csr, nil
}

// kind is one way in which a message cannot be read.
type kind struct {
	name     string
	messages [][]byte
	late     time.Duration
	times    []float64 // seconds, by round
}

const reference = "CBC padding"

// kinds makes the messages of a type, the reference first and the late one last.
func (p *parties) kinds(typ string, s settings) ([]*kind, error) {
	makers := p.damages()
	contents := map[string][]byte{"a whole request": p.victimCSR, "nothing": {}}
	transactions := map[string]string{}
	switch typ {
	case "17", "18", "19":
		contents = p.requests()
	case "20":
		contents["wrong subject"] = p.issuerAndSubject("victim")
		contents["another's transaction"], transactions["another's transaction"] = p.issuerAndSubject("victim"), others
		contents["no transaction"], transactions["no transaction"] = p.issuerAndSubject("holder"), nobodys
	case "21", "22":
		contents["no such certificate"] = issuerAndSerial(p.endpoint.Bundle[0].RawIssuer, 7)
		contents["no such issuer"] = issuerAndSerial(p.endpoint.Bundle[0].RawSubject, 7)
	default:
		return nil, errors.New("no messageType that a client sends")
	}
	for name, content := range contents {
		makers[name] = func() ([]byte, error) { return p.encrypt(content, cms.AES128CBC) }
	}
	names := slices.Sorted(maps.Keys(makers))
	names = append([]string{reference}, slices.DeleteFunc(names, func(n string) bool { return n == reference })...)
	var all []*kind
	for _, name := range names {
		k := &kind{name: name, times: make([]float64, s.rounds)}
		transaction := own
		if t := transactions[name]; t != "" {
			transaction = t
		}
		for range s.variants {
			envelope, err := makers[name]()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			message, err := deviceclient.Sign(p.holder, typ, transaction, envelope)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			k.messages = append(k.messages, message)
		}
		all = append(all, k)
	}
	late := &kind{name: fmt.Sprintf("%s, %v late", reference, s.delay), messages: all[0].messages, late: s.delay,
		times: make([]float64, s.rounds)}
	return append(all, late), nil
}

// requests are contents that are not exactly one request whose own signature is
// right.
func (p *parties) requests() map[string][]byte {
	last := func(der []byte) []byte {
		der = slices.Clone(der)
		der[len(der)-1] ^= 1
		return der
	}
	return map[string][]byte{
		"nothing":         {},
		"PEM":             pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: p.victimCSR}),
		"an octet more":   append(slices.Clone(p.victimCSR), 0),
		"RSA signature":   last(p.victimCSR),
		"P-521 signature": last(p.ecCSR),
		"its subject":     bytes.Replace(p.victimCSR, []byte("victim"), []byte("victjm"), 1),
	}
}

func (p *parties) encrypt(content []byte, c cms.Cipher) ([]byte, error) {
	return cms.Encrypt(context.Background(), cms.OIDData, content, p.endpoint.Bundle[0], c, cms.KeyTransport{})
}

// damages break the envelope of the captured request.
func (p *parties) damages() map[string]func() ([]byte, error) {
	ra := p.endpoint.Bundle[0]
	change := func(c cms.Cipher, f func(envelope, key []byte) error) func() ([]byte, error) {
		return func() ([]byte, error) {
			envelope, err := p.encrypt(p.victimCSR, c)
			if err != nil {
				return nil, err
			}
			parsed, err := cms.ParseEnvelopedData(envelope, cms.Limits{})
			if err != nil {
				return nil, err
			}
			at := bytes.Index(envelope, parsed.EncryptedKey(ra))
			return envelope, f(envelope, envelope[at:at+len(parsed.EncryptedKey(ra))])
		}
	}
	flip := func(fromEnd int) func(envelope, key []byte) error {
		return func(envelope, _ []byte) error { envelope[len(envelope)-fromEnd] ^= 0x40; return nil }
	}
	key := func(octets int) func(envelope, key []byte) error {
		return func(_, key []byte) error { return wrap(ra, key, octets) }
	}
	return map[string]func() ([]byte, error){
		reference:                   change(cms.AES128CBC, flip(17)),
		"plaintext":                 change(cms.AES128CBC, flip(200)),
		"GCM tag":                   change(cms.AES128GCM, flip(1)),
		"another content key":       change(cms.AES128CBC, key(16)),
		"length of the content key": change(cms.AES128CBC, key(32)),
		"PKCS #1 padding":           change(cms.AES128CBC, key(0)),
	}
}

// wrap puts another content key, or for 0 octets a padding that is none, in the
// place of one.
func wrap(ra *x509.Certificate, in []byte, octets int) error {
	public, ok := ra.PublicKey.(*rsa.PublicKey)
	if !ok {
		return errors.New("the RA key is not RSA")
	}
	random := make([]byte, max(octets, public.Size()-1))
	_, _ = rand.Read(random) // never fails
	if octets == 0 {
		number := new(big.Int).SetBytes(append([]byte{0}, random...))
		number.Exp(number, big.NewInt(int64(public.E)), public.N).FillBytes(in)
		return nil
	}
	wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, public, random[:octets]) //nolint:staticcheck // what SCEP uses
	copy(in, wrapped)
	return err
}

func (p *parties) issuerAndSubject(cn string) []byte {
	csr := &x509.CertificateRequest{RawSubject: p.holder.Cert.RawSubject}
	csr.RawSubject = bytes.Replace(csr.RawSubject, []byte("holder"), []byte(cn), 1)
	return p.endpoint.IssuerAndSubject(csr)
}

func issuerAndSerial(issuer []byte, serial int64) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(issuer); b.AddASN1Int64(serial) })
	return b.BytesOrPanic()
}
