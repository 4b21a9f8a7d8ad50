package transcript

import (
	"fmt"

	"github.com/privyseal/privyseal/internal/pki"
)

// Found is an act and the ceremony in which it was done.
type Found struct {
	Record   Record // with Act
	Ceremony *Ceremony
}

// Find returns the acts that name a hash, SHA-256 in hexadecimal, as that of
// their request, certificate, list or key, in order. Acts that failed are among
// them.
func (t *Transcript) Find(hash string) []Found {
	var found []Found
	if hash == "" {
		return nil
	}
	for _, r := range t.records {
		if a := r.Act; a != nil && (a.Request == hash || a.Certificate == hash || a.CRL == hash || a.Key == hash) {
			found = append(found, Found{r, t.opening(r.Seq)})
		}
	}
	return found
}

// Match returns the act in which the certificate was signed for the request, both
// as DER. Its error says which of the two the transcript does not know, or that
// they do not belong together, or that a later act revoked the certificate. A nil request is not looked for. It says
// nothing
// of the transcript's own truth: that is Verify's.
func (t *Transcript) Match(request, certificate []byte) (Found, error) {
	hash := pki.Fingerprint(certificate)
	for _, f := range t.Find(hash) {
		a := f.Record.Act
		if a.Certificate != hash || a.Failed != "" {
			continue
		}
		if request == nil || a.Request == pki.Fingerprint(request) {
			return f, t.stands(f.Record)
		}
		return Found{}, fmt.Errorf("record %d: the certificate was signed for another request: the transcript has "+
			"SHA-256 %s, the request here %s",
			f.Record.Seq, a.Request, pki.Fingerprint(request))
	}
	if request != nil && len(t.Find(pki.Fingerprint(request))) > 0 {
		return Found{}, fmt.Errorf("the transcript knows the request, but another certificate than SHA-256 %s was "+
			"signed for it", hash)
	}
	return Found{}, fmt.Errorf("no act of the transcript made the certificate with SHA-256 %s", hash)
}

// stands fails if the certificate of a record was revoked by a later one.
func (t *Transcript) stands(made Record) error {
	for _, r := range t.records {
		if a := r.Act; a != nil && r.Seq > made.Seq && a.Name == "revoke" && a.Failed == "" &&
			a.Serial == made.Act.Serial && a.Serial != "" {
			return fmt.Errorf("record %d: the certificate was revoked after it was signed", r.Seq)
		}
	}
	return nil
}
