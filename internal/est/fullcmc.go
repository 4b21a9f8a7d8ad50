package est

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/privyseal/privyseal/internal/cmc"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

// fullcmc is RFC 7030, section 4.3: a signed PKIData in, a signed PKIResponse out.
// The connection says who asks and what for he may ask, as in simpleenroll; the
// message's signature adds to that only the right to revoke (rule E19).
func (s *Server) fullcmc(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	c, err := s.authenticate(r, ep, false)
	if err != nil {
		return err
	}
	web.Note(r.Context(), slog.String("client", c.identity()))
	der, err := readBody(r, typeCMS)
	if err != nil {
		return err
	}
	signed, err := cms.ParseSignedData(der, cms.Limits{Signers: 1})
	if err != nil {
		return err
	}
	own, key, err := s.signingPair() // what could not be answered is not begun
	if err != nil {
		return err
	}
	x := &exchange{Server: s, r: r, ep: ep, c: c}
	x.run(r.Context(), signed)
	body, err := x.response.DER()
	if err != nil {
		return err
	}
	message, err := cms.Sign(cms.Message{Type: cmc.OIDPKIResponse, Content: body,
		Certificates: append(x.issued, own...)},
		cms.Signer{Certificate: own[0], Key: key, SigningTime: s.Now()})
	if err != nil {
		return err
	}
	x.reply(w, message)
	return nil
}

// exchange is one message and what becomes of it.
type exchange struct {
	*Server
	r        *http.Request
	ep       *endpoint
	c        *client
	response cmc.Response
	issued   []*x509.Certificate
	done     bool         // some part of the message succeeded
	failed   *fault.Error // the first failure that is final
	pending  time.Duration
}

// run does what the message asks for, part by part: one that is refused does not
// stop the others. What is wrong with the message as a whole stops all of them.
func (x *exchange) run(ctx context.Context, signed *cms.SignedData) {
	if !signed.Type.Equal(cmc.OIDPKIData) {
		x.note(nil, fault.New(fault.Malformed, "the message is signed data of type %s and not a PKIData", signed.Type).
			Because("cmc_type"))
		return
	}
	m, err := cmc.Parse(signed.Content)
	if err != nil {
		x.note(nil, err)
		return
	}
	x.response.TransactionID, x.response.RecipientNonce, x.response.DataReturn = m.TransactionID, m.SenderNonce,
		m.DataReturn
	if m.SenderNonce != nil {
		x.response.SenderNonce = make([]byte, 16)
		_, _ = rand.Read(x.response.SenderNonce) // never fails
	}
	if len(m.Unknown) > 0 {
		x.note(m.Unknown, fault.New(fault.Malformed, "a control or a form of request that is not understood here").
			Because("cmc_unknown"))
		return
	}
	if x.c.cmc, err = x.signer(ctx, signed, m); err != nil {
		x.note(nil, err)
		return
	}
	if len(m.Requests)+len(m.Revocations)+len(m.Queries) == 0 {
		x.note(nil, nil)
	}
	for _, r := range m.Requests {
		x.note([]uint32{r.BodyPart}, x.enrol(r))
	}
	for _, r := range m.Revocations {
		x.note([]uint32{r.BodyPart}, x.revoke(ctx, r))
	}
	for _, q := range m.Queries {
		cert, err := x.Approvals.Answer(ctx, x.ep.Name, x.c.identity(), token(q.Token))
		x.note([]uint32{q.BodyPart}, x.keep(cert, err))
	}
}

// token reads the id of a request; what cannot be one is empty.
func token(raw []byte) string {
	for _, b := range raw {
		if b <= ' ' || b > '~' {
			return ""
		}
	}
	return string(raw)
}

// cmcSigner is who signed a message.
type cmcSigner struct {
	cert *presented // nil if the key has no certificate yet
	name string     // for the audit record
}

func (c *client) isRA() bool {
	return c.presented != nil && c.presented.ra || c.cmc != nil && c.cmc.cert != nil && c.cmc.cert.ra
}

// signer verifies the signature of a message: by the certificate of the
// connection, by another one that counts here, or by the key of one of the
// requests, which has no certificate yet (RFC 5272, section 3.2).
func (x *exchange) signer(ctx context.Context, signed *cms.SignedData, m *cmc.Message) (*cmcSigner, error) {
	var known []*x509.Certificate
	if x.c.presented != nil {
		known = append(known, x.c.presented.cert)
	}
	signers, err := signed.Verify(ctx, cms.Policy{}, known...)
	if err != nil {
		if len(signed.Signers) == 1 && signed.Signers[0].Name.Serial == nil {
			return x.bareKey(ctx, m, err, func(key crypto.PublicKey) error {
				return signed.VerifyKey(ctx, signed.Signers[0], key, cms.Policy{})
			})
		}
		return nil, err
	}
	cert := signers[0]
	switch {
	case x.c.presented != nil && cert.Equal(x.c.presented.cert):
		return &cmcSigner{x.c.presented, x.c.presented.identity()}, nil
	case string(cert.RawIssuer) == string(cert.RawSubject):
		key, ok := cert.PublicKey.(publicKey)
		stranger := fault.New(fault.Unverified, "the message is signed by a key that is in none of its requests").
			Because("cmc_signer")
		return x.bareKey(ctx, m, stranger, func(other crypto.PublicKey) error {
			if ok && key.Equal(other) {
				return nil
			}
			return stranger
		})
	}
	found, err := x.judge(ctx, x.ep, append([]*x509.Certificate{cert}, signed.Certificates...), false)
	if err != nil {
		return nil, err
	}
	return &cmcSigner{found, found.identity()}, nil
}

