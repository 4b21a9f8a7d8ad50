//go:build cgo

// Package keys measures signatures through internal/keys beside the same
// signatures through the PKCS#11 library under it, in one process and in turns,
// so that what else the machine does meets both.
package keys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

var (
	rounds  = flag.Int("rounds", 41, "rounds of each measurement, a tenth of a second for each side")
	results = flag.String("results", "", "file to write the table to")
)

// BenchmarkKeys prints signatures per second of the clock and of processor time
// (which a busy machine disturbs less): the medians of all rounds, and of the
// rounds' ratios.
func BenchmarkKeys(b *testing.B) {
	tok := hsmtest.New(b)
	var table strings.Builder
	fmt.Fprintf(&table, "SoftHSM, %s, %s/%s, %d processors; signatures/s, medians of %d rounds\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *rounds)
	fmt.Fprintf(&table, "| key | callers | internal/keys | raw PKCS#11 | ratio | ratio per processor second |\n|---|---:|---:|---:|---:|---:|\n")
	for _, alg := range []string{"ec-p256", "rsa-2048"} {
		key, err := keys.Generate(keys.Ref(tok.Ref(alg)), alg, tok.Secret)
		if err != nil {
			b.Fatal(err)
		}
		for _, callers := range []int{1, 8, 32} {
			raw := newBare(b, tok, alg, callers)
			var ours, theirs, ratios, cpu []float64
			for i := range *rounds {
				var o, r rate
				if i%2 == 0 {
					o = measure(b, callers, signer(key))
				}
				r = measure(b, callers, raw.sign)
				if i%2 == 1 {
					o = measure(b, callers, signer(key))
				}
				ours, theirs = append(ours, o.clock), append(theirs, r.clock)
				ratios, cpu = append(ratios, o.clock/r.clock), append(cpu, o.processor/r.processor)
			}
			fmt.Fprintf(&table, "| %s | %d | %.0f | %.0f | %.2f | %.2f |\n", alg, callers, median(ours), median(theirs), median(ratios), median(cpu))
			raw.close(b)
		}
		if err := key.Close(); err != nil {
			b.Fatal(err)
		}
	}
	fmt.Print("\n" + table.String()) //nolint:forbidigo // what it is for
	if *results != "" {
		if err := os.WriteFile(*results, []byte("# Signatures through internal/keys\n\n"+table.String()), 0o644); err != nil { //nolint:gosec // a document
			b.Fatal(err)
		}
	}
}

var input = sha256.Sum256([]byte("message"))

// signer signs as an issuer does. Every caller uses the one key.
func signer(k *keys.Key) func(int) error {
	return func(int) error {
		_, err := k.SignContext(context.Background(), input[:], crypto.SHA256)
		return err
	}
}

// bare is the library with one session for each caller.
type bare struct {
	ctx       *pkcs11.Ctx
	sessions  []pkcs11.SessionHandle
	key       pkcs11.ObjectHandle
	mechanism []*pkcs11.Mechanism
	input     []byte
}

// newBare finds a key in the module, which the open key has started and logged
// in to.
func newBare(b *testing.B, tok *hsmtest.Token, alg string, callers int) *bare {
	b.Helper()
	r := &bare{ctx: pkcs11.New(tok.Module), input: input[:], mechanism: []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}}
	if strings.HasPrefix(alg, "rsa") {
		r.mechanism = []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}
		// DigestInfo of SHA-256 (RFC 8017, section 9.2, note 1).
		r.input = append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, input[:]...)
	}
	slots, err := r.ctx.GetSlotList(true)
	if err != nil {
		b.Fatal(err)
	}
	for range callers {
		s, err := r.ctx.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			b.Fatal(err)
		}
		r.sessions = append(r.sessions, s)
	}
	err = r.ctx.FindObjectsInit(r.sessions[0], []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, alg),
	})
	if err != nil {
		b.Fatal(err)
	}
	found, _, err := r.ctx.FindObjects(r.sessions[0], 1)
	if err != nil || len(found) != 1 {
		b.Fatalf("find key: %d, %v", len(found), err)
	}
	if err := r.ctx.FindObjectsFinal(r.sessions[0]); err != nil {
		b.Fatal(err)
	}
	r.key = found[0]
	return r
}

func (r *bare) sign(caller int) error {
	if err := r.ctx.SignInit(r.sessions[caller], r.mechanism, r.key); err != nil {
		return err
	}
	_, err := r.ctx.Sign(r.sessions[caller], r.input)
	return err
}

func (r *bare) close(b *testing.B) {
	b.Helper()
	for _, s := range r.sessions {
		if err := r.ctx.CloseSession(s); err != nil {
			b.Fatal(err)
		}
	}
	r.ctx.Destroy()
}

// rate is signatures per second of the clock and of this process's processor time.
type rate struct{ clock, processor float64 }

// measure lets callers sign for a tenth of a second.
func measure(b *testing.B, callers int, sign func(caller int) error) rate {
	b.Helper()
	var (
		wg    sync.WaitGroup
		count atomic.Int64
		bad   atomic.Pointer[error]
	)
	begun, used := time.Now(), processorTime(b)
	for c := range callers {
		wg.Go(func() {
			for time.Since(begun) < 100*time.Millisecond {
				if err := sign(c); err != nil {
					bad.Store(&err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	if p := bad.Load(); p != nil {
		b.Fatal(*p)
	}
	n := float64(count.Load())
	return rate{n / time.Since(begun).Seconds(), n / (processorTime(b) - used).Seconds()}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
