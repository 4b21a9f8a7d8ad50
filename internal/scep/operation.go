package scep

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strconv"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
)

// call is one pkiMessage on its way.
type call struct {
	attributes
	ep       *endpoint
	source   string
	signed   *cms.SignedData
	info     *cms.SignerInfo
	signer   *x509.Certificate // once the signature is verified
	envelope *cms.EnvelopedData
	opened   time.Time // when the envelope was decrypted, well or badly
	ra       *ra       // that the message is encrypted to; or else the published one
}

// reply is a signed CertRep.
type reply struct {
	der           []byte
	transactionID string
	cause         error // of a failure
}

// content is what a successful answer carries.
type content struct {
	certs []*x509.Certificate
	crls  [][]byte
}

// operate answers a pkiMessage. An error is one that only HTTP can tell: the
// message cannot be parsed, or the server cannot answer now (rule S5).
func (s *Server) operate(ctx context.Context, ep *endpoint, source string, message []byte, ev *Event) (*reply, error) {
	c, err := s.parse(ep, source, message)
	if err != nil {
		return nil, err
	}
	ev.Message = c.typ.String()
	found, err := s.process(ctx, c)
	if err == nil {
		var der []byte
		if der, err = s.success(ctx, c, found); err == nil {
			ev.Status = "SUCCESS"
			return &reply{der: der, transactionID: c.transactionID}, nil
		}
	}
	var h *hidden
	if errors.As(err, &h) {
		err = s.unreadable(ctx, c, h)
	}
	f := fault.Of(err)
	a := answerTo(f.Kind)
	var der []byte
	var signErr error
	switch a.fail {
	case none:
		return nil, err
	case pending:
		ev.Status = "PENDING"
		der, signErr = s.sign(c, nil, statusOf(pkiPending)...)
	default:
		ev.Status = failInfoNames[a.fail]
		der, signErr = s.sign(c, nil, append(statusOf(pkiFailure),
			attribute(oidFailInfo, cbasn1.PrintableString, []byte(strconv.Itoa(int(a.fail)))),
			attribute(oidFailInfoText, cbasn1.UTF8String, []byte(failInfoText(f))))...)
	}
	if signErr != nil {
		ev.Status = statusError
		return nil, signErr
	}
	return &reply{der, c.transactionID, err}, nil
}

// parse reads the outer message.
func (s *Server) parse(ep *endpoint, source string, message []byte) (*call, error) {
	signed, err := cms.ParseSignedData(message, cms.Limits{Signers: 1})
	if err != nil {
		return nil, err
	}
	if len(signed.Signers) != 1 {
		return nil, fault.New(fault.Malformed, "the message has no signer").Because("scep_signer")
	}
	c := &call{ep: ep, source: source, signed: signed, info: signed.Signers[0]}
	if c.attributes, err = readAttributes(c.info.Value); err != nil {
		return nil, err
	}
	c.ra, _, err = s.published(ep)
	return c, err
}

// process verifies, decrypts and does what is asked for.
func (s *Server) process(ctx context.Context, c *call) (*content, error) {
	if messageNames[c.typ] == "" {
		return nil, fault.New(fault.Malformed, "the messageType is none that a client sends").
			Because("scep_message_type")
	}
	signers, err := c.signed.Verify(ctx, c.ep.policy)
	if err != nil {
		return nil, err
	}
	c.signer = signers[0]
	// Every success is encrypted to the signer: what nobody could read is not
	// begun (rule S16).
	if _, ok := c.signer.PublicKey.(*rsa.PublicKey); !ok {
		return nil, fault.New(fault.BadPublicKey, "answers are encrypted to the key that signed the request, which "+
			"must be RSA").Because("scep_signer_key")
	}
	plain, err := s.decrypt(ctx, c)
	if err != nil {
		return nil, err
	}
	switch c.typ {
	case certPoll:
		return s.poll(ctx, c, plain)
	case getCert:
		found, err := s.getCertificate(ctx, plain)
		return found, hideRefusal(err)
	case getCRL:
		found, err := s.getList(ctx, plain)
		return found, hideRefusal(err)
	default:
		return s.enrol(ctx, c, plain)
	}
}

// decrypt opens the envelope with the RA key that it names. Whatever is wrong
// with the ciphertext is hidden (rule S25).
func (s *Server) decrypt(ctx context.Context, c *call) ([]byte, error) {
	envelope, err := cms.ParseEnvelopedData(c.signed.Content, cms.Limits{})
	if err != nil {
		return nil, &hidden{err}
	}
	all := c.ep.ras.list()
	to := slices.IndexFunc(all, func(r ra) bool { return envelope.To(r.decrypt.cert) })
	if to < 0 {
		return nil, cms.ErrNotRecipient
	}
	c.envelope, c.ra = envelope, &all[to]
	if err := s.Limits.MayRead(ctx, c.counted()); err != nil {
		return nil, err
	}
	var plain []byte
	if busy := s.decrypts.Do(ctx, func() {
		plain, err = envelope.Decrypt(c.ra.decrypt.cert, c.ra.decrypt.key, c.ep.policy)
		c.opened = s.Now()
	}); busy != nil {
		return nil, busy
	}
	if err != nil && !fault.Is(err, fault.BadAlgorithm) && !fault.Is(err, fault.Unavailable) {
		err = &hidden{err}
	}
	return plain, err
}

// pkiStatus is how a request went (RFC 8894, section 3.2.1.3).
const (
	pkiSuccess = "0"
	pkiFailure = "2"
	pkiPending = "3"
)

func statusOf(status string) []cms.Attribute {
	return []cms.Attribute{attribute(oidPKIStatus, cbasn1.PrintableString, []byte(status))}
}

// success wraps certificates or lists for the signer, with the cipher that its
// request was encrypted with (rules S16, S23).
func (s *Server) success(ctx context.Context, c *call, found *content) ([]byte, error) {
	bag, err := cms.Degenerate(found.certs, found.crls)
	if err != nil {
		return nil, err
	}
	envelope, err := cms.Encrypt(ctx, cms.OIDData, bag, c.signer, c.envelope.Cipher, cms.KeyTransport{})
	if err != nil {
		return nil, err
	}
	return s.sign(c, envelope, statusOf(pkiSuccess)...)
}

// sign makes a CertRep (rules S15, S17): the client's transactionID and nonce
// repeated, a nonce of its own, the hash of the request where it may be used.
func (s *Server) sign(c *call, envelope []byte, extra ...cms.Attribute) ([]byte, error) {
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	attributes := append([]cms.Attribute{
		attribute(oidMessageType, cbasn1.PrintableString, []byte(strconv.Itoa(int(certRep)))),
		attribute(oidSenderNonce, cbasn1.OCTET_STRING, nonce[:]),
		{Type: oidTransactionID, Values: [][]byte{c.rawTransaction}},
	}, extra...)
	if c.senderNonce != nil {
		attributes = append(attributes, attribute(oidRecipientNonce, cbasn1.OCTET_STRING, c.senderNonce))
	}
	hash := c.info.Hash
	switch {
	case hash == crypto.SHA256 || hash == crypto.SHA384 || hash == crypto.SHA512:
	case hash == crypto.SHA1 && c.ep.SHA1:
	default:
		hash = crypto.SHA256
	}
	return cms.Sign(cms.Message{Type: cms.OIDData, Content: envelope}, cms.Signer{
		Certificate: c.ra.sign.cert, Key: c.ra.sign.key, Hash: hash, SHA1: c.ep.SHA1, Attributes: attributes,
	})
}
