package scep

import (
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
)

func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"operation=PKIOperation&message=MIIB%2BA%3D%3D", "message=MII+/a==", "MESSAGE=AA%0AAA%0a", "message=%", "message=%4", "&&message", "message=-_-_", "=&=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		message, err := queryMessage(query)
		if err == nil && len(message) == 0 || len(message) > len(query) {
			t.Errorf("%q gives %d octets", query, len(message))
		}
	})
}

func FuzzAttributes(f *testing.F) {
	f.Add([]byte{0x13, 2, '1', '9'}, []byte{0x13, 1, 'a'}, []byte{4, 2, 1, 2})
	f.Add([]byte{0x0c, 1, 'x'}, []byte{0x0c, 0x81, 1, 'a'}, []byte{4, 0})
	f.Add([]byte{}, []byte{0x13, 0x80, 0, 0}, []byte{0x24, 2, 4, 0})
	f.Fuzz(func(t *testing.T, typ, transaction, nonce []byte) {
		a, err := readAttributes(func(oid asn1.ObjectIdentifier) []byte {
			switch {
			case oid.Equal(oidMessageType):
				return typ
			case oid.Equal(oidTransactionID):
				return transaction
			case oid.Equal(oidSenderNonce):
				return nonce
			}
			return nil
		})
		if err != nil {
			return
		}
		if a.transactionID == "" || len(a.transactionID) > maxTransactionID || len(a.senderNonce) > maxNonce || a.typ < 0 || a.typ > 999 {
			t.Errorf("%+v", a)
		}
	})
}

// FuzzContents reads what strangers encrypt: whatever it is, it is read or hidden.
func FuzzContents(f *testing.F) {
	name := []byte{0x30, 12, 0x31, 10, 0x30, 8, 6, 3, 0x55, 4, 3, 12, 1, 'A'}
	f.Add(issuerAndSerial(name, big.NewInt(7)))
	f.Add(issuerAndSerial(name, new(big.Int).Lsh(big.NewInt(1), 3000)))
	f.Add(append([]byte{0x30, 28}, append(name, name...)...))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"))
	f.Add([]byte{0x30, 0, '\n'})
	f.Add([]byte{0x30, 0x82, 1})
	f.Fuzz(func(t *testing.T, content []byte) {
		var h *hidden
		issuer, serial, err := readIssuerAndSerial(content)
		if err != nil && !errors.As(hideRefusal(err), &h) || err == nil && (len(issuer) == 0 || serial == "") {
			t.Errorf("%x %s %v", issuer, serial, err)
		}
		if _, err := readIssuerAndSubject(content); err != nil && !errors.As(err, &h) {
			t.Error(err)
		}
		der := withoutLF(content)
		if len(der) != len(content) && (len(der) != len(content)-1 || content[len(der)] != '\n') {
			t.Errorf("%x is %x", content, der)
		}
		if looksLike(content) == "" {
			t.Error("it looks like nothing")
		}
	})
}
