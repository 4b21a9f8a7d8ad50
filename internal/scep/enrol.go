package scep

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// enrol answers PKCSReq and RenewalReq (RFC 8894, section 3.3.1).
func (s *Server) enrol(ctx context.Context, c *call, plain []byte) (*content, error) {
	csr, err := s.readCSR(ctx, c, plain)
	if err != nil {
		return nil, err
	}
	proof, ask, err := s.prove(ctx, c, csr)
	if err != nil {
		return nil, err
	}
	ask.Endpoint, ask.Protocol, ask.Issuer = c.ep.Name, "scep", c.ep.Issuer
	ask.Requester, ask.Evidence, ask.Claims = proof.Identity, proof.Evidence, proof.Claims
	ask.RequestID, ask.Bound = web.RequestID(ctx), proof.Bound
	made, err := s.Approvals.Enrol(ctx, approval.Key{
		Endpoint: c.ep.Name, Identity: proof.Identity, CSR: csr.Raw, TransactionID: c.transactionID,
		Keep: approval.KeepSCEP, OneCSR: true, Spent: proof.Spent, Hook: proof.Hook, Admit: s.admit(c, proof),
	}, ask)
	if err != nil {
		if proof.Hook != "" && isRefusal(err) {
			s.Webhooks.Refused(proof.Hook, c.ep.Name, c.transactionID, csr, err)
		}
		return nil, err
	}
	return c.granted(made)
}

// admit bounds what strangers leave for a person to decide; nil for others.
func (s *Server) admit(c *call, proof *credential.Proof) func(context.Context) error {
	if !strings.HasPrefix(proof.Identity, byNobody) {
		return nil
	}
	return func(ctx context.Context) error {
		return s.Limits.UnprovedRequest(ctx, c.ep.Name, byNobody, proof.Identity, c.source)
	}
}

// isRefusal reports whether an error is the rules' last word on a request that is
// not on record. What a person decided is, and webhooks hear of it from there.
func isRefusal(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Pending, fault.RateLimited, fault.Unavailable, fault.Internal:
		return false
	}
	_, decided := issuance.VerdictOf(err)
	return !decided
}

// granted is a certificate as a client gets it: alone, or with the CA's
// (rule S16).
func (c *call) granted(made *issuance.Certificate) (*content, error) {
	ders := [][]byte{made.DER}
	if c.ep.CAInReply {
		ders = append(ders, made.Chain...)
	}
	found := &content{}
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		found.certs = append(found.certs, cert)
	}
	return found, nil
}

// readCSR reads what was decrypted. What is wrong with a request is told only to
// who made it: its own signature is right. Nobody can change a request that he
// cannot read and keep that so (rule S25).
func (s *Server) readCSR(ctx context.Context, c *call, plain []byte) (*pki.CSR, error) {
	parse := pki.ParseCSR
	if c.ep.SHA1 {
		parse = pki.ParseLegacyCSR
	}
	der := withoutLF(plain)
	csr, err := parse(ctx, der)
	switch {
	case err == nil || fault.Is(err, fault.Unavailable):
		return csr, err
	case fault.Of(err).Reason == "signature" || !pki.IntactCSR(ctx, der): // no signature is verified twice
		return nil, &hidden{fmt.Errorf("%s: %w", looksLike(der), err)}
	case fault.Of(err).Reason == "signature_algorithm":
		return nil, fault.Wrap(fault.BadAlgorithm, err, fault.Of(err).Detail).Because("signature_algorithm")
	}
	return nil, err
}

// withoutLF takes off one line feed after the request, which clients leave there
// that keep it as text.
func withoutLF(plain []byte) []byte {
	rest := cryptobyte.String(plain)
	var first cryptobyte.String
	if rest.ReadASN1Element(&first, cbasn1.SEQUENCE) && string(rest) == "\n" {
		return first
	}
	return plain
}

// looksLike says in the log what a content is, where no error of the parser does.
func looksLike(content []byte) string {
	rest := cryptobyte.String(content)
	var first cryptobyte.String
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(content), []byte("-----BEGIN")):
		return "the content is PEM, and has to be DER"
	case rest.ReadASN1Element(&first, cbasn1.SEQUENCE) && len(rest) > 0:
		return fmt.Sprintf("%d octets of %d follow the certificate request", len(rest), len(content))
	}
	return fmt.Sprintf("the content of %d octets", len(content))
}

