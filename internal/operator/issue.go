package operator

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/pki"
)

// maxCSR is far more than any request needs.
const maxCSR = 128 << 10

// issueFlags are what `cert issue` takes.
type issueFlags struct {
	profile, csr, issuer, subject, out string
	names                              []string
	notBefore, notAfter                string
	dryRun                             bool
	batch                              batchFlags
	key                                keyFlags
	asJSON                             *bool
}

func (c *CLI) certIssue() *cobra.Command {
	var f issueFlags
	return c.command(verb{
		use:   "issue --profile P {--csr FILE | --key-out FILE | --batch DIR}",
		short: "issue a certificate for a certificate request, for a key made here, or many",
		long: `Issues a certificate and prints it and its chain as PEM, leaf first, root omitted.

With --dry-run the server says whether it would issue and what; nothing is signed
and nothing is stored. A refusal exits 1 with or without --dry-run.

With --key-out the key is made here and stays here; --name and --subject say what
is certified. The file is new, and gone again if the server refuses.

With --batch every *.csr file of a folder gets a .pem file beside it, or the
requests on standard input, PEM or JSON lines with "name" and "csr", get theirs on
standard output: PEM, or with --json one result a line. A batch that broke off is
resumed by the same command and issues nothing twice: within 30 days the same
request in a batch of the same name gets the certificate that it has.`,
		example: `  privyseal cert issue --profile tls-server --name web1.internal --key-out web1.key --out web1.pem
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem \
      -subj /CN=www.example.test -addext subjectAltName=DNS:www.example.test -out www.csr
  privyseal cert issue --profile tls-server --csr www.csr --dry-run
  privyseal cert issue --profile tls-server --csr www.csr --out www.pem
  privyseal cert issue --profile user --csr - --subject 'CN=Ann Example' --name email:ann@example.test < ann.csr
  privyseal cert issue --profile device --batch ./line-3
  privyseal cert issue --profile device --batch - --batch-name monday --json < requests.jsonl > results.jsonl`,
		flags: func(cmd *cobra.Command) {
			flags := cmd.Flags()
			flags.StringVar(&f.profile, "profile", "", "the rules to issue under (required)")
			flags.StringVar(&f.csr, "csr", "", "certificate request, PEM or DER; - is standard input")
			flags.StringVar(&f.batch.from, "batch", "", "folder of certificate requests, or - for standard input")
			flags.StringVar(&f.batch.name, "batch-name", "", "what the batch is called; the folder's name if left out")
			flags.StringVar(&f.issuer, "issuer", "", "issuer or pool; needed only where there are several")
			flags.StringVar(&f.subject, "subject", "",
				"replaces the request's subject, such as 'CN=Ann Example,O=Example'")
			flags.StringArrayVar(&f.names, "name", nil,
				"replaces the request's names, TYPE:VALUE or a plain DNS name or address; may be given often")
			flags.StringVar(&f.notBefore, "not-before", "", "a time, a date, or a span from now")
			flags.StringVar(&f.notAfter, "not-after", "", "a time, a date, or a span from now such as 30d")
			flags.BoolVar(&f.dryRun, "dry-run", false, "only say what would happen")
			flags.StringVar(&f.out, "out", "", "write the chain to this file instead of standard output")
			f.key.set(cmd)
			f.asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if f.batch.from != "" {
				return c.issueBatch(cmd, client, f)
			}
			r, err := c.issueRequest(cmd, f)
			if err != nil {
				return err
			}
			if f.dryRun {
				return preview(cmd, client, r, *f.asJSON)
			}
			err = issue(cmd, client, r, f)
			f.key.after(cmd, err)
			return err
		},
	})
}

func (c *CLI) issueRequest(cmd *cobra.Command, f issueFlags) (r api.IssueRequest, err error) {
	made := f.key.out != ""
	switch {
	case f.profile == "" || made == (f.csr != ""):
		return r, usagef("%s: --profile is required, and either --csr or --key-out; see --help", cmd.CommandPath())
	case made && len(f.names) == 0 && f.subject == "":
		return r, usagef("%s: --key-out needs --name or --subject: what is certified", cmd.CommandPath())
	case cmd.Flags().Changed("algorithm") && !made:
		return r, usagef("%s: --algorithm is of the key that --key-out makes", cmd.CommandPath())
	}
	r = api.IssueRequest{Profile: f.profile, Issuer: f.issuer, Subject: f.subject}
	if r.NotBefore, err = parseTime("not-before", f.notBefore, c.now()); err != nil {
		return r, err
	}
	if r.NotAfter, err = parseTime("not-after", f.notAfter, c.now()); err != nil {
		return r, err
	}
	for _, n := range f.names {
		r.Names = append(r.Names, parseName(n))
	}
	if made {
		r.CSR, err = f.key.request(f.dryRun)
	} else {
		r.CSR, err = readCSR(cmd, f.csr)
	}
	return r, err
}

