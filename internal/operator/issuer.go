package operator

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/pki"
)

func (c *CLI) issuer() *cobra.Command {
	return group("issuer", "the CAs that are installed or declared",
		c.issuerList(), c.issuerCSR(), c.issuerInstall(), c.issuerRemove())
}

func (c *CLI) issuerCSR() *cobra.Command {
	var r api.NewIssuerCSR
	var out string
	var asJSON *bool
	return c.command(verb{
		use: "csr NAME", short: "print the certificate request of an issuer, whose key is made if it has none",
		args: cobra.ExactArgs(1),
		long: `Makes the key of an issuer that the configuration declares where it will live, in
its token or its encrypted file, and prints the request to carry to the ceremony.
A key that is there is used, and a request that is on record is printed again: the
certificate that comes back is compared with it.

The name asked for is --subject, or that of the certificate in force, of the
configuration, or of the last request. The fingerprint goes to standard error: it
is what the ceremony asks for.`,
		example: `  privyseal issuer csr web-a > web-a.csr
  privyseal issuer csr web-a --subject 'CN=Web CA A,O=Example,C=DE' --algorithm ec-p384 --out web-a.csr
  openssl req -in web-a.csr -noout -text -verify`,
		flags: func(cmd *cobra.Command) {
			f := cmd.Flags()
			f.StringVar(&r.Subject, "subject", "", "what the CA is called, such as 'CN=Web CA A,O=Example,C=DE'")
			f.StringVar(&r.Algorithm, "algorithm", "",
				"of a key that has to be made: ec-p256, ec-p384, ec-p521, rsa-3072 or rsa-4096")
			f.BoolVar(&r.Again, "again", false, "make a new request though there is one on record")
			f.StringVar(&out, "out", "", "write the request to this file instead of standard output")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			csr, err := api.CreateIssuerCSR.Call(cmd.Context(), client, api.IssuerRef{Issuer: args[0]}, r)
			if err != nil {
				return err
			}
			if csr.KeyMade {
				cmd.PrintErrf("made the key %s (%s)\n", csr.Key, csr.Algorithm)
			}
			cmd.PrintErrf("%s\nSHA-256 %s\n", csr.Subject, csr.SHA256)
			if out != "" {
				if err := saveFile(out, strings.NewReader(csr.CSR)); err != nil {
					return err
				}
			}
			switch {
			case *asJSON:
				return printJSON(cmd.OutOrStdout(), csr)
			case out == "":
				_, err = io.WriteString(cmd.OutOrStdout(), csr.CSR)
			}
			return err
		},
	})
}

func (c *CLI) issuerInstall() *cobra.Command {
	var certificate, transcript string
	var none bool
	var asJSON *bool
	return c.command(verb{
		use:   "install NAME --certificate FILE [--transcript FILE | --no-transcript]",
		short: "put the certificate of a declared CA in force", args: cobra.ExactArgs(1),
		long: `Puts a certificate in force for a CA that the configuration declares, under issuers
or offline. The server compares it with the key and the request on record, with the
laws of the tree along its chain up to the root, and with the act of the ceremony's
transcript, and issues from it at once.

The file holds the CA's certificate and those above it that are not installed yet;
the root is last. A certificate that this server issued needs no transcript, one
that somebody else's CA signed has none: --no-transcript accepts that, and the audit
record says so.`,
		example: `  privyseal issuer install root-1 --certificate root-1.pem --transcript transcript.json
  privyseal issuer install web-a --certificate web-a.pem --transcript transcript.json
  privyseal issuer install web-a --certificate from-the-group.pem --no-transcript`,
		flags: func(cmd *cobra.Command) {
			f := cmd.Flags()
			f.StringVar(&certificate, "certificate", "", "PEM file of the certificate and its chain (required)")
			f.StringVar(&transcript, "transcript", "", "transcript of the ceremony that signed it")
			f.BoolVar(&none, "no-transcript", false, "there is none: the CA above is somebody else's")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if certificate == "" || transcript != "" && none {
				return usagef("%s: want --certificate, and not both of --transcript and --no-transcript; see --help",
					cmd.CommandPath())
			}
			r := api.IssuerCertificate{NoTranscript: none}
			for _, f := range []struct {
				path string
				into *string
			}{{certificate, &r.Certificate}, {transcript, &r.Transcript}} {
				if f.path == "" {
					continue
				}
				text, err := readSmall(cmd, f.path)
				if err != nil {
					return err
				}
				*f.into = string(text)
			}
			// What cannot be read goes as it is: the server has more to say than that.
			if chain, err := pki.Objects([]byte(r.Certificate), pki.Certificates); err == nil {
				r.Certificate = string(pki.Certificates.PEM(chain...))
			}
			answer, err := api.InstallIssuer.Call(cmd.Context(), client, api.IssuerRef{Issuer: args[0]}, r)
			if err != nil {
				return err
			}
			done, again := answer.Done()
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			return printInstalled(cmd, done, again)
		},
	})
}

func printInstalled(cmd *cobra.Command, done *api.InstalledIssuer, again bool) error {
	for _, w := range done.Warnings {
		cmd.PrintErrln("warning:", w)
	}
	text := "installed"
	if again {
		text = "was installed already:"
	}
	i := done.Issuer
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s, good until %s (%s)\n", text, i.ID, i.Subject,
		stamp(i.NotAfter), i.Fingerprint)
	return err
}

// maxSmall bounds the files that are sent in one body.
const maxSmall = 3 << 20

// readSmall reads a file, or standard input for "-".
func readSmall(cmd *cobra.Command, path string) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("%s", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSmall+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case len(text) > maxSmall:
		return nil, usagef("%s: is larger than %d bytes", path, maxSmall)
	}
	return text, nil
}
