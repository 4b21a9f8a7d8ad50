package ceremony

import (
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/transcript"
)

// PublicKey returns the key of the first certificate in a PEM file.
func PublicKey(path string) (crypto.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return chain[0].PublicKey, nil
}

// VerifyTranscript checks a transcript and prints what it found. head is the one that was
// written down after an earlier ceremony, or after the last; empty if nobody has it.
func VerifyTranscript(out io.Writer, path, head string, asJSON bool, ca ...crypto.PublicKey) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read transcript: %w", err)
	}
	t, err := transcript.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	report, err := t.Verify(ca...)
	after := 0
	if err == nil && head != "" {
		after, err = t.Reaches(head)
	}
	if err != nil {
		return fmt.Errorf("%s does not hold: %w", path, err)
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	fmt.Fprintf(out, "%s holds: %d ceremonies, %d acts done, %d failed, %s to %s\n",
		path, report.Ceremonies, report.Acts, report.Failed, day(report.First), day(report.Last))
	for _, k := range report.Keys {
		fmt.Fprintf(out, "signed by the key with SHA-256 %s\n", k)
	}
	if !report.Trusted {
		fmt.Fprintln(out, "Whose key that is was not checked: give the CA's certificate with --ca.")
	}
	if head == "" {
		fmt.Fprintf(out, "Its head is %s: compare it with the binder, or give that of the binder with --head, "+
			"to be sure that nothing was cut off the end.\n", report.Head)
	} else {
		fmt.Fprintf(out, "It has the given head, and %d records after it.\n", after)
	}
	for _, n := range report.Notes {
		fmt.Fprintln(out, "NOTE", n)
	}
	return nil
}
