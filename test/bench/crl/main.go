// Command crl measures a revocation list of a million entries: Privyseal's
// streaming encoder beside crypto/x509.CreateRevocationList in the same run, each
// in a process of its own, and a whole publication from the store.
//
//	go run ./test/bench/crl [-entries 1000000] [-store sqlite|postgres|both|none]
//
// Memory is the peak of the resident set above what the process had before it
// began (VmHWM, Linux only), with the inputs of each side counted as that side
// needs them: the standard library wants all entries in memory, we take them one
// by one.
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// result is what a measured process prints.
type result struct {
	Seconds float64
	CPU     float64 // seconds of processor time, which other load on the machine changes less
	PeakMB  float64 // above idle
	Size    int64
	SHA256  string  // of the TBSCertList
	Floor   float64 `json:",omitempty"` // seconds of hashing the octets once: no signature without it
}

func main() {
	entries := flag.Int("entries", 1_000_000, "revoked certificates")
	stores := flag.String("store", "both", "whole publications from a store: sqlite, postgres, both or none")
	part := flag.String("part", "", "internal: measure one side in this process")
	url := flag.String("url", "", "internal: the database of a part")
	flag.Parse()
	if err := run(*entries, *stores, *part, *url); err != nil {
		fmt.Fprintln(os.Stderr, "bench crl:", err)
		os.Exit(1)
	}
}

func run(entries int, stores, part, url string) error {
	if part != "" {
		r, err := measure(part, url, entries)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Printf("(c) a revocation list of %d entries, ECDSA P-256\n", entries)
	std, err := child("x509", "", entries)
	if err != nil {
		return err
	}
	print("crypto/x509.CreateRevocationList", std, nil)
	own, err := child("privyseal", "", entries)
	if err != nil {
		return err
	}
	print("privyseal, entries one by one", own, std)
	if own.SHA256 != std.SHA256 {
		return fmt.Errorf("the two lists differ: %s and %s", own.SHA256, std.SHA256)
	}
	fmt.Printf("both signed the same octets; the floor, hashing them once, is %.3f s, and they are hashed twice: to "+
		"be signed, and for the ETag\n", own.Floor)
	for _, engine := range []string{"sqlite", "postgres"} {
		if stores != engine && stores != "both" {
			continue
		}
		if err := publish(engine, entries, std); err != nil {
			return err
		}
	}
	return nil
}

func print(name string, r, beside *result) {
	fmt.Printf("  %-46s %7.2f s (%5.2f s of processor)  %8.1f MB above idle  %5.1f MB long", name, r.Seconds, r.CPU,
		r.PeakMB, float64(r.Size)/1e6)
	if beside != nil {
		fmt.Printf("  %.1f times as fast (%.1f by processor)", beside.Seconds/r.Seconds, beside.CPU/r.CPU)
	}
	fmt.Println()
}

// child measures one side in a fresh process.
func child(part, url string, entries int) (*result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-part", part, "-url", url, "-entries", fmt.Sprint(entries))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", part, err)
	}
	r := &result{}
	return r, json.Unmarshal(out, r)
}

// at is when everything happens: the two lists must be equal.
var at = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// serialOf makes 159-bit serials that rise with n.
func serialOf(n int) [20]byte {
	var b [20]byte
	x := uint64(n)*0x9e3779b97f4a7c15 + 1
	binary.BigEndian.PutUint32(b[:4], 0x40000000+uint32(n))
	binary.BigEndian.PutUint64(b[4:12], x)
	binary.BigEndian.PutUint64(b[12:], x*0xbf58476d1ce4e5b9)
	return b
}

var reasons = []pki.Reason{pki.Unspecified, pki.KeyCompromise, pki.Superseded, pki.CessationOfOperation}

func measure(part, url string, entries int) (*result, error) {
	ca, key, err := authority()
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	resetPeak()
	idle := resident("VmRSS")
	var r *result
	switch part {
	case "x509":
		r, err = standard(ca, key, entries)
	case "privyseal":
		r, err = streaming(ca, key, entries, idle)
	default:
		r, err = fromStore(ca, key, url)
	}
	if err != nil {
		return nil, err
	}
	if r.PeakMB == 0 {
		r.PeakMB = resident("VmHWM") - idle
	}
	return r, nil
}

func authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bench CA"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             at.AddDate(-1, 0, 0), NotAfter: at.AddDate(9, 0, 0),
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte("bench key identifier"),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	return ca, key, err
}

// standard makes the list with the standard library, from entries that are in
// memory already when the clock starts; they count as memory that it needs.
func standard(ca *x509.Certificate, key *ecdsa.PrivateKey, entries int) (*result, error) {
	list := &x509.RevocationList{Number: big.NewInt(1000), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 7)}
	for n := range entries {
		b := serialOf(n)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: new(big.Int).SetBytes(b[:]), RevocationTime: at, ReasonCode: int(reasons[n%len(reasons)]),
		})
	}
	stop := watch()
	der, err := x509.CreateRevocationList(rand.Reader, list, ca, key)
	if err != nil {
		return nil, err
	}
	r := stop()
	r.Size, r.SHA256 = int64(len(der)), tbsDigest(bytes.NewReader(der))
	return r, nil
}

// watch starts the clocks; the returned function reads them.
func watch() func() *result {
	processor := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return 0
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	began, used := time.Now(), processor()
	return func() *result { return &result{Seconds: time.Since(began).Seconds(), CPU: processor() - used} }
}

type signer struct{ *ecdsa.PrivateKey }

// SignContext implements issuer.Signer.
func (s signer) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Sign(rand.Reader, digest, opts)
}

// streaming makes the same list with Privyseal's encoder. Making up the entries
// and hexadecimal serials, as the store has them, is part of its time.
func streaming(ca *x509.Certificate, key *ecdsa.PrivateKey, entries int, idle float64) (*result, error) {
	i, err := issuer.NewOffline("bench", []*x509.Certificate{ca}, signer{key}, issuer.Locations{})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "privyseal-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// A server builds its linter once, with its first list.
	if _, err := i.SignCRL(context.Background(), issuer.CRL{Number: big.NewInt(1), ThisUpdate: at,
		NextUpdate: at.AddDate(0, 0, 7)}); err != nil {
		return nil, err
	}
	resetPeak()
	stop := watch()
	signed, err := i.WriteCRL(context.Background(), dir,
		issuer.CRL{Number: big.NewInt(1000), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 7)},
		func(each func(issuer.Revoked) error) error {
			for n := range entries {
				b := serialOf(n)
				e := issuer.Revoked{Serial: pki.Serial(hex.EncodeToString(b[:])), At: at,
					Reason: reasons[n%len(reasons)]}
				if err := each(e); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	defer signed.Close()
	r := stop()
	r.PeakMB = resident("VmHWM") - idle
	r.Size, r.SHA256 = signed.Size, tbsDigest(signed.Reader())
	all, err := io.ReadAll(signed.Reader())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	sha256.Sum256(all)
	r.Floor = time.Since(began).Seconds()
	return r, nil
}

// tbsDigest hashes what is signed: the signature itself differs each time.
func tbsDigest(r io.Reader) string {
	head := make([]byte, 32)
	if _, err := io.ReadFull(r, head); err != nil {
		return err.Error()
	}
	outer := headerLength(head)
	tbs := headerLength(head[outer:])
	length := int64(0)
	for _, b := range head[outer+2 : outer+tbs] {
		length = length<<8 | int64(b)
	}
	if tbs == 2 {
		length = int64(head[outer+1])
	}
	h := sha256.New()
	_, err := io.Copy(h, io.LimitReader(io.MultiReader(bytes.NewReader(head[outer:]), r), int64(tbs)+length))
	if err != nil {
		return err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}

func headerLength(der []byte) int {
	if der[1] < 0x80 {
		return 2
	}
	return 2 + int(der[1]&0x7f)
}

// resident reads a line of /proc/self/status in megabytes, 0 elsewhere.
func resident(line string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, l := range strings.Split(string(text), "\n") {
		var kb float64
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%f kB", &kb); err == nil {
				return kb / 1000
			}
		}
	}
	return 0
}

// resetPeak makes VmHWM start anew.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
