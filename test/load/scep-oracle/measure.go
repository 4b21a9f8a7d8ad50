package main

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/cms"
)

// measure sends every kind once in each round, in an order of the round's own.
func (p *parties) measure(ctx context.Context, s settings, kinds []*kind) error {
	first, err := p.told(ctx, kinds[0], 0)
	if err != nil {
		return err
	}
	for _, k := range kinds { // this warms the server up too
		for i := range k.messages {
			got, err := p.told(ctx, k, i)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if got != first {
				return fmt.Errorf("the answer to %q is not that to %q:\n%s\n%s", k.name, reference, got, first)
			}
		}
	}
	var next atomic.Int64
	var working sync.WaitGroup
	failed := make([]error, s.clients)
	for c := range s.clients {
		working.Go(func() {
			for n := int(next.Add(1)) - 1; n < s.rounds && failed[c] == nil; n = int(next.Add(1)) - 1 {
				failed[c] = p.round(ctx, kinds, n)
			}
		})
	}
	working.Wait()
	return errors.Join(failed...)
}

func (p *parties) round(ctx context.Context, kinds []*kind, n int) error {
	for _, i := range rand.Perm(len(kinds)) {
		k := kinds[i]
		began := time.Now()
		resp, _, err := p.post(ctx, k.messages[n%len(k.messages)])
		if k.late > 0 {
			spin(k.late)
		}
		k.times[n] = time.Since(began).Seconds()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return nil
}

// spin is late by a time that no timer is exact enough for.
func spin(d time.Duration) {
	until := time.Now().Add(d)
	for time.Now().Before(until) {
		continue
	}
}

func (p *parties) post(ctx context.Context, message []byte) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"?operation=PKIOperation",
		bytes.NewReader(message))
	if err != nil {
		return nil, nil, err
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// told is everything that an answer says, but for nonces, times, signatures and the
// transaction, which are the client's own or random.
func (p *parties) told(ctx context.Context, k *kind, variant int) (string, error) {
	resp, body, err := p.post(ctx, k.messages[variant])
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, body)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d octets", resp.Proto, len(body))
	resp.Header.Del("Date")
	resp.Header.Del("X-Request-Id")
	_ = resp.Header.Write(&b) // a Builder never fails
	signed, err := cms.ParseSignedData(body, cms.Limits{})
	if err != nil {
		return "", err
	}
	if _, err := signed.Verify(context.Background(), cms.Policy{}, p.endpoint.Bundle...); err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "content %x, signer %x\n", signed.Content, signed.Signers[0].Name)
	for _, a := range signed.Signers[0].Attributes {
		if value := a.Values; !random(a.Type) {
			fmt.Fprintf(&b, "%v %q\n", a.Type, value)
		}
	}
	return b.String(), nil
}

func random(attribute asn1.ObjectIdentifier) bool {
	scep := asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9}
	const senderNonce, recipientNonce, transaction = 5, 6, 7
	last := attribute[len(attribute)-1]
	return attribute[:len(attribute)-1].Equal(scep) && (last == senderNonce || last == recipientNonce ||
		last == transaction)
}

var names = map[string]string{"17": "RenewalReq", "18": "UpdateReq", "19": "PKCSReq", "20": "CertPoll",
	"21": "GetCert", "22": "GetCRL"}

// shares are the parts of the fastest times that are looked at: nearly all of them,
// and what is left when the machine does other things.
var shares = [...]float64{0.9, 0.5}

// limits of |t|: from where two kinds can be told apart, and what a control has to
// reach.
const (
	apart  = 4.5
	plain  = 20
	micros = 1e6
)

// report prints the table of a type and returns how many kinds can be told apart.
func report(typ string, kinds []*kind, took time.Duration) (leaks int) {
	rounds := len(kinds[0].times)
	fmt.Printf("%s: %d rounds of %d kinds in %.0f s\n", names[typ], rounds, len(kinds), took.Seconds())
	for _, share := range shares {
		m, se := trimmed(kinds[0].times, share)
		fmt.Printf("  %s, the fastest %.0f %%: mean %.1f µs, standard error %.1f µs\n", reference, share*100, m*micros,
			se*micros)
	}
	for i, k := range kinds[1:] {
		fmt.Printf("  %-28s", k.name)
		most := 0.0
		for _, share := range shares {
			difference, t := welch(kinds[0].times, k.times, share)
			fmt.Printf(" %+8.1f µs t = %+7.2f  ", difference*micros, t)
			most = max(most, math.Abs(t))
		}
		switch control := i == len(kinds)-2; {
		case control && most > plain:
			fmt.Println(" seen, as it should be")
		case control:
			fmt.Printf(" control; it would reach %d in %.0f rounds\n", plain,
				math.Ceil(float64(rounds)*plain*plain/(most*most)))
		case most >= apart:
			fmt.Println(" TOLD APART")
			leaks++
		default:
			fmt.Println(" equal")
		}
	}
	return leaks
}

// trimmed returns the mean of the fastest share of the times and its standard error,
// for which those left out count as the slowest that is kept (Yuen).
func trimmed(all []float64, share float64) (mean, standardError float64) {
	sorted := slices.Sorted(slices.Values(all))
	n := max(int(float64(len(sorted))*share), 1)
	var level, square float64
	for i, x := range sorted {
		if i < n {
			mean += x / float64(n)
		}
		level += sorted[min(i, n-1)] / float64(len(sorted))
	}
	for i := range sorted {
		d := sorted[min(i, n-1)] - level
		square += d * d / float64(len(sorted)-1)
	}
	return mean, math.Sqrt(square/float64(len(sorted))) / share
}

// welch returns by how much b is later than a, and Welch's t of that.
func welch(a, b []float64, share float64) (difference, t float64) {
	ma, sa := trimmed(a, share)
	mb, sb := trimmed(b, share)
	return mb - ma, (mb - ma) / math.Hypot(sa, sb)
}
