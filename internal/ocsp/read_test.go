package ocsp

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

// read parses a response by the structures of RFC 6960, with encoding/asn1: by
// other code than what made it.
type parsed struct {
	Status    int
	Responder []byte
	Produced  time.Time
	Singles   []parsedSingle
	Nonce     []byte
	Extended  bool
	Certs     int
}

type parsedSingle struct {
	CertID      []byte
	Status      string
	RevokedAt   time.Time
	Reason      int // -1 if there is none
	This, Next  time.Time
	Serial      *big.Int
	HasArchive  bool
	ArchiveTime time.Time
}

func read(t testing.TB, der []byte) parsed {
	t.Helper()
	must := func(rest []byte, err error) {
		t.Helper()
		if err != nil || len(rest) > 0 {
			t.Fatalf("response %x: %v, %d octets left over", der, err, len(rest))
		}
	}
	var outer struct {
		Status asn1.Enumerated
		Body   struct {
			Type asn1.ObjectIdentifier
			DER  []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	must(asn1.Unmarshal(der, &outer))
	out := parsed{Status: int(outer.Status)}
	if outer.Status != 0 {
		return out
	}
	type certID struct {
		Algorithm pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}
	var basic struct {
		TBS struct {
			Raw       asn1.RawContent
			Responder asn1.RawValue
			Produced  time.Time `asn1:"generalized"`
			Responses []struct {
				CertID     asn1.RawValue
				Status     asn1.RawValue
				This       time.Time        `asn1:"generalized"`
				Next       time.Time        `asn1:"generalized,explicit,tag:0,optional"`
				Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
			}
			Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
		Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	must(asn1.Unmarshal(outer.Body.DER, &basic))
	if basic.TBS.Responder.Tag != 2 {
		t.Errorf("responderID has tag %d, want byKey", basic.TBS.Responder.Tag)
	}
	must(asn1.Unmarshal(basic.TBS.Responder.Bytes, &out.Responder))
	out.Produced, out.Certs = basic.TBS.Produced, len(basic.Certs)
	for _, r := range basic.TBS.Responses {
		s := parsedSingle{CertID: r.CertID.FullBytes, This: r.This, Next: r.Next, Reason: -1}
		var id certID
		must(asn1.Unmarshal(r.CertID.FullBytes, &id))
		s.Serial = id.Serial
		switch r.Status.Tag {
		case 0:
			s.Status = "good"
		case 1:
			s.Status = "revoked"
			var info struct {
				At     time.Time       `asn1:"generalized"`
				Reason asn1.Enumerated `asn1:"explicit,tag:0,optional,default:-1"`
			}
			must(asn1.Unmarshal(append([]byte{0x30}, r.Status.FullBytes[1:]...), &info))
			s.RevokedAt, s.Reason = info.At, int(info.Reason)
			if len(r.Status.Bytes) == 17 { // the time alone
				s.Reason = -1
			}
		default:
			s.Status = "unknown"
		}
		for _, e := range r.Extensions {
			s.HasArchive = true
			if _, err := asn1.UnmarshalWithParams(e.Value, &s.ArchiveTime, "generalized"); err != nil {
				t.Error(err)
			}
		}
		out.Singles = append(out.Singles, s)
	}
	for _, e := range basic.TBS.Extensions {
		switch e.Id.String() {
		case "1.3.6.1.5.5.7.48.1.2":
			must(asn1.Unmarshal(e.Value, &out.Nonce))
		case "1.3.6.1.5.5.7.48.1.9":
			out.Extended = bytes.Equal(e.Value, []byte{5, 0})
		}
	}
	return out
}
