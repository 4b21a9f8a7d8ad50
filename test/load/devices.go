package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/test/deviceclient"
	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/meter"
)

// operations are the signature and key operations of the server for one
// certificate, which nothing can spare.
type operations struct {
	signEC, verifyEC      int
	privateRSA, publicRSA int // of 2048 bits
}

// deviceFloors are those of each kind of request. EST: the request's signature, the
// draft that is linted, the certificate, and a look at it. SCEP, with an RSA
// device and RA, beside that: the message's and the request's signature, the
// envelope, the answer's envelope and signature. A new connection: the server's
// signature, and a key agreement on each side, which is left out here.
var deviceFloors = map[string]operations{
	"EST simpleenroll, kept connections": {signEC: 2, verifyEC: 2},
	"EST simpleenroll, new connections":  {signEC: 3, verifyEC: 2},
	"SCEP PKCSReq":                       {signEC: 2, verifyEC: 1, privateRSA: 2, publicRSA: 3},
}

// time measures the operations in this process, on all processors at once as the
// server works, and returns their CPU time.
func (o operations) time(key *rsa.PrivateKey) (time.Duration, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	digest := sha256.Sum256([]byte("privyseal"))
	signature, err := ecdsa.SignASN1(rand.Reader, ec, digest[:])
	if err != nil {
		return 0, err
	}
	rsaSignature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		return 0, err
	}
	const rounds = 300
	var working sync.WaitGroup
	before := ownCPU()
	for range runtime.NumCPU() {
		working.Go(func() {
			for range rounds { // all of them succeeded above
				for range o.signEC {
					_, _ = ecdsa.SignASN1(rand.Reader, ec, digest[:])
				}
				for range o.verifyEC {
					_ = ecdsa.VerifyASN1(&ec.PublicKey, digest[:], signature)
				}
				for range o.privateRSA {
					_, _ = rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
				}
				for range o.publicRSA {
					_ = rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], rsaSignature)
				}
			}
		})
	}
	working.Wait()
	return (ownCPU() - before) / time.Duration(rounds*runtime.NumCPU()), nil
}

// devices measures EST and SCEP against one server. Requests are made before the
// clock starts, so that the clients need little of the processors.
func devices(ctx context.Context, s settings, engine, binary, dir string) (ok bool, err error) {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return false, err
	}
	server, database, end, err := start(engine, binary, dir)
	if err != nil {
		return false, err
	}
	defer end()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return false, err
	}
	ok = true
	for i, phase := range []struct {
		name string
		send func(context.Context, settings, *lab.Server, *rsa.PrivateKey) (sender, error)
	}{
		{"EST simpleenroll, kept connections", estSender(true)},
		{"EST simpleenroll, new connections", estSender(false)},
		{"SCEP PKCSReq", scepSender},
	} {
		send, err := phase.send(ctx, s, server, key)
		if err != nil {
			return false, err
		}
		low, err := deviceFloors[phase.name].time(key)
		if err != nil {
			return false, err
		}
		l := &load{settings: s, server: server, database: database, dir: filepath.Join(dir, fmt.Sprint("phase-", i+1))}
		if err := os.Mkdir(l.dir, 0o755); err != nil {
			return false, err
		}
		l.send(ctx, send)
		l.printDevices(engine, phase.name, binary, low)
		ok = ok && l.failed.Load() == 0
	}
	return ok, errors.Join(server.Stop(), server.Verify())
}

// sender sends the request of a number and checks the answer. more is how many
// there are.
type sender struct {
	one  func(ctx context.Context, n int) error
	more int
}

func (l *load) send(ctx context.Context, s sender) {
	var next atomic.Int64
	serverBefore, databaseBefore, began := meter.CPU(l.server.PID()), meter.TreeCPU(l.database), time.Now()
	var profiling, working sync.WaitGroup
	profiling.Go(func() { l.profile, l.profileErr = profile(l.server.Addr.Ops, l.dir, l.duration*3/4) })
	for range l.clients {
		working.Go(func() {
			for ctx.Err() == nil && time.Since(began) < l.duration {
				n := int(next.Add(1)) - 1
				if n >= s.more {
					return
				}
				at := time.Now()
				if err := s.one(ctx, n); err != nil {
					if l.failed.Add(1) <= 5 {
						fmt.Fprintln(os.Stderr, "load:", err)
					}
					continue
				}
				l.issued.Add(1)
				l.steps.Add("one request", time.Since(at))
			}
		})
	}
	working.Wait()
	l.took = time.Since(began)
	l.serverCPU, l.databaseCPU = meter.CPU(l.server.PID())-serverBefore, meter.TreeCPU(l.database)-databaseBefore
	profiling.Wait()
}

