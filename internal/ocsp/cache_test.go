package ocsp

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// kept is how many answers an authority keeps.
func kept(a *authority) int {
	n, _ := a.cache.size()
	return n
}

// forms are all the CertIDs that name one certificate: four hashes, with NULL
// parameters and without.
func (q ask) forms() []ask {
	var all []ask
	for _, h := range hashOIDs {
		for _, absent := range []bool{false, true} {
			form := q
			form.hash, form.absent = h.hash, absent
			all = append(all, form)
		}
	}
	return all
}

// TestFS3_OneCertificateHasEightAnswers: however a certificate is asked about, no
// more answers are signed and kept than there are CertIDs in DER.
func TestFS3_OneCertificateHasEightAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	q := l.ask(l.issue("a.example.test"))
	a := (*h.authorities.Load())[caID]
	here := "/ocsp/" + caID + "/"
	for _, form := range q.forms() {
		der := form.der()
		var first []byte
		for name, w := range map[string]*httptest.ResponseRecorder{
			"POST":             post(h, der),
			"GET":              get(h, der),
			"no padding":       getPath(h, here+strings.TrimRight(base64.StdEncoding.EncodeToString(der), "=")),
			"all escaped":      getPath(h, here+escaped(base64.StdEncoding.EncodeToString(der))),
			"slashes before":   getPath(h, here+"//%2F"+pathOf(der)),
			"a query":          getPath(h, here+pathOf(der)+"?x=1"),
			"extension":        post(h, form.with(extension([]byte{0x2b, 6, 1, 4, 1, 9}, false, []byte{5, 0}))),
			"another":          post(h, form.with(extension([]byte{0x2b, 6, 1, 4, 1, 9}, false, bytes.Repeat([]byte{5}, 500)))),
			"a nonce":          post(h, form.with(extension(oidNonce, false, []byte{4, 2, 1, 2}))),
			"version":          post(h, rewrap([]byte{0xa0, 3, 2, 1, 0}, nil, form.list(), nil, nil)),
			"requestor's name": post(h, rewrap(nil, []byte{0xa1, 4, 0x82, 2, 'a', 'b'}, form.list(), nil, nil)),
		} {
			if outcome(w) != Successful {
				t.Fatalf("%s: %x", name, w.Body)
			}
			if first == nil {
				first = w.Body.Bytes()
			}
			if !bytes.Equal(first, w.Body.Bytes()) {
				t.Errorf("%s: another answer", name)
			}
		}
	}
	if st := h.Stats()[0]; st.Signed != 8 || kept(a) != 8 {
		t.Errorf("%d answers signed and %d kept of one certificate", st.Signed, kept(a))
	}
	for name, der := range map[string][]byte{
		"a long length":        bytes.Replace(q.der(), []byte{0x30, 0x0d, 6, 9}, []byte{0x30, 0x81, 0x0d, 6, 9}, 1),
		"a padded serial":      q.numbered(append([]byte{0}, q.serials[0].FillBytes(make([]byte, 20))...)),
		"a negative serial":    q.numbered(append([]byte{0x80}, q.serials[0].Bytes()...)),
		"NULL with content":    bytes.Replace(q.der(), []byte{5, 0, 4, 32}, []byte{5, 1, 0, 4, 32}, 1),
		"something after NULL": bytes.Replace(q.der(), []byte{5, 0, 4, 32}, []byte{5, 0, 5, 0, 4, 32}, 1),
	} {
		if got := outcome(post(h, der)); got != MalformedRequest {
			t.Errorf("%s: %v", name, got)
		}
	}
	if kept(a) != 8 {
		t.Errorf("%d kept", kept(a))
	}
}

func escaped(text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, "%%%02x", text[i])
	}
	return b.String()
}

func (q ask) with(edit func(*cryptobyte.Builder)) []byte {
	q.edit = edit
	return q.der()
}

// list is the requestList.
func (q ask) list() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, s := range q.serials {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { q.certID(b, s) })
		}
	})
	return b.BytesOrPanic()
}

// numbered is the request with other octets for its serial; lengths around it are
// made again.
func (q ask) numbered(content []byte) []byte {
	var id cryptobyte.Builder
	q.certID(&id, q.serials[0])
	der, err := asn1.Marshal(q.serials[0])
	if err != nil {
		panic(err)
	}
	input := cryptobyte.String(id.BytesOrPanic())
	var body cryptobyte.String
	input.ReadASN1(&body, cbasn1.SEQUENCE)
	body = bytes.TrimSuffix(body, der)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(body)
				b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(content) })
			})
		})
	})
	return rewrap(nil, nil, b.BytesOrPanic(), nil, nil)
}

