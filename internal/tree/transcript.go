package tree

import (
	"context"
	"crypto/x509"

	"github.com/privyseal/privyseal/internal/fault"
)

// checkTranscript compares request, certificate and the act of the ceremony's
// transcript. It returns what is recorded of the transcript.
func (t *Tree) checkTranscript(_ context.Context, d Declared, _ *x509.Certificate, in Certificate) (string, error) {
	if len(in.Transcript) == 0 {
		if in.NoTranscript {
			return "none", nil
		}
		return "", fault.New(fault.Malformed,
			"give the transcript of the ceremony that signed %s; if the CA above is not yours and there is none, say so with --no-transcript", d.ID).Because("transcript_missing")
	}
	return "", fault.New(fault.Malformed, "transcripts cannot be read yet").Because("transcript")
}