// parseName reads TYPE:VALUE, or guesses dns or ip.
func parseName(text string) api.Identifier {
	if _, err := netip.ParseAddr(text); err == nil {
		return api.Identifier{Type: "ip", Value: text}
	}
	if typ, value, ok := strings.Cut(text, ":"); ok {
		return api.Identifier{Type: typ, Value: value}
	}
	return api.Identifier{Type: "dns", Value: text}
}

// readCSR returns the request as PEM, whatever it came in; the server says what is wrong
// with it.
func readCSR(cmd *cobra.Command, path string) (string, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", usagef("--csr: %s", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxCSR+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read certificate request: %w", err)
	case len(text) == 0:
		return "", usagef("--csr %s: is empty", path)
	case len(text) > maxCSR:
		return "", usagef("--csr %s: is larger than %d bytes", path, maxCSR)
	}
	der, err := pki.Single(text, pki.Requests)
	if err != nil {
		return "", fmt.Errorf("--csr %s: %w", path, err)
	}
	return string(pki.Requests.PEM(der)), nil
}

func issue(cmd *cobra.Command, client *api.Client, r api.IssueRequest, f issueFlags) error {
	var out *files.Out
	if f.out != "" { // made before the call, so that a certificate is not issued for nowhere
		var err error
		if out, err = files.Create(f.out, public); err != nil {
			return usagef("--out: %s", err)
		}
		defer out.Discard()
	}
	cert, err := client.Issue(cmd.Context(), r)
	if err != nil {
		return err
	}
	cmd.PrintErrf("issued %s by %s, good until %s\n", cert.Serial, cert.Issuer, stamp(cert.NotAfter))
	if out != nil {
		if err := fill(out, strings.NewReader(cert.Chain)); err != nil {
			return fmt.Errorf("the certificate was issued (privyseal cert show %s --pem), but not written: %w",
				cert.Serial, err)
		}
	}
	switch {
	case *f.asJSON:
		return printJSON(cmd.OutOrStdout(), cert)
	case out == nil:
		_, err = io.WriteString(cmd.OutOrStdout(), cert.Chain)
	}
	return err
}

func preview(cmd *cobra.Command, client *api.Client, r api.IssueRequest, asJSON bool) error {
	v, err := client.Preview(cmd.Context(), r)
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), v)
	} else {
		err = showVerdict(cmd.OutOrStdout(), v)
	}
	if err == nil && v.Verdict == api.DecisionRefuse {
		return &api.Problem{Status: 403, Detail: "it would be refused", Reason: v.Reason}
	}
	return err
}

var decisions = map[api.Decision]string{
	api.DecisionIssue: "would be issued", api.DecisionRefuse: "would be refused",
	api.DecisionApproval: "would wait for approval",
}

func showVerdict(w io.Writer, v *api.Verdict) error {
	s := newSheet(w)
	s.line("verdict", decisions[v.Verdict])
	if v.Verdict == api.DecisionRefuse {
		s.line("reason", strings.TrimPrefix(v.Kind+" "+v.Reason, " "))
		s.line("detail", v.Detail)
		for _, sub := range v.Subproblems {
			s.line("name", sub.Identifier.Type+":"+sub.Identifier.Value+": "+sub.Detail)
		}
	}
	if t := v.Template; t.Profile != "" {
		s.line("profile", t.Profile+" ("+t.ProfileVersion+")")
		s.line("issuer", t.Issuer)
		s.line("subject", t.Subject)
		s.line("names", names(t.Names)...)
		s.line("not before", stamp(t.NotBefore))
		s.line("not after", stamp(t.NotAfter))
		s.line("key", t.KeyAlgorithm)
		s.line("key usage", strings.Join(t.KeyUsage, ", "))
		s.line("ext key usage", strings.Join(t.ExtKeyUsage, ", "))
		s.line("policies", strings.Join(t.Policies, ", "))
		s.line("extensions", strings.Join(t.Extensions, ", "))
		if t.CA {
			length := "none"
			if t.MaxPathLen != nil {
				length = fmt.Sprint(*t.MaxPathLen)
			}
			s.line("CA", "yes, path length "+length)
		}
	}
	return s.end()
}
