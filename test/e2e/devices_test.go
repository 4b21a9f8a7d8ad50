package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/test/deviceclient"
	"github.com/privyseal/privyseal/test/lab"
)

var deviceCount = flag.Int("devices", 10, "devices of TestDevices")

// fleet is many devices at one server.
type fleet struct {
	*site
	t       *testing.T
	est     string // URL
	scep    *deviceclient.SCEP
	secret  string // of the SCEP endpoint
	hc      *http.Client
	keys    []*rsa.PrivateKey // shared by the devices: RSA keys are dear
	devices []*fleetDevice
	retries atomic.Int64
}

// fleetDevice is one device with an EST and a SCEP identity.
type fleetDevice struct {
	n             int
	est           tls.Certificate
	first, second *x509.Certificate // of EST
	scep          *deviceclient.Device
	csr           []byte
	got           []*x509.Certificate // all that it was given, each once
}

// TestDevices: many devices enrol, renew, are revoked and refused over EST, and
// enrol, poll and renew over SCEP, each message sent twice and the server killed
// in the middle. Nothing is lost and nothing is there twice.
func TestDevices(t *testing.T) {
	each(t, func(t *testing.T, l *site) {
		f := newFleet(t, l)
		began := time.Now()
		f.all(t, f.enrolEST)
		f.all(t, f.renewEST)
		f.all(t, f.revokeEST)
		f.all(t, func(ctx context.Context, d *fleetDevice) error { return f.askSCEP(ctx, d, deviceclient.PKCSReq) })
		f.approve(t, len(f.devices))
		f.all(t, func(ctx context.Context, d *fleetDevice) error { return f.pollSCEP(ctx, d, deviceclient.PKCSReq) })
		f.all(t, func(ctx context.Context, d *fleetDevice) error { return f.askSCEP(ctx, d, deviceclient.RenewalReq) })
		f.approve(t, len(f.devices))
		f.all(t, func(ctx context.Context, d *fleetDevice) error { return f.pollSCEP(ctx, d, deviceclient.RenewalReq) })
		t.Logf("%d devices in %v, %d requests sent again after the server was killed", len(f.devices), time.Since(began).Round(time.Millisecond), f.retries.Load())
		f.count(t)
	})
}

