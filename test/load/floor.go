package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
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

// floor times these operations in this process, on all processors at once as the
// server works, and returns their CPU time for one certificate.
func floor() (time.Duration, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	digest := sha256.Sum256([]byte("privyseal"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return 0, err
	}
	const rounds = 2000
	var working sync.WaitGroup
	before := ownCPU()
	for range runtime.NumCPU() {
		working.Go(func() {
			for range rounds {
				for range floorSignatures {
					_, _ = ecdsa.SignASN1(rand.Reader, key, digest[:]) // it succeeded above
				}
				for range floorVerifications {
					_ = ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature)
				}
			}
		})
	}
	working.Wait()
	return (ownCPU() - before) / time.Duration(rounds*runtime.NumCPU()), nil
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
