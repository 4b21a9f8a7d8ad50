package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load sends the same request over conns connections, one at a time on each, and
// returns how many were answered in a second. It reads as little of the answers
// as it can: the first one whole, then as many octets for each. want nil takes
// any body of a successful answer, whose length may vary.
func load(addr string, request, want []byte, nonceAt, conns int, length time.Duration) (float64, error) {
	var answered atomic.Int64
	var working sync.WaitGroup
	failures := make(chan error, conns)
	stop := time.Now().Add(length)
	began := time.Now()
	for i := range conns {
		working.Go(func() {
			n, err := one(addr, bytes.Clone(request), want, nonceAt, uint64(i)<<40, stop)
			answered.Add(n)
			if err != nil {
				failures <- err
			}
		})
	}
	working.Wait()
	select {
	case err := <-failures:
		return 0, err
	default:
		return float64(answered.Load()) / time.Since(began).Seconds(), nil
	}
}

func one(addr string, request, want []byte, nonceAt int, nonce uint64, stop time.Time) (int64, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	buffer := make([]byte, 64<<10)
	n := int64(0)
	fixed := 0
	for time.Now().Before(stop) {
		if nonceAt > 0 {
			nonce++
			binary.BigEndian.PutUint64(request[nonceAt:], nonce)
		}
		if _, err := conn.Write(request); err != nil {
			return n, err
		}
		if fixed > 0 {
			if _, err := io.ReadFull(conn, buffer[:fixed]); err != nil {
				return n, err
			}
			if !bytes.HasPrefix(buffer, []byte("HTTP/1.1 200")) || !bytes.Equal(buffer[fixed-len(want):fixed], want) {
				return n, fmt.Errorf("a wrong answer: %.60q", buffer)
			}
		} else {
			whole, err := readAnswer(conn, buffer)
			if err != nil {
				return n, err
			}
			if want != nil {
				fixed = whole
				if !bytes.Equal(buffer[whole-len(want):whole], want) {
					return n, errors.New("a wrong body")
				}
			}
		}
		n++
	}
	return n, nil
}

// readAnswer reads one answer and returns its length.
func readAnswer(conn net.Conn, buffer []byte) (int, error) {
	have := 0
	for {
		n, err := conn.Read(buffer[have:])
		if err != nil {
			return 0, err
		}
		have += n
		head := bytes.Index(buffer[:have], []byte("\r\n\r\n"))
		if head < 0 {
			continue
		}
		if !bytes.HasPrefix(buffer, []byte("HTTP/1.1 200")) {
			return 0, fmt.Errorf("the answer is %.60q", buffer[:head])
		}
		_, after, ok := bytes.Cut(buffer[:head+2], []byte("Content-Length: "))
		if !ok {
			return 0, errors.New("an answer without length")
		}
		value, _, _ := bytes.Cut(after, []byte("\r\n"))
		body, err := strconv.Atoi(string(value))
		if err != nil {
			return 0, err
		}
		whole := head + 4 + body
		if body < 100 {
			return 0, fmt.Errorf("the body is %x", buffer[head+4:have])
		}
		if have < whole {
			if _, err := io.ReadFull(conn, buffer[have:whole]); err != nil {
				return 0, err
			}
		}
		return whole, nil
	}
}

// rawSigning returns the P-256 signatures that this machine makes in a second,
// with nothing else to do, and their CPU time in microseconds.
func rawSigning(length time.Duration) (rate, cost float64, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, 0, err
	}
	before := cpuOf(os.Getpid())
	digest := sha256.Sum256([]byte("privyseal"))
	var signed atomic.Int64
	var working sync.WaitGroup
	began := time.Now()
	for range runtime.NumCPU() {
		working.Go(func() {
			for n := int64(0); ; n++ {
				if n%64 == 0 && time.Since(began) > length {
					signed.Add(n)
					return
				}
				_, _ = ecdsa.SignASN1(rand.Reader, key, digest[:]) // a good key signs
			}
		})
	}
	working.Wait()
	n := float64(signed.Load())
	return n / time.Since(began).Seconds(), float64((cpuOf(os.Getpid()) - before).Microseconds()) / n, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func awaitListener(addr string) error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
	}
	return err
}
