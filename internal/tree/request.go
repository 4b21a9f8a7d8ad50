package tree

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// RequestOptions say how a request is to be.
type RequestOptions struct {
	// Subject is the issuer's name, RFC 4514; empty takes that of the certificate
	// in force, of the request on record, or of the configuration.
	Subject string
	// Algorithm of the key, if it has to be made; empty takes the configuration's,
	// or ec-p256.
	Algorithm string
	// Again makes a new request though there is one for this name and key.
	Again bool
}

// Request is the certificate request of an issuer.
type Request struct {
	Issuer    string
	CSR       []byte // DER
	Subject   string
	Key       keys.Ref
	Algorithm string
	CreatedAt time.Time
	KeyMade   bool // the key was made by this call
}

// PEM returns the request for files.
func (r *Request) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR})
}

// Request makes the key of a declared issuer where it will live, unless it is
// there, and a certificate request for it. The request is kept: the same call
// returns the same one, and Install compares the certificate with it.
func (t *Tree) Request(ctx context.Context, id string, o RequestOptions, who Actor) (*Request, error) {
	d, err := t.declared(id)
	if err != nil {
		return nil, err
	}
	if d.Offline {
		return nil, fault.New(fault.Conflict, "the key of %s is not on this server: its request is made where the key "+
			"is", id).Because("issuer_offline")
	}
	last, err := t.lastRequest(ctx, id)
	if err != nil {
		return nil, err
	}
	name, err := t.subject(ctx, d, o.Subject, last)
	if err != nil {
		return nil, err
	}
	key, made, err := makeKey(ctx, d, o.Algorithm)
	if err != nil {
		return nil, err
	}
	defer key.Close() //nolint:errcheck // it was only asked for one signature
	r := &Request{Issuer: id, Subject: name.String(), Key: d.Key, Algorithm: pki.KeyAlgorithm(key.Public()),
		KeyMade: made}
	if last != nil && !o.Again && last.csr.Subject.EqualRFC5280(name) && pki.SameKey(last.csr.PublicKey, key.Public()) {
		r.CSR, r.CreatedAt = last.csr.Raw, last.CreatedAt
		return r, nil
	}
	csr, err := ceremony.NewRequest(key, r.Subject)
	if err != nil {
		return nil, err
	}
	r.CSR, r.CreatedAt = csr.Raw, t.Now()
	detail, err := json.Marshal(map[string]any{
		"subject": r.Subject, "key": d.Key, "algorithm": r.Algorithm, "key_made": made,
		"csr_sha256": pki.Fingerprint(csr.Raw),
	})
	if err != nil {
		return nil, fmt.Errorf("record request: %w", err)
	}
	row := store.IssuerRequest{IssuerID: id, CSR: csr.Raw, RequestedBy: who.Name, CreatedAt: r.CreatedAt}
	return r, t.Store.PutIssuerRequest(ctx, row, t.event(who, "issuer.requested", id, detail))
}

// keptRequest is the request on record, read.
type keptRequest struct {
	*store.IssuerRequest
	csr *pki.CSR
}

func (t *Tree) lastRequest(ctx context.Context, id string) (*keptRequest, error) {
	row, err := t.Store.IssuerRequest(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(ctx, row.CSR)
	if err != nil {
		return nil, fmt.Errorf("request of issuer %s on record: %w", id, err)
	}
	return &keptRequest{row, csr}, nil
}

// subject returns the name to ask for. An issuer that has a certificate keeps its
// name: relying parties know it by that.
func (t *Tree) subject(ctx context.Context, d ca.Declaration, asked string, last *keptRequest) (pki.Name, error) {
	_, cert, err := t.installed(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	text := asked
	switch {
	case cert != nil:
		have, err := pki.ParseNameDER(cert.RawSubject)
		if err != nil {
			return nil, err
		}
		if n, err := pki.ParseName(asked); asked != "" && (err != nil || !n.EqualRFC5280(have)) {
			return nil, fault.New(fault.Conflict, "issuer %s is installed as %s: a name is for one key and one "+
				"subject; give a new issuer a new name", d.ID, have).
				Because("issuer_subject")
		}
		return have, nil
	case text == "" && d.Subject != "":
		text = d.Subject
	case text == "" && last != nil:
		return last.csr.Subject, nil
	case text == "":
		return nil, fault.New(fault.Malformed, "say what issuer %s is called: --subject 'CN=…,O=…', or subject: in "+
			"the configuration", d.ID).Because("subject")
	}
	name, err := calaw.ParseSubject(text)
	if err == nil && name.CommonName() == "" {
		err = fault.New(fault.Malformed, "subject: CN is missing").Because("subject")
	}
	return name, err
}

// makeKey opens the issuer's key, or makes it.
func makeKey(ctx context.Context, d ca.Declaration, alg string) (key *keys.Key, made bool, err error) {
	asked := alg
	if alg == "" {
		alg = d.Algorithm
	}
	if alg == "" {
		alg = calaw.Algorithms(calaw.Online)[0]
	}
	if err := calaw.CheckAlgorithm(alg, calaw.Online); err != nil {
		return nil, false, err
	}
	key, err = keys.Open(ctx, d.Key, d.Secret, d.KeyConfig)
	if err == nil {
		if have := pki.KeyAlgorithm(key.Public()); asked != "" && have != asked {
			return nil, false, errors.Join(fault.New(fault.Conflict, "there is a key at %s, and it is %s, not %s",
				d.Key, have, asked).Because("key_exists"), key.Close())
		}
		return key, false, nil
	}
	if !errors.Is(err, keys.ErrNoKey) {
		return nil, false, fault.Wrap(fault.Unavailable, err,
			fmt.Sprintf("the key of issuer %s cannot be opened: %v", d.ID, err)).Because("key")
	}
	key, err = keys.GenerateIn(d.Key, alg, d.Secret, d.KeyConfig)
	if err != nil {
		return nil, false, fault.Wrap(fault.Unavailable, err,
			fmt.Sprintf("the key of issuer %s cannot be made: %v", d.ID, err)).Because("key")
	}
	return key, true, nil
}
