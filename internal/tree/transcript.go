package tree

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/transcript"
)

// testimony is what a transcript says of a certificate.
type testimony struct {
	text  string   // for the audit record
	notes []string // what deserves a look
	none  bool     // nothing speaks for the certificate
}

// checkTranscript compares request, certificate and the act of the ceremony's
// transcript, which has to be whole and signed by a CA of the chain.
func (t *Tree) checkTranscript(
	ctx context.Context, d ca.Declaration, chain []*x509.Certificate, in Certificate,
) (testimony, error) {
	if len(in.Transcript) == 0 {
		if id, err := t.issuedHere(ctx, chain); err != nil || id != "" {
			return testimony{text: "issued here: certificate " + id}, err
		}
		if in.NoTranscript {
			return testimony{text: "none", none: true}, nil
		}
		return testimony{}, fault.New(fault.Malformed,
			"give the transcript of the ceremony that signed %s; if the CA above is not yours and there is none, say "+
				"so with --no-transcript", d.ID).Because("transcript_missing")
	}
	refuse := func(err error) (testimony, error) {
		return testimony{}, fault.New(fault.Denied, "the transcript: %w", err).Because("transcript")
	}
	script, err := transcript.Parse(in.Transcript)
	if err != nil {
		return refuse(err)
	}
	report, err := script.Verify(signers(chain)...)
	if err != nil {
		return refuse(err)
	}
	request, err := t.requestOf(ctx, d)
	if err != nil {
		return testimony{}, err
	}
	found, err := script.Match(request, chain[0].Raw)
	if err != nil {
		return refuse(err)
	}
	text := fmt.Sprintf("record %d, ceremony %q, head %s", found.Record.Seq, found.Ceremony.Name, script.Head())
	return testimony{text: text, notes: report.Notes}, nil
}

// issuedHere returns the id of a certificate that this server's own door has
// issued: its record says more than a transcript.
func (t *Tree) issuedHere(ctx context.Context, chain []*x509.Certificate) (string, error) {
	if len(chain) < 2 {
		return "", nil
	}
	known, err := t.Store.Issuers(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range known {
		if !bytes.Equal(r.Certificate, chain[1].Raw) {
			continue
		}
		c, err := t.Store.CertificateBySerial(ctx, r.ID, pki.SerialFromBig(chain[0].SerialNumber))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
		if err == nil && c.Status == "issued" && bytes.Equal(c.DER, chain[0].Raw) {
			return c.ID, nil
		}
	}
	return "", nil
}

// signers are the keys that may have signed the transcript: those of the CAs
// above, and a root's own.
func signers(chain []*x509.Certificate) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, c := range chain[min(1, len(chain)-1):] {
		keys = append(keys, c.PublicKey)
	}
	return keys
}

// requestOf returns the request that a transcript has to name; nil for a CA whose
// request was made elsewhere.
func (t *Tree) requestOf(ctx context.Context, d ca.Declaration) ([]byte, error) {
	if d.Offline {
		return nil, nil
	}
	last, err := t.lastRequest(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	if last == nil {
		return nil, fault.New(fault.Conflict, "no request of issuer %s is on record that the transcript could be "+
			"compared with: privyseal issuer csr %s makes one", d.ID, d.ID).Because("no_request")
	}
	return last.csr.Raw, nil
}