// prove says who asks, and for what: a holder of a certificate of ours, who may
// renew it, or of a challenge, or somebody whom a person has to judge.
func (s *Server) prove(ctx context.Context, c *call, csr *pki.CSR) (*credential.Proof, issuance.Request, error) {
	ask := issuance.Request{CSR: csr, Profile: c.ep.DefaultProfile}
	held, err := s.held(ctx, c.signer)
	if err != nil {
		return nil, ask, err
	}
	if c.typ != pkcsReq {
		if held == nil {
			return nil, ask, fault.New(fault.Denied, "a renewal has to be signed with the certificate that it renews").
				Because("renewal_signer")
		}
		return s.renewal(ctx, c, held, csr)
	}
	var notAgain error // why a certificate of ours does not renew
	if held != nil {
		proof, again, err := s.byPKCSReq(ctx, c, held, csr)
		if err == nil || !isRefusal(err) || csr.ChallengePassword == "" && !c.ep.Manual {
			return proof, again, err
		}
		notAgain = err
	}
	// The signature of a PKCSReq proves possession of the key; a certificate of
	// ours may stand in for the throw-away one (RFC 8894, section 2.3; rule S21).
	if key, err := pki.HashKey(c.signer.PublicKey); held == nil && (err != nil || key != csr.KeyHash) {
		return nil, ask, fault.New(fault.BadCSR, "the request is for another key than the one that signed the message").
			Because("scep_key_mismatch")
	}
	proof, err := s.newcomer(ctx, c, csr)
	switch {
	case err != nil:
		return nil, ask, alsoFor(err, notAgain)
	case proof.Profile != "":
		ask.Profile = proof.Profile
	}
	return proof, ask, nil
}

// newcomer judges who renews nothing: by the challenge or, where a person decides, by
// the key alone. There a challenge that is not right leads to that person as well,
// unless a webhook has said no. It still counts as a guess, and after too many none is
// compared any more: whether it was right can be told by how transactions of the same
// requester fit together.
func (s *Server) newcomer(ctx context.Context, c *call, csr *pki.CSR) (*credential.Proof, error) {
	stranger := &credential.Proof{Identity: byNobody + csr.KeyHash.String(), Evidence: evidence("none", "")}
	if csr.ChallengePassword == "" && c.ep.Manual {
		return stranger, nil
	}
	proof, err := s.challenge(ctx, c, csr)
	if err == nil && c.ep.Manual { // before the door says no: here a person may say yes
		err = proof.Bound.Check(cmp.Or(proof.Profile, c.ep.DefaultProfile), &csr.Subject, csr.Names)
	}
	if err != nil && c.ep.Manual && c.ep.Webhook == "" && (isRefusal(err) || fault.Is(err, fault.RateLimited)) {
		stranger.Evidence = evidence("challenge_refused", fault.Of(err).Reason)
		return stranger, nil
	}
	return proof, err
}

// errNoPKCSReq refuses who would renew otherwise.
var errNoPKCSReq error = fault.New(fault.Denied, "the certificate that signed the request does not renew it, because "+
	"renew_by_pkcsreq is off here: send a RenewalReq, or a challenge password").Because("renew_by_pkcsreq_off")

// byPKCSReq renews for clients that know no RenewalReq. The certificate is all that
// they present.
func (s *Server) byPKCSReq(
	ctx context.Context, c *call, held *enrolment.Holder, csr *pki.CSR,
) (*credential.Proof, issuance.Request, error) {
	if !c.ep.renewsByPKCSReq() {
		return nil, issuance.Request{}, errNoPKCSReq
	}
	return s.renewal(ctx, c, held, csr)
}

// alsoFor adds to a refusal, for the log, a second cause, if there is one.
func alsoFor(err, second error) error {
	if second == nil {
		return err
	}
	f := *fault.Of(err)
	if f.Err == nil {
		f.Err = second
	} else {
		f.Err = fmt.Errorf("%w; %w", f.Err, second)
	}
	return &f
}

