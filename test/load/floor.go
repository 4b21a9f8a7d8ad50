package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"syscall"
	"time"
)

// What one certificate cannot avoid, on P-256: the server verifies the client's
// six signed requests (order, authorization, challenge, its result, finalize,
// certificate), the certificate request and the certificate that it made, and
// signs the draft that is linted and the certificate.
const (
	floorVerifications = 8
	floorSignatures    = 2
)

// floor times these operations in this process and returns their CPU time for
// one certificate.
func floor() (time.Duration, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	digest := sha256.Sum256([]byte("privyseal"))
	var signature []byte
	const rounds = 2000
	sign, err := timed(rounds, func() (err error) {
		signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
		return err
	})
	if err != nil {
		return 0, err
	}
	verify, err := timed(rounds, func() error { ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature); return nil })
	return floorSignatures*sign + floorVerifications*verify, err
}

// timed returns the CPU time of one call, on one thread's share of this process.
func timed(rounds int, f func() error) (time.Duration, error) {
	before := ownCPU()
	for range rounds {
		if err := f(); err != nil {
			return 0, err
		}
	}
	return (ownCPU() - before) / time.Duration(rounds), nil
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
