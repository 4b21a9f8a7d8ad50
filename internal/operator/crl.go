package operator

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) crl() *cobra.Command {
	return group("crl", "the revocation lists", c.crlList(), c.crlShow(), c.crlPublish(), c.crlImport(), c.crlRecover())
}

func (c *CLI) crlList() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "list", short: "list the revocation lists of all CAs, as this server serves them",
		example: "  privyseal crl list\n  privyseal crl list --json | jq -r '.crls[] | select(.state != \"current\") " +
			"| .name'",
		flags: func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			lists, err := api.ListCRLs.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			return printLists(cmd, lists, *asJSON)
		},
	})
}

func printLists(cmd *cobra.Command, lists *api.CRLList, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), lists)
	}
	t := newTable(cmd.OutOrStdout(), "LIST", "STATE", "NUMBER", "THIS UPDATE", "NEXT UPDATE", "ENTRIES", "SIZE", "MADE")
	for _, l := range lists.CRLs {
		made := "here"
		if l.Offline {
			made = "offline"
		}
		if l.State == "missing" {
			t.row(l.Name, l.State, "-", "-", "-", "-", "-", made)
			continue
		}
		t.row(l.Name, l.State, strconv.FormatInt(l.Number, 10), stamp(l.ThisUpdate), stamp(l.NextUpdate),
			strconv.FormatInt(l.Entries, 10), strconv.FormatInt(l.Size, 10), made)
	}
	if err := t.end(); err != nil {
		return err
	}
	for _, l := range lists.CRLs {
		if l.Refused != "" {
			cmd.PrintErrf("%s: the newest list was refused: %s\n", clean(l.Name), clean(l.Refused))
		}
	}
	return nil
}

func (c *CLI) crlShow() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "show ISSUER", short: "show the revocation lists of one CA", args: cobra.ExactArgs(1),
		example: "  privyseal crl show web-a-1",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			lists, err := api.GetCRLs.Call(cmd.Context(), client, api.IssuerRef{Issuer: args[0]}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), lists)
			}
			for i := range lists.CRLs {
				if i > 0 {
					_, _ = fmt.Fprintln(cmd.OutOrStdout()) // what follows reports what failed
				}
				if err := showList(cmd.OutOrStdout(), &lists.CRLs[i]); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func showList(w io.Writer, l *api.CRL) error {
	s := newSheet(w)
	s.line("list", l.Name)
	s.line("state", l.State)
	s.line("url", l.URL)
	if l.State != "missing" {
		s.line("number", strconv.FormatInt(l.Number, 10))
		s.line("this update", stamp(l.ThisUpdate))
		s.line("next update", stamp(l.NextUpdate))
		s.line("entries", strconv.FormatInt(l.Entries, 10))
		s.line("size", strconv.FormatInt(l.Size, 10))
		s.line("sha256", l.SHA256)
	}
	s.line("refused", l.Refused)
	return s.end()
}

func (c *CLI) crlPublish() *cobra.Command {
	var clock bool
	var asJSON *bool
	return c.command(verb{
		use: "publish ISSUER", short: "build and publish all revocation lists of an issuer now",
		args: cobra.ExactArgs(1),
		long: `Builds every list of the issuer at once, whether it is due or not. A list that would
take back what is published (a lower number, a revocation that is missing, an
earlier date) is refused, and the published one stays.`,
		example: "  privyseal crl publish web-a-1",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&clock, "clock-was-wrong", false,
				"publish although the last list is dated later than the clock says")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			lists, err := api.PublishCRLs.Call(cmd.Context(), client,
				api.IssuerRef{Issuer: args[0]}, api.PublishRequest{ClockWasWrong: clock})
			if err != nil {
				return err
			}
			return printLists(cmd, lists, *asJSON)
		},
	})
}