// TestFS3_SeveralCertIDsAreNotKept: 6,000 requests that differ only in how they name
// one certificate, several times over, leave nothing behind.
func TestFS3_SeveralCertIDsAreNotKept(t *testing.T) {
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	q := l.ask(l.issue("a.example.test"))
	a := (*h.authorities.Load())[caID]
	post(h, q.der())
	forms := q.forms()
	send := func(n int) {
		var list cryptobyte.Builder
		list.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for digit := range 40 { // 8^40 requests could be made
				form := forms[n>>(3*min(digit, 5))&7]
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { form.certID(b, form.serials[0]) })
			}
		})
		if w := post(h, rewrap(nil, nil, list.BytesOrPanic(), nil, nil)); outcome(w) != Successful {
			t.Fatalf("%x", w.Body)
		}
	}
	send(0)
	before := heap()
	const requests = 6_000
	for n := range requests {
		send(n)
	}
	grown := int64(heap()) - int64(before)
	t.Logf("%d requests: the heap grew by %d KiB", requests, grown>>10)
	if kept(a) != 1 || grown > 8<<20 {
		t.Errorf("%d kept, the heap grew by %d octets", kept(a), grown)
	}
}

// heap is how many octets are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestFS3_TheCacheIsBoundedInOctets fills it with answers of several sizes and
// compares what it says that they take with what the heap says.
func TestFS3_TheCacheIsBoundedInOctets(t *testing.T) { //nolint:paralleltest // it measures the heap
	const bound = 16 << 20
	for _, size := range []int{300, 1_100, 2_100, 4_000, 40_000} {
		before := heap()
		c := newCache(bound)
		for n := range 2 * bound / size {
			serial := pki.SerialFromBig(new(big.Int).Lsh(big.NewInt(int64(n)+1), 120))
			key := hashOIDs[0].oid
			key = fmt.Append(make([]byte, 0, 120), hex.EncodeToString(key), serial, strings.Repeat("k", 60))
			c.put(newEntry(string(key), make([]byte, size), reading{standings: []standing{{serial: serial}}}, golden,
				golden.Add(time.Hour)))
		}
		entries, octets := c.size()
		taken := int(heap() - before)
		t.Logf("%d octets: %d entries, said to take %d, taking %d", size, entries, octets, taken)
		if octets > bound || octets < bound*9/10 {
			t.Errorf("%d octets: full at %d of %d", size, octets, bound)
		}
		if taken > octets || taken < octets/2 {
			t.Errorf("%d octets: said to take %d, takes %d", size, octets, taken)
		}
		c.remove(func(*entry) bool { return true })
		if entries, octets := c.size(); entries != 0 || octets != 0 {
			t.Errorf("emptied: %d entries, %d octets", entries, octets)
		}
		runtime.KeepAlive(c)
	}
}

// TestFS3_AnAnswerThatDoesNotFitIsNotKept, and neither does one replace another
// without its size.
func TestFS3_AnAnswerThatDoesNotFitIsNotKept(t *testing.T) {
	t.Parallel()
	c := newCache(shards * 10_000)
	at := func(size int) *entry {
		return newEntry("key", make([]byte, size), reading{}, golden, golden.Add(time.Hour))
	}
	for _, size := range []int{100, 5_000, 200} {
		e := at(size)
		c.put(e)
		if entries, octets := c.size(); entries != 1 || octets != e.cost() || c.get([]byte("key")) != e {
			t.Errorf("%d: %d entries of %d octets", size, entries, octets)
		}
	}
	c.put(at(20_000))
	if entries, octets := c.size(); entries != 0 || octets != 0 {
		t.Errorf("%d entries of %d octets", entries, octets)
	}
}

// outcome is the status of an OCSPResponse: the one octet of its ENUMERATED.
func outcome(w *httptest.ResponseRecorder) ResponseStatus {
	input := cryptobyte.String(w.Body.Bytes())
	var response cryptobyte.String
	var status int
	if !input.ReadASN1(&response, cbasn1.SEQUENCE) || !response.ReadASN1Enum(&status) {
		return 255
	}
	return ResponseStatus(status) //nolint:gosec // at most 6
}
