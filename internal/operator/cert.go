package operator

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) cert() *cobra.Command {
	return group("cert", "issue, find, export and revoke certificates",
		c.certIssue(), c.certList(), c.certShow(), c.certExport(), c.certRevoke(), c.certRelease())
}

// filter is the search that list and export share.
type filter struct {
	name, serial, profile, issuer, status, requester, key string
	expiresAfter, expiresBefore                           string
}

func (f *filter) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "part of a name or subject; '*.example.test' matches names that end so")
	flags.StringVar(&f.serial, "serial", "", "serial in hexadecimal")
	flags.StringVar(&f.profile, "profile", "", "profile")
	flags.StringVar(&f.issuer, "issuer", "", "issuer's id")
	flags.StringVar(&f.status, "status", "", "reserved, issued, abandoned, void, imported or revoked")
	flags.StringVar(&f.requester, "requester", "", "who asked for it, such as account:ID or uid:0")
	flags.StringVar(&f.key, "key", "", "SHA-256 of the public key in hexadecimal, the \"key hash\" of cert show")
	flags.StringVar(&f.expiresAfter, "expires-after", "", "a time, a date, or a span from now such as 0h")
	flags.StringVar(&f.expiresBefore, "expires-before", "", "a time, a date, or a span from now such as 30d")
}

// selects is the filter as the API has it.
func (f *filter) selects(now time.Time) (api.CertificateFilter, error) {
	out := api.CertificateFilter{
		Name: f.name, Serial: f.serial, Profile: f.profile, Issuer: f.issuer, Status: api.CertificateStatus(f.status),
		Requester: f.requester, Key: f.key,
	}
	var err error
	if out.ExpiresAfter, err = parseTime("expires-after", f.expiresAfter, now); err != nil {
		return out, err
	}
	out.ExpiresBefore, err = parseTime("expires-before", f.expiresBefore, now)
	return out, err
}

func (c *CLI) certList() *cobra.Command {
	var f filter
	var limit int
	var cursor string
	var all bool
	var asJSON *bool
	return c.command(verb{
		use: "list", short: "list certificates, newest first",
		example: `  privyseal cert list --name '*.example.test' --status issued
  privyseal cert list --expires-after 0h --expires-before 30d --all
  privyseal cert list --profile device --json`,
		flags: func(cmd *cobra.Command) {
			f.flags(cmd)
			cmd.Flags().IntVar(&limit, "limit", 100, "certificates on a page, at most 1000")
			cmd.Flags().StringVar(&cursor, "cursor", "", "go on where the page before ended")
			cmd.Flags().BoolVar(&all, "all", false, "every page")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			selected, err := f.selects(c.now())
			if err != nil {
				return err
			}
			if limit < 1 || limit > 1000 {
				return usagef("--limit %d: want 1 to 1000", limit)
			}
			return list(cmd, client, api.ListCertificatesParams{
				CertificateFilter: selected, PageParams: api.PageParams{Cursor: cursor, Limit: limit},
			}, all, *asJSON)
		},
	})
}

// list prints one page, or all.
func list(cmd *cobra.Command, client *api.Client, p api.ListCertificatesParams, all, asJSON bool) error {
	page, err := api.ListCertificates.Call(cmd.Context(), client, p, api.None{})
	if err != nil {
		return err
	}
	for all && page.Next != "" {
		p.Cursor = page.Next
		more, err := api.ListCertificates.Call(cmd.Context(), client, p, api.None{})
		if err != nil {
			return err
		}
		page.Certificates, page.Next = append(page.Certificates, more.Certificates...), more.Next
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), page)
	}
	t := newTable(cmd.OutOrStdout(), "SERIAL", "STATUS", "PROFILE", "ISSUER", "NOT AFTER", "NAMES")
	for _, cert := range page.Certificates {
		t.row(cert.Serial, string(cert.Status), cert.Profile, cert.Issuer, stamp(cert.NotAfter),
			brief(cert.Names, cert.Subject))
	}
	if err := t.end(); err != nil {
		return err
	}
	if page.Next != "" {
		cmd.PrintErrf("There is more: --cursor %s, or --all.\n", page.Next)
	}
	return nil
}

func (c *CLI) certShow() *cobra.Command {
	var issuer string
	var asPEM bool
	var asJSON *bool
	return c.command(verb{
		use: "show SERIAL|ID", short: "show one certificate", args: cobra.ExactArgs(1),
		example: `  privyseal cert show 4f3c…
  privyseal cert show 4f3c… --pem > chain.pem`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&issuer, "issuer", "", "issuer's id, where two issuers used the same serial")
			cmd.Flags().BoolVar(&asPEM, "pem", false, "print the certificate and its chain as PEM")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if asPEM {
				chain, err := client.PEM(cmd.Context(), args[0], issuer)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(chain)
				return err
			}
			cert, err := api.GetCertificate.Call(cmd.Context(), client,
				api.CertificateRef{Certificate: args[0], Issuer: issuer}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), cert)
			}
			return show(cmd, cert)
		},
	})
}

func show(cmd *cobra.Command, cert *api.Certificate) error {
	s := newSheet(cmd.OutOrStdout())
	s.line("serial", cert.Serial)
	s.line("issuer", cert.Issuer)
	s.line("status", string(cert.Status))
	if r := cert.Revocation; !r.RevokedAt.IsZero() {
		s.line("revoked", fmt.Sprintf("%s for %s by %s", stamp(r.RevokedAt), r.Reason, r.Requester))
		s.line("invalid since", stamp(r.InvalidityAt))
	}
	s.line("subject", cert.Subject)
	s.line("names", names(cert.Names)...)
	s.line("not before", stamp(cert.NotBefore))
	s.line("not after", stamp(cert.NotAfter))
	s.line("profile", cert.Profile+" ("+cert.ProfileVersion+")")
	s.line("protocol", strings.TrimSpace(cert.Protocol+" "+cert.Endpoint))
	s.line("requester", cert.Requester)
	s.line("reserved", stamp(cert.ReservedAt))
	s.line("issued", stamp(cert.IssuedAt))
	s.line("fingerprint", cert.Fingerprint)
	s.line("key hash", cert.KeyHash)
	s.line("request", cert.RequestID)
	s.line("id", cert.ID)
	return s.end()
}