func (c *CLI) crlImport() *cobra.Command {
	var acceptLost string
	var asJSON *bool
	return c.command(verb{
		use: "import FILE", short: "publish the revocation list of a CA whose key is elsewhere",
		args: cobra.ExactArgs(1),
		long: `Takes a list in DER or PEM, from standard input if FILE is -. It is refused when it
is not signed by a CA that is installed here, when its number is not higher than
the published one's, when its dates are wrong, and when it takes back a revocation
of the published one: an entry that it lacks though nothing here says that the
certificate has expired, or a milder reason or date. --accept-lost publishes such a
list all the same; the audit record has the reason and the serials.`,
		example: `  privyseal crl import root.crl
  privyseal crl import root.crl --accept-lost 'both certificates ended in 2024, seen in the CA index'`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&acceptLost, "accept-lost", "",
				"why the list may take back revocations of the published one, for the audit record")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if cmd.Flags().Changed("accept-lost") && strings.TrimSpace(acceptLost) == "" {
				return usagef("%s: --accept-lost: say why", cmd.CommandPath())
			}
			list, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			text := api.CRLImport{CRL: api.CRLText(list), AcceptLost: acceptLost}
			done, err := api.ImportCRL.Call(cmd.Context(), client, api.None{}, text)
			if err != nil {
				return err
			}
			l := cmp.Or(done.Unchanged, done.Published)
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), l)
			}
			return showList(cmd.OutOrStdout(), l)
		},
	})
}

func (c *CLI) crlRecover() *cobra.Command {
	var file string
	var r api.RecoverRequest
	var yes bool
	var asJSON *bool
	return c.command(verb{
		use: "recover ISSUER", short: "take over revocations that the database has lost from a published list",
		args: cobra.ExactArgs(1),
		long: `After the restore of an old backup, lists are refused with crl_entries_lost: the
published one has revocations that the database does not have. This enters them,
with their dates and reasons. A certificate that is not on record any more is
entered with its serial and stays on the lists until the issuer ends.
Look with --dry-run, then do it with --yes, then privyseal crl publish.`,
		example: `  privyseal crl recover web-a-1 --dry-run
  privyseal crl recover web-a-1 --yes
  privyseal crl recover web-a-1 --from kept.crl --holds --yes`,
		flags: func(cmd *cobra.Command) {
			flags := cmd.Flags()
			flags.StringVar(&file, "from", "", "a list of the issuer that somebody kept, DER or PEM, - for standard "+
				"input; those that the server has published if left out")
			flags.BoolVar(&r.Holds, "holds", false,
				"also put on hold again what the list has on hold; without it, that may have been released")
			flags.BoolVar(&r.DryRun, "dry-run", false, "only count and show what would be entered")
			flags.BoolVar(&yes, "yes", false, "do it")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if r.DryRun == yes {
				return usagef("%s: say --dry-run to look, or --yes to do it", cmd.CommandPath())
			}
			if file != "" {
				list, err := readInput(cmd, file)
				if err != nil {
					return err
				}
				r.CRL = api.CRLText(list)
			}
			done, err := api.RecoverRevocations.Call(cmd.Context(), client, api.IssuerRef{Issuer: args[0]}, r)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			return showRecovery(cmd.OutOrStdout(), args[0], done, r.DryRun)
		},
	})
}

func showRecovery(w io.Writer, issuer string, done *api.Recovery, dryRun bool) error {
	s := newSheet(w)
	s.line("revoked again", strconv.Itoa(done.Revoked))
	s.line("entered and revoked", strconv.Itoa(done.Entered))
	s.line("on hold, left alone", strconv.Itoa(done.Holds))
	for i, serial := range done.Serials {
		label := ""
		if i == 0 {
			label = "serials"
		}
		s.line(label, serial)
	}
	if more := done.Revoked + done.Entered - len(done.Serials); more > 0 {
		s.line("", fmt.Sprintf("and %d more", more))
	}
	if err := s.end(); err != nil {
		return err
	}
	next := "publish it: privyseal crl publish " + issuer
	switch {
	case dryRun:
		next = "nothing is entered yet: say --yes to do it"
	case done.Revoked+done.Entered == 0:
		next = "nothing was lost"
	}
	_, err := fmt.Fprintln(w, next)
	return err
}

// readInput reads a file, or standard input for "-".
func readInput(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		text, err := io.ReadAll(cmd.InOrStdin())
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return text, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return text, nil
}
