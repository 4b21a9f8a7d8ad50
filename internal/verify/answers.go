package verify

import (
	"cmp"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	xocsp "golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/internal/pki"
)

// judgeList says what is wrong with a list that was fetched for certificates of a CA.
// The signature of a list that is too long to be parsed as a whole is not looked at.
func judgeList(content []byte, by *x509.Certificate, now time.Time) error {
	h, err := readHead(content)
	if err != nil {
		return errors.New("it is no revocation list in DER")
	}
	switch {
	case !pki.SameName(h.issuer, by.RawSubject):
		return errors.New("it is the list of another CA")
	case h.next.IsZero():
		return errors.New("it does not say until when it holds")
	case now.After(h.next):
		return fmt.Errorf("it has expired on %s: publish a newer one", h.next.UTC().Format(time.RFC3339))
	}
	list, _, err := readList(content)
	switch {
	case err != nil:
		return errors.New("it is no revocation list that can be read")
	case list == nil:
		return nil
	case pki.ListedBy(list, by) != nil:
		return errors.New("it is not signed by this CA's key")
	}
	return nil
}

// listHead is what stands before the entries of a list (RFC 5280, section 5.1).
type listHead struct {
	issuer []byte
	next   time.Time // zero if it is left out
}

func readHead(der []byte) (listHead, error) {
	in := cryptobyte.String(der)
	var outer, tbs, issuer cryptobyte.String
	var h listHead
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cbasn1.INTEGER) || !tbs.SkipASN1(cbasn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !skipTime(&tbs) {
		return h, errors.New("malformed")
	}
	h.issuer = issuer
	switch {
	case tbs.PeekASN1Tag(cbasn1.UTCTime):
		if !tbs.ReadASN1UTCTime(&h.next) {
			return h, errors.New("malformed nextUpdate")
		}
	case tbs.PeekASN1Tag(cbasn1.GeneralizedTime):
		if !tbs.ReadASN1GeneralizedTime(&h.next) {
			return h, errors.New("malformed nextUpdate")
		}
	}
	return h, nil
}

// ocspResponse and basicResponse are of RFC 6960, section 4.2.1.
type ocspResponse struct {
	Status   asn1.Enumerated
	Response struct {
		Type asn1.ObjectIdentifier
		Data []byte
	} `asn1:"explicit,tag:0,optional"`
}

type basicResponse struct {
	Data         asn1.RawValue
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

// refusals are the statuses without an answer (RFC 6960, section 4.2.1).
var refusals = map[asn1.Enumerated]string{
	1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired",
	6: "unauthorized: it does not know this CA",
}

// judgeAnswer says what is wrong with the answer of an OCSP responder about a
// certificate. Good and revoked are both right here.
func judgeAnswer(content []byte, cert, by *x509.Certificate, now time.Time) error {
	var outer ocspResponse
	if rest, err := asn1.Unmarshal(content, &outer); err != nil || len(rest) > 0 {
		return errors.New("the answer is no OCSP response")
	}
	if outer.Status != 0 {
		return fmt.Errorf("it answers %s", cmp.Or(refusals[outer.Status], "with a status that does not exist"))
	}
	if err := usable(outer.Response.Data, by); err != nil {
		return err
	}
	answer, err := xocsp.ParseResponseForCert(content, cert, by)
	switch {
	case err != nil:
		return errors.New("the answer is not about this certificate, or not signed by this CA or a responder of it")
	case answer.Status == xocsp.Unknown:
		return errors.New("it does not know this certificate")
	case !answer.NextUpdate.IsZero() && now.After(answer.NextUpdate):
		return fmt.Errorf("its answer has expired on %s", answer.NextUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// usable refuses an answer with a key that nothing is computed with.
func usable(der []byte, by *x509.Certificate) error {
	var basic basicResponse
	if rest, err := asn1.Unmarshal(der, &basic); err != nil || len(rest) > 0 {
		return errors.New("the answer is no basic OCSP response")
	}
	keys := []any{by.PublicKey}
	for _, raw := range basic.Certificates {
		c, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			return errors.New("a certificate in the answer cannot be read")
		}
		keys = append(keys, c.PublicKey)
	}
	for _, k := range keys {
		if err := pki.Usable(k); err != nil {
			return fmt.Errorf("the answer has a key that is not used: %w", err)
		}
	}
	return nil
}
