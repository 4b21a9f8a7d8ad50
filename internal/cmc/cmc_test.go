package cmc

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cmc/cmctest"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// parts are one of everything.
func parts(t testing.TB) (controls, requests []cmctest.Part, csr, message []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "d"}}, key); err != nil {
		t.Fatal(err)
	}
	message = cmctest.Proved(t, cmctest.CertRequest(t, 11, cmctest.Template{Subject: []byte{0x30, 0}, Key: key.Public()}), key)
	cert := &x509.Certificate{RawIssuer: []byte{0x30, 0}, SerialNumber: big.NewInt(0x1234)}
	at := func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) }
	controls = []cmctest.Part{
		cmctest.TransactionID(1, 99), cmctest.SenderNonce(2, []byte("nonce")), cmctest.DataReturn(3, []byte("back")),
		cmctest.RevokeRequest(4, cert, 1, at), cmctest.RevokeRequest(5, cert, 0, cmctest.Tagged(cbasn1.OCTET_STRING, cmctest.Raw([]byte("secret")))),
		cmctest.QueryPending(6, []byte("token")), cmctest.Control(7, 7, cmctest.Tagged(cbasn1.OCTET_STRING)),
		cmctest.Control(8, 2, cmctest.Tagged(cbasn1.UTF8String, cmctest.Raw([]byte("me")))),
	}
	return controls, []cmctest.Part{cmctest.PKCS10(10, csr), cmctest.CRMF(message)}, csr, message
}

func TestEST_E19_ParsePKIData(t *testing.T) {
	t.Parallel()
	controls, requests, csr, message := parts(t)
	m, err := Parse(cmctest.PKIData(controls, requests))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.TransactionID, []byte{2, 1, 99}) || string(m.SenderNonce) != "nonce" || string(m.DataReturn) != "back" || len(m.Unknown) != 0 {
		t.Errorf("%+v", m)
	}
	if len(m.Requests) != 2 || m.Requests[0].BodyPart != 10 || !bytes.Equal(m.Requests[0].Raw(), csr) ||
		m.Requests[1].BodyPart != 11 || !bytes.Equal(m.Requests[1].Raw(), message) {
		t.Errorf("requests %+v", m.Requests)
	}
	if len(m.Revocations) != 2 || m.Revocations[0].Serial != "1234" || m.Revocations[0].Reason != pki.KeyCompromise ||
		m.Revocations[0].InvalidityAt.Year() != 2026 || m.Revocations[0].Passphrase || !m.Revocations[1].Passphrase {
		t.Errorf("revocations %+v", m.Revocations)
	}
	if len(m.Queries) != 1 || m.Queries[0].BodyPart != 6 || string(m.Queries[0].Token) != "token" {
		t.Errorf("queries %+v", m.Queries)
	}
	m, err = Parse(cmctest.PKIData([]cmctest.Part{cmctest.Control(3, 18, cmctest.Int(1)), cmctest.Control(4, 11, cmctest.Int(1))}, []cmctest.Part{
		cmctest.Tagged(cbasn1.Tag(2).ContextSpecific().Constructed(), cmctest.Int(5)),
	}))
	if err != nil || !slices.Equal(m.Unknown, []uint32{3, 4, 5}) {
		t.Errorf("unknown parts: %+v %v", m, err)
	}
}