func (l *load) printDevices(engine, what, binary string, low time.Duration) {
	n := l.issued.Load()
	fmt.Printf("%s, %s, %d clients: %d certificates in %.1f s, %d failed\n", engine, what, l.clients, n,
		l.took.Seconds(), l.failed.Load())
	if n == 0 {
		return
	}
	per := func(d time.Duration) float64 { return ms(d) / float64(n) }
	o := deviceFloors[what]
	fmt.Printf("  rate                 %8.1f certs/s\n", float64(n)/l.took.Seconds())
	fmt.Printf("  floor                %8.2f ms: P-256 signatures %d, verifications %d; RSA-2048 private %d, public "+
		"%d\n",
		ms(low), o.signEC, o.verifyEC, o.privateRSA, o.publicRSA)
	fmt.Printf("  server CPU           %8.2f ms for one certificate, %.2f × the floor\n", per(l.serverCPU),
		per(l.serverCPU)/ms(low))
	if l.database != 0 {
		fmt.Printf("  PostgreSQL CPU       %8.2f ms for one certificate\n", per(l.databaseCPU))
	}
	fmt.Printf("  server peak RSS      %8.1f MiB\n", meter.PeakRSS(l.server.PID()))
	p50, p99 := l.steps.Quantiles("one request")
	fmt.Printf("  one request          %8.1f ms p50 %8.1f ms p99\n", p50, p99)
	l.printBudget(binary, per(l.serverCPU))
}

// estSender enrols new devices by a password.
func estSender(kept bool) func(context.Context, settings, *lab.Server, *rsa.PrivateKey) (sender, error) {
	return func(_ context.Context, s settings, server *lab.Server, _ *rsa.PrivateKey) (sender, error) {
		password, err := os.ReadFile(filepath.Join(server.Dir, "est-password"))
		if err != nil {
			return sender{}, err
		}
		hc, err := server.Client(s.clients)
		if err != nil {
			return sender{}, err
		}
		if t, ok := hc.Transport.(*http.Transport); ok {
			t.DisableKeepAlives = !kept
		}
		est := &deviceclient.EST{
			HTTP: hc, URL: "https://localhost:" + lab.Port(server.Addr.EST) + "/.well-known/est", User: "device",
			Password: strings.TrimSpace(string(password)),
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return sender{}, err
		}
		csrs, err := prepare(s.prepared, func(n int) ([]byte,
			error) {
			return deviceclient.CSR(key, fmt.Sprintf("e%t-%d", kept, n))
		})
		return sender{more: len(csrs), one: func(ctx context.Context, n int) error {
			_, err := est.Enrol(ctx, "simpleenroll", csrs[n])
			return err
		}}, err
	}
}

// scepSender enrols by the shared challenge. Every hundredth answer is opened.
func scepSender(ctx context.Context, s settings, server *lab.Server, key *rsa.PrivateKey) (sender, error) {
	secret, err := os.ReadFile(filepath.Join(server.Dir, "scep-challenge"))
	if err != nil {
		return sender{}, err
	}
	hc, err := server.Client(s.clients)
	if err != nil {
		return sender{}, err
	}
	endpoint, err := deviceclient.NewSCEP(ctx, hc, "http://"+server.Addr.HTTP+"/scep/default")
	if err != nil {
		return sender{}, err
	}
	device, err := deviceclient.NewDevice(key)
	if err != nil {
		return sender{}, err
	}
	messages, err := prepare(s.prepared, func(n int) ([]byte, error) {
		csr, err := deviceclient.ChallengeCSR(key, fmt.Sprintf("s-%d", n), strings.TrimSpace(string(secret)))
		if err != nil {
			return nil, err
		}
		return endpoint.Message(device, deviceclient.PKCSReq, fmt.Sprintf("t-%d", n), csr)
	})
	return sender{more: len(messages), one: func(ctx context.Context, n int) error {
		open := endpoint.Post
		if n%100 != 0 {
			open = endpoint.PostUnopened
		}
		a, err := open(ctx, device, fmt.Sprintf("t-%d", n), messages[n])
		if err == nil && a.Status != deviceclient.Success {
			err = fmt.Errorf("status %s: %s", a.Status, a.Text)
		}
		return err
	}}, err
}

// prepare makes n requests on all processors.
func prepare(n int, one func(n int) ([]byte, error)) ([][]byte, error) {
	all, wrong := make([][]byte, n), make([]error, n)
	var next atomic.Int64
	var working sync.WaitGroup
	for range runtime.NumCPU() {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				all[i], wrong[i] = one(i)
			}
		})
	}
	working.Wait()
	return all, errors.Join(wrong...)
}