func newFleet(t *testing.T, l *site) *fleet {
	t.Helper()
	config := string(read(t, l.config()))
	config = strings.Replace(config, "\nendpoints:\n", "\nendpoints:\n  - name: vetted\n    protocol: scep\n    issuer: dev-a-1\n    profiles: [vetted]\n"+
		"    scep:\n      challenge: file:scep-challenge\n", 1)
	config += "profiles:\n  vetted:\n    approval: true\n    subject: {fields: [{attribute: CN, request: required}]}\n    ext_key_usage: [clientAuth]\n"
	if err := os.WriteFile(l.config(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l.operate(t, "config", "reload")
	f := &fleet{site: l, t: t, est: "https://localhost:" + lab.Port(l.Addr.EST) + "/.well-known/est", hc: l.client(t, "")}
	f.secret = strings.TrimSpace(string(read(t, filepath.Join(l.Dir, "scep-challenge"))))
	var err error
	if f.scep, err = deviceclient.NewSCEP(t.Context(), f.hc, "http://"+l.Addr.HTTP+"/scep/vetted"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		f.keys = append(f.keys, key)
	}
	for n := range *deviceCount {
		d := &fleetDevice{n: n}
		if d.scep, err = deviceclient.NewDevice(f.keys[n%len(f.keys)]); err != nil {
			t.Fatal(err)
		}
		f.devices = append(f.devices, d)
	}
	return f
}

// all lets every device do one thing, some at a time.
func (f *fleet) all(t *testing.T, one func(context.Context, *fleetDevice) error) {
	t.Helper()
	var next atomic.Int64
	var working sync.WaitGroup
	for range 8 {
		working.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(f.devices); n = int(next.Add(1)) - 1 {
				if err := one(t.Context(), f.devices[n]); err != nil {
					t.Errorf("device %d: %v", n, err)
				}
			}
		})
	}
	working.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// patiently repeats what failed because the server was away.
func (f *fleet) patiently(ctx context.Context, one func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := one(ctx)
		status := new(deviceclient.StatusError)
		if err == nil || ctx.Err() != nil || errors.As(err, &status) && status.Code < 500 {
			return err
		}
		f.retries.Add(1)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// twice sends a request two times and wants one certificate.
func (f *fleet) twice(ctx context.Context, d *fleetDevice, e *deviceclient.EST, operation string, csr []byte) (*x509.Certificate, error) {
	var got [2]*x509.Certificate
	for i := range got {
		err := f.patiently(ctx, func(ctx context.Context) (err error) {
			got[i], err = e.Enrol(ctx, operation, csr)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", operation, err)
		}
	}
	if !got[0].Equal(got[1]) {
		return nil, fmt.Errorf("%s: the same request got two certificates", operation)
	}
	d.got = append(d.got, got[0])
	return got[0], nil
}

func (f *fleet) enrolEST(ctx context.Context, d *fleetDevice) error {
	if d.n == len(f.devices)/2 { // the others are in the midst of it
		f.Kill()
		if err := f.Start(); err != nil {
			return err
		}
		mind(f.t, f.Process)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := deviceclient.CSR(key, fmt.Sprintf("device-%d", d.n))
	if err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(f.Dir, "est-password"))
	if err != nil {
		return err
	}
	e := &deviceclient.EST{HTTP: f.hc, URL: f.est, User: "device", Password: strings.TrimSpace(string(password))}
	if d.first, err = f.twice(ctx, d, e, "simpleenroll", csr); err != nil {
		return err
	}
	d.est = tls.Certificate{Certificate: [][]byte{d.first.Raw}, PrivateKey: key}
	return nil
}

// as is EST with the device's certificate.
func (f *fleet) as(d *fleetDevice) (*deviceclient.EST, func()) {
	hc, err := f.Client(1)
	if err != nil {
		return &deviceclient.EST{HTTP: http.DefaultClient}, func() {}
	}
	if transport, ok := hc.Transport.(*http.Transport); ok {
		transport.TLSClientConfig.Certificates = []tls.Certificate{d.est}
	}
	return &deviceclient.EST{HTTP: hc, URL: f.est}, hc.CloseIdleConnections
}

func (f *fleet) renewEST(ctx context.Context, d *fleetDevice) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := deviceclient.CSR(key, fmt.Sprintf("device-%d", d.n))
	if err != nil {
		return err
	}
	e, end := f.as(d)
	defer end()
	if d.second, err = f.twice(ctx, d, e, "simplereenroll", csr); err != nil {
		return err
	}
	d.est = tls.Certificate{Certificate: [][]byte{d.second.Raw}, PrivateKey: key}
	return nil
}

// revokeEST has an operator revoke the device's certificate; it renews no more.
func (f *fleet) revokeEST(ctx context.Context, d *fleetDevice) error {
	operator := api.Dial(f.socket())
	defer operator.Close()
	if _, err := api.RevokeCertificate.Call(ctx, operator,
		api.CertificateRef{Certificate: d.second.SerialNumber.Text(16), Issuer: "dev-a-1"},
		api.RevokeRequest{Reason: "superseded"}); err != nil {
		return err
	}
	e, end := f.as(d)
	defer end()
	csr, err := deviceclient.CSR(f.keys[0], fmt.Sprintf("device-%d", d.n))
	if err != nil {
		return err
	}
	_, err = e.Enrol(ctx, "simplereenroll", csr)
	refused := new(deviceclient.StatusError)
	if !errors.As(err, &refused) || refused.Code != http.StatusForbidden || !strings.Contains(refused.Text, "certificate_revoked") {
		return fmt.Errorf("a revoked certificate renews: %w", err)
	}
	return nil
}

func (d *fleetDevice) transaction(typ string) string { return fmt.Sprintf("device-%d-%s", d.n, typ) }

// askSCEP sends a request that a person has to judge, twice.
func (f *fleet) askSCEP(ctx context.Context, d *fleetDevice, typ string) (err error) {
	challenge := f.secret
	if typ == deviceclient.RenewalReq {
		challenge = "" // the certificate is proof
	}
	if d.csr, err = deviceclient.ChallengeCSR(d.scep.Key, fmt.Sprintf("router-%d", d.n), challenge); err != nil {
		return err
	}
	for range 2 {
		a, err := f.scep.Send(ctx, d.scep, typ, d.transaction(typ), d.csr)
		if err != nil {
			return err
		}
		if a.Status != deviceclient.Pending {
			return fmt.Errorf("type %s: status %s: %s", typ, a.Status, a.Text)
		}
	}
	return nil
}

// approve approves everything that waits, which has to be so much.
func (f *fleet) approve(t *testing.T, want int) {
	t.Helper()
	operator := api.Dial(f.socket())
	defer operator.Close()
	var ids []string
	for p := (api.ListRequestsParams{Status: "pending", PageParams: api.PageParams{Limit: 500}}); ; {
		page, err := api.ListRequests.Call(t.Context(), operator, p, api.None{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Requests {
			ids = append(ids, r.ID)
		}
		if p.Cursor = page.Next; p.Cursor == "" {
			break
		}
	}
	if len(ids) != want {
		t.Fatalf("%d requests wait, want %d", len(ids), want)
	}
	for _, id := range ids {
		if _, err := api.ApproveRequest.Call(t.Context(), operator, api.IDRef{ID: id}, api.None{}); err != nil {
			t.Fatal(err)
		}
	}
}

// pollSCEP fetches what was approved, by CertPoll and by the request once more.
func (f *fleet) pollSCEP(ctx context.Context, d *fleetDevice, typ string) error {
	csr, err := x509.ParseCertificateRequest(d.csr)
	if err != nil {
		return err
	}
	polled, err := f.scep.Send(ctx, d.scep, deviceclient.CertPoll, d.transaction(typ), f.scep.IssuerAndSubject(csr))
	if err != nil {
		return err
	}
	again, err := f.scep.Send(ctx, d.scep, typ, d.transaction(typ), d.csr)
	if err != nil {
		return err
	}
	if polled.Status != deviceclient.Success || again.Status != deviceclient.Success || !polled.Certificates[0].Equal(again.Certificates[0]) {
		return fmt.Errorf("type %s: %+v and %+v", typ, polled, again)
	}
	d.scep.Cert = polled.Certificates[0]
	d.got = append(d.got, d.scep.Cert)
	return nil
}

// count holds what the devices have against what is on record.
func (f *fleet) count(t *testing.T) {
	t.Helper()
	operator := api.Dial(f.socket())
	defer operator.Close()
	onRecord, voids := map[string]api.Certificate{}, 0
	for _, c := range inventoryOf(t, operator) {
		switch {
		case c.Protocol != "est" && c.Protocol != "scep":
		case c.Status == "void" || c.Status == "abandoned":
			voids++ // under way when the server was killed, and handed to nobody
		default:
			onRecord[c.Serial] = c
		}
	}
	revoked := 0
	for _, d := range f.devices {
		if len(d.got) != 4 {
			t.Errorf("device %d has %d certificates, want 4", d.n, len(d.got))
		}
		for _, cert := range d.got {
			serial := fmt.Sprintf("%x", cert.SerialNumber.Bytes())
			c, ok := onRecord[serial]
			if !ok {
				t.Errorf("device %d: %s is not on record, or somebody else has it too", d.n, serial)
			}
			delete(onRecord, serial)
			if c.Status == "revoked" {
				revoked++
			}
			if want := bytes.Equal(cert.Raw, d.second.Raw); want != (c.Status == "revoked") {
				t.Errorf("device %d: %s is %s", d.n, serial, c.Status)
			}
		}
	}
	if len(onRecord) != 0 || revoked != len(f.devices) {
		t.Errorf("%d certificates that nobody has, %d revoked", len(onRecord), revoked)
	}
	t.Logf("%d certificates, %d revoked, %d begun and never handed out", 4*len(f.devices), revoked, voids)
}