func TestEST_E19_PKIDataThatIsRefused(t *testing.T) {
	t.Parallel()
	controls, requests, csr, _ := parts(t)
	one := func(c cmctest.Part) []byte { return cmctest.PKIData([]cmctest.Part{c}, nil) }
	sequence := func(parts ...cmctest.Part) cmctest.Part { return cmctest.Tagged(cbasn1.SEQUENCE, parts...) }
	var many []cmctest.Part
	for i := range maxParts + 1 {
		many = append(many, cmctest.PKCS10(int64(i+1), csr))
	}
	cert := &x509.Certificate{RawIssuer: []byte{0x30, 0}, SerialNumber: new(big.Int).Lsh(big.NewInt(1), 200)}
	for name, tc := range map[string]struct {
		der    []byte
		reason string
	}{
		"empty":             {nil, "cmc_syntax"},
		"something after":   {append(cmctest.PKIData(controls, requests), 0), "cmc_syntax"},
		"three parts":       {cmctest.Der(sequence(sequence(), sequence(), sequence())), "cmc_syntax"},
		"nested message":    {cmctest.Der(sequence(sequence(), sequence(), sequence(cmctest.Int(1)), sequence())), "cmc_nested"},
		"other message":     {cmctest.Der(sequence(sequence(), sequence(), sequence(), sequence(cmctest.Int(1)))), "cmc_nested"},
		"too many":          {cmctest.PKIData(nil, many), "cmc_limit"},
		"number twice":      {cmctest.PKIData([]cmctest.Part{cmctest.TransactionID(10, 1)}, requests), "cmc_syntax"},
		"number 0":          {one(cmctest.TransactionID(0, 1)), "cmc_syntax"},
		"negative number":   {one(cmctest.TransactionID(-1, 1)), "cmc_syntax"},
		"number too large":  {one(cmctest.TransactionID(1<<32, 1)), "cmc_syntax"},
		"control twice":     {cmctest.PKIData([]cmctest.Part{cmctest.TransactionID(1, 1), cmctest.TransactionID(2, 1)}, nil), "cmc_syntax"},
		"not a control":     {one(cmctest.Int(1)), "cmc_syntax"},
		"control of a part": {one(sequence(cmctest.Int(1))), "cmc_syntax"},
		"long nonce":        {one(cmctest.SenderNonce(1, make([]byte, maxValue+1))), "cmc_syntax"},
		"wrong value":       {one(cmctest.Control(1, 5, cmctest.Tagged(cbasn1.NULL))), "cmc_syntax"},
		"revocation":        {one(cmctest.Control(1, 17, sequence())), "cmc_syntax"},
		"long serial":       {one(cmctest.RevokeRequest(1, cert, 1)), "cmc_syntax"},
		"time":              {one(cmctest.RevokeRequest(1, &x509.Certificate{RawIssuer: []byte{0x30, 0}, SerialNumber: big.NewInt(1)}, 1, cmctest.Tagged(cbasn1.GeneralizedTime))), "cmc_syntax"},
		"request":           {cmctest.PKIData(nil, []cmctest.Part{cmctest.Int(1)}), "cmc_syntax"},
		"PKCS#10":           {cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(1, []byte{5, 0})}), "cmc_syntax"},
		"CRMF":              {cmctest.PKIData(nil, []cmctest.Part{cmctest.Tagged(cbasn1.Tag(1).ContextSpecific().Constructed(), cmctest.Int(1))}), "cmc_syntax"},
	} {
		if _, err := Parse(tc.der); err == nil || fault.Of(err).Reason != tc.reason {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEST_E19_PKIResponse(t *testing.T) {
	t.Parallel()
	r := Response{
		Statuses: []Status{
			{Code: Success, BodyParts: []uint32{10, 4294967295}}, {Code: Failed, Fail: POPFailed, Text: "no"},
			{Code: Pending, BodyParts: []uint32{3}, Token: []byte("t"), Time: time.Now()},
		},
		TransactionID: []byte{2, 1, 99}, RecipientNonce: []byte("r"), SenderNonce: []byte("s"), DataReturn: []byte("d"),
	}
	der, err := r.DER()
	if err != nil {
		t.Fatal(err)
	}
	got, err := cmctest.Read(der)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Statuses) != 3 || !slices.Equal(got.Statuses[0].Parts, []int{10, 4294967295}) || got.Statuses[0].Code != 0 || got.Statuses[0].Fail != -1 ||
		got.Statuses[1].Code != 2 || got.Statuses[1].Fail != 9 || got.Statuses[1].Text != "no" || !slices.Equal(got.Statuses[1].Parts, []int{0}) ||
		got.Statuses[2].Code != 3 || string(got.Statuses[2].Token) != "t" || got.Transaction.Int64() != 99 ||
		string(got.RecipientNonce)+string(got.SenderNonce)+string(got.DataReturn) != "rsd" {
		t.Errorf("%+v", got)
	}
	if der, err = (&Response{}).DER(); err != nil || len(der) != 8 {
		t.Errorf("an empty response: %x %v", der, err)
	}
	far := Response{Statuses: []Status{{Code: Pending, Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}}}
	if _, err := far.DER(); err == nil || !strings.Contains(err.Error(), "cannot represent") {
		t.Errorf("a time beyond 9999: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	controls, requests, _, _ := parts(f)
	f.Add(cmctest.PKIData(controls, requests))
	f.Add(cmctest.PKIData(nil, nil))
	f.Add(cmctest.PKIData([]cmctest.Part{cmctest.Control(3, 18, cmctest.Int(1))}, requests[:1]))
	f.Fuzz(func(t *testing.T, der []byte) {
		m, err := Parse(der)
		if err != nil {
			if k := fault.Of(err).Kind; k != fault.Malformed && k != fault.TooLarge {
				t.Fatalf("%v is no fault of a message", err)
			}
			return
		}
		r := Response{TransactionID: m.TransactionID, RecipientNonce: m.SenderNonce, DataReturn: m.DataReturn}
		for _, q := range m.Requests {
			if len(q.Raw()) == 0 {
				t.Fatal("a request of nothing")
			}
			r.Statuses = append(r.Statuses, Status{BodyParts: []uint32{q.BodyPart}})
		}
		answer, err := r.DER()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cmctest.Read(answer); err != nil {
			t.Fatal(err)
		}
	})
}
