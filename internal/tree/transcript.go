package tree

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/transcript"
)

// testimony is what a transcript says of a certificate.
type testimony struct {
	text  string   // for the audit record
	notes []string // what deserves a look
}

// checkTranscript compares request, certificate and the act of the ceremony's
// transcript, which has to be whole and signed by a CA of the chain.
func (t *Tree) checkTranscript(ctx context.Context, d Declared, chain []*x509.Certificate, in Certificate) (testimony, error) {
	if len(in.Transcript) == 0 {
		if in.NoTranscript {
			return testimony{text: "none"}, nil
		}
		return testimony{}, fault.New(fault.Malformed,
			"give the transcript of the ceremony that signed %s; if the CA above is not yours and there is none, say so with --no-transcript", d.ID).Because("transcript_missing")
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
	return testimony{fmt.Sprintf("record %d, ceremony %q, head %s", found.Record.Seq, found.Ceremony.Name, script.Head()), report.Notes}, nil
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
func (t *Tree) requestOf(ctx context.Context, d Declared) ([]byte, error) {
	if d.Offline {
		return nil, nil
	}
	last, err := t.lastRequest(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	if last == nil {
		return nil, fault.New(fault.Conflict, "no request of issuer %s is on record that the transcript could be compared with: privyseal issuer csr %s makes one", d.ID, d.ID).Because("no_request")
	}
	return last.csr.Raw, nil
}
