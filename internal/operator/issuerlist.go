package operator

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) issuerList() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "list", short: "list the CAs, and say how each stands",
		long: `Lists the CAs that are installed, then those that the configuration declares and
that have no certificate yet. STAGE is where a CA is in its life, KEY where its key
is (here, elsewhere, lost), TRUST what relying parties make of it (good, revoked,
expired), DAYS how long its certificate lives. Lines "why" below a CA say what is
wrong with it, or soon will be.`,
		example: "  privyseal issuer list\n  privyseal issuer list --json | jq -r '.issuers[].certificate // empty'",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			issuers, err := api.ListIssuers.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), issuers)
			}
			return printIssuers(cmd.OutOrStdout(), issuers.Issuers)
		},
	})
}

// printIssuers prints a table whose rows are followed by lines that are not in its
// columns.
func printIssuers(out io.Writer, issuers []api.Issuer) error {
	t := newTable(out, "ID", "POOL", "GEN", "STAGE", "KEY", "TRUST", "DAYS", "SUBJECT")
	for _, i := range issuers {
		days := "-"
		if i.DaysLeft != nil {
			days = strconv.Itoa(*i.DaysLeft)
		}
		t.row(i.ID, or(i.Pool, "-"), strconv.Itoa(i.Generation), or(i.Stage, i.State), or(i.Key, "-"), or(i.Trust, "-"),
			days, or(i.Subject, "-"))
		if i.AliasOf != "" {
			t.note("another id of " + i.AliasOf)
			continue
		}
		for _, why := range i.Why {
			t.note("why: " + why)
		}
	}
	return t.end()
}

func (c *CLI) issuerRemove() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "remove ID", short: "take out the record of a CA that never signed", args: cobra.ExactArgs(1),
		long: `Takes the record of a CA out of the database that has signed neither certificates
nor lists and has no CA below it, such as one whose certificate turned out to be
broken. Its id is free again: for a mended certificate of the same request, or for
another CA. Keys and the configuration stay as they are. Refused where the
configuration has a certificate for it, which would be installed again.`,
		example: "  privyseal issuer remove web-b",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			done, err := api.RemoveIssuer.Call(cmd.Context(), client, api.IssuerRef{Issuer: args[0]}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			for _, w := range done.Warnings {
				cmd.PrintErrln("warning:", w)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %s: %s (%s)\n",
				clean(done.ID), clean(done.Subject), done.Fingerprint)
			return err
		},
	})
}