// challenge judges a challenge password: that of the endpoint, one that a webhook
// knows, or one on record.
func (s *Server) challenge(ctx context.Context, c *call, csr *pki.CSR) (*credential.Proof, error) {
	if c.ep.secret != nil && csr.ChallengePassword != "" {
		// A source that is locked out is told so whatever it presents.
		if err := s.Limits.Locked(ctx, c.ep.Name+" "+c.source); err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(csr.ChallengePassword))
		if subtle.ConstantTimeCompare(sum[:], c.ep.secret[:]) == 1 {
			bound := &issuance.Bound{Kind: "scep_endpoint", Binding: c.ep.binding()}
			// The key keeps devices apart that share the secret.
			proved := evidence("endpoint_challenge", c.ep.Name)
			return &credential.Proof{Identity: byEndpoint + c.ep.Name, Evidence: proved, Bound: bound}, nil
		}
	}
	attempt := credential.Attempt{Source: c.source, Endpoint: c.ep.Name, Profiles: c.ep.Profiles}
	if c.ep.Webhook != "" {
		return s.Webhooks.Check(ctx, c.ep.Webhook, attempt, c.transactionID, csr.ChallengePassword, csr)
	}
	return s.Challenges.Check(ctx, attempt, csr.ChallengePassword)
}

// held returns the holder of a certificate that we issued, nil for any other.
func (s *Server) held(ctx context.Context, signer *x509.Certificate) (*enrolment.Holder, error) {
	if bytes.Equal(signer.RawIssuer, signer.RawSubject) {
		return nil, nil //nolint:nilnil // a throw-away certificate
	}
	holder, err := s.Enrolment.Holder(ctx, signer)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Malformed) { // what cannot be read is on no record
		return nil, nil //nolint:nilnil // somebody else's
	}
	return holder, err
}

// renewal lets the holder of a certificate of ours have the same again (RFC 8894,
// section 2.3; rule S21).
func (s *Server) renewal(
	ctx context.Context, c *call, held *enrolment.Holder, csr *pki.CSR,
) (*credential.Proof, issuance.Request, error) {
	if err := s.Enrolment.Check(ctx, c.ep.rules(), held, true); err != nil {
		return nil, issuance.Request{}, err
	}
	ask, err := s.Enrolment.Renewal(held, csr)
	ask.By = []issuance.Basis{{Holder: held.Row.ID, Renew: true}}
	if err == nil {
		err = s.Enrolment.Count(ctx, held)
	}
	return &credential.Proof{Identity: held.Identity(), Evidence: evidence("certificate", held.Row.ID)}, ask, err
}

// recheck judges once more what a request that waits rests on, as if it were asked
// now.
func (s *Server) recheck(ctx context.Context, row *store.Request, asked issuance.Request) error {
	ep := s.byName(row.Endpoint)
	if ep == nil {
		return enrolment.Gone(row.Endpoint)
	}
	if err := enrolment.Offered(row, ep.Profiles, ep.takes(row.Identity)); err != nil {
		return err
	}
	for _, b := range asked.By {
		chain, err := s.Enrolment.Chain(ctx, b)
		if err != nil {
			return err
		}
		held, err := s.Enrolment.Holder(ctx, chain[0])
		if err == nil {
			err = s.Enrolment.Check(ctx, ep.rules(), held, b.Renew)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// What requesters are called in records that proved nothing, or the secret of an
// endpoint.
const (
	byNobody   = "key:"
	byEndpoint = "endpoint:"
)

// takes reports whether the endpoint still takes what a requester proved itself
// by. Whether its secret is still the same is not on record.
func (ep *endpoint) takes(identity string) bool {
	hook, hooked := strings.CutPrefix(identity, credential.KindWebhook+":")
	switch {
	case hooked:
		return ep.Webhook == hook
	case strings.HasPrefix(identity, byNobody):
		return ep.Manual
	case strings.HasPrefix(identity, byEndpoint):
		return ep.secret != nil
	}
	return true
}

func (s *Server) byName(name string) *endpoint {
	for _, ep := range s.current() {
		if ep.Name == name {
			return ep
		}
	}
	return nil
}

// rules are what the endpoint demands of certificates of ours.
func (ep *endpoint) rules() enrolment.Rules {
	return enrolment.Rules{
		Endpoint: ep.Name, Issuer: ep.Issuer, Profiles: ep.Profiles,
		Protocols: ep.AcceptProtocols, Grace: ep.RenewalGrace,
	}
}

func evidence(method, name string) json.RawMessage {
	text, _ := json.Marshal(map[string]string{"method": method, "credential": name}) // strings always encode
	return text
}