// bareKey looks for the request whose key signed the message; signedBy is nil for
// that one. A request that could not be looked at for now may be the one.
func (x *exchange) bareKey(
	ctx context.Context, m *cmc.Message, otherwise error, signedBy func(crypto.PublicKey) error,
) (*cmcSigner, error) {
	for i := range m.Requests {
		csr, err := readRequest(ctx, &m.Requests[i], false)
		if err == nil {
			err = signedBy(csr.PublicKey)
		}
		switch {
		case err == nil:
			return &cmcSigner{name: "key:" + csr.KeyHash.String()}, nil
		case fault.Is(err, fault.Unavailable):
			return nil, err
		}
	}
	return nil, otherwise
}

func readRequest(ctx context.Context, r *cmc.Request, raVerified bool) (*pki.CSR, error) {
	if r.CRMF != nil {
		return pki.ParseCRMF(ctx, r.CRMF, raVerified)
	}
	return pki.ParseCSR(ctx, r.PKCS10)
}

func (x *exchange) enrol(r cmc.Request) error {
	csr, err := readRequest(x.r.Context(), &r, x.c.isRA())
	if err != nil {
		return err
	}
	return x.keep(x.certify(x.r, x.ep, x.c, csr, "fullcmc", false))
}

// keep puts a certificate into the answer.
func (x *exchange) keep(made *issuance.Certificate, err error) error {
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(made.DER)
	if err == nil {
		x.issued = append(x.issued, cert)
	}
	return err
}

// revoke lets the holder of a certificate revoke it, and a registration authority
// those of its endpoint.
func (x *exchange) revoke(ctx context.Context, r cmc.Revocation) error {
	by := x.c.cmc.cert
	switch {
	case r.Passphrase:
		return fault.New(fault.Malformed, "a revocation is authorised by a signature here, not by a shared secret").
			Because("revocation_passphrase")
	case by == nil:
		return fault.New(fault.Denied, "a message that revokes has to be signed with a certificate").
			Because("revocation_signer")
	}
	row, _, err := x.Pipeline.LookupNumber(ctx, r.Issuer, r.Serial)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	own := row != nil && by.holder != nil && row.ID == by.holder.Row.ID
	switch {
	case !own && !by.ra:
		return fault.New(fault.Denied, "only the holder of a certificate and a registration authority can revoke it").
			Because("revocation_foreign")
	case row == nil || !own && row.Endpoint != x.ep.Name:
		return fault.New(fault.NotFound, "this service has issued no such certificate").Because("revocation_unknown")
	}
	return x.Pipeline.Revoke(ctx, issuance.Revocation{
		CertificateID: row.ID, Reason: r.Reason, InvalidityAt: r.InvalidityAt, Requester: by.identity(),
		RequestID: web.RequestID(ctx),
		BlockKey:  own || row.Requester == by.identity(),
	})
}

// note puts the outcome of some parts into the answer; no part is the whole
// message.
func (x *exchange) note(parts []uint32, err error) {
	st := cmc.Status{BodyParts: parts, Code: cmc.Success}
	f := fault.Of(err)
	switch {
	case err == nil:
		x.done = true
	case f.Kind == fault.Pending:
		x.pending = max(x.pending, retryAfter(f))
		st.Code, st.Token, st.Time = cmc.Pending, []byte(f.Identifier.Value), x.Now().Add(retryAfter(f))
	default:
		if x.failed == nil {
			x.failed = f
		}
		web.Note(x.r.Context(), slog.String("error", err.Error()))
		st.Code, st.Fail = cmc.Failed, failInfo(f)
	}
	if err != nil {
		st.Text = plainText(f)
	}
	x.response.Statuses = append(x.response.Statuses, st)
}

// reply sends the answer. RFC 7030, section 4.3.2, wants an HTTP status that says
// how it went: 200 if anything was done, 202 if anything waits.
func (x *exchange) reply(w http.ResponseWriter, message []byte) {
	code, after := http.StatusOK, time.Duration(0)
	switch {
	case x.done:
	case x.pending > 0:
		code, after = http.StatusAccepted, x.pending
	default:
		code, after = status(x.failed.Kind), retryAfter(x.failed)
	}
	if after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(after)))
	}
	w.Header().Set("Cache-Control", "no-store")
	sendStatus(w, code, typeResponse, x.ep.encode(x.r, message), true)
}

// failInfo is the reason of a failure in CMC's words (RFC 5272, section 6.1.4).
func failInfo(f *fault.Error) cmc.FailInfo {
	switch f.Kind {
	case fault.Internal:
		return cmc.InternalCAError
	case fault.Unavailable, fault.RateLimited:
		return cmc.TryLater
	case fault.Unverified:
		return cmc.BadMessageCheck
	case fault.BadAlgorithm, fault.BadPublicKey:
		return cmc.BadAlg
	case fault.NotFound:
		return cmc.BadCertID
	case fault.Denied, fault.Unauthenticated:
		return cmc.BadIdentity
	}
	switch f.Reason {
	case "crmf_pop":
		return cmc.POPRequired
	case "signature":
		return cmc.POPFailed
	}
	return cmc.BadRequest
}
