package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// AuditTail returns `tail`, for the group audit.
func (c *CLI) AuditTail() *cobra.Command {
	var n int
	var asJSON *bool
	return c.command(verb{
		use: "tail", short: "show the newest audit events, newest last",
		example: `  privyseal audit tail
  privyseal audit tail -n 1000 --json | jq -c 'select(.outcome != "success")'`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().IntVarP(&n, "number", "n", 20, "how many events")
			asJSON = cmd.Flags().Bool("json", false, "print JSON, one event a line")
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if n < 1 {
				return usagef("--number %d: want 1 or more", n)
			}
			events, err := tail(cmd, client, n)
			if err != nil {
				return err
			}
			return printEvents(cmd, events, *asJSON)
		},
	})
}

// AuditAccept returns `accept`, for the group audit.
func (c *CLI) AuditAccept() *cobra.Command {
	var b api.AuditAcceptance
	var asJSON *bool
	return c.command(verb{
		use: "accept --reason TEXT", short: "accept what is wrong with the audit record, for good and with the reason",
		long: `Verifies the audit record against every checkpoint, those in the state folder of
this node too, and accepts what is found: a database that was set back, cut or
rewritten. It is no finding any more from then on, and the audit record has the
reason and who accepted it. Look with privyseal audit verify first.`,
		example: "  privyseal audit accept --reason 'restored the backup of 3 May after the disk failed'",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&b.Reason, "reason", "", "why the record is as it is, for the audit record")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if b.Reason == "" {
				return usagef("%s: say why with --reason", cmd.CommandPath())
			}
			done, err := api.AcceptAudit.Call(cmd.Context(), client, api.None{}, b)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			for _, f := range done.Findings {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), f); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "accepted: %d findings\n", done.Found)
			return err
		},
	})
}

// tail returns the newest n events, oldest first.
func tail(cmd *cobra.Command, client *api.Client, n int) ([]api.AuditEvent, error) {
	var events []api.AuditEvent
	for p := (api.PageParams{}); len(events) < n; {
		p.Limit = min(n-len(events), 1000)
		page, err := api.ListAuditEvents.Call(cmd.Context(), client, p, api.None{})
		if err != nil {
			return nil, err
		}
		events = append(events, page.Events...)
		if p.Cursor = page.Next; p.Cursor == "" {
			break
		}
	}
	slices.Reverse(events)
	return events, nil
}

func printEvents(cmd *cobra.Command, events []api.AuditEvent, asJSON bool) error {
	if asJSON {
		lines := json.NewEncoder(cmd.OutOrStdout())
		for _, e := range events {
			if err := lines.Encode(e); err != nil {
				return fmt.Errorf("print audit events: %w", err)
			}
		}
		return nil
	}
	t := newTable(cmd.OutOrStdout(), "AT", "NODE", "SEQ", "ACTION", "OUTCOME", "ACTOR", "SUBJECT")
	for _, e := range events {
		t.row(stamp(e.At), e.Node, strconv.FormatInt(e.Seq, 10), e.Action, e.Outcome, e.Actor, e.Subject)
	}
	return t.end()
}

// ConfigReload returns `reload`, for the group config.
func (c *CLI) ConfigReload() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "reload", short: "make the server read its configuration again, all or nothing",
		long: `Makes the server read its configuration file again and swap it in. A file that does
not pass the check changes nothing; what is wrong with it is printed, and the
command exits 1.`,
		example: "  privyseal config reload",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			r, err := api.ReloadConfig.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			text := "the configuration has not changed"
			if r.Changed {
				text = "the new configuration is in force"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s (%s)\n", text, r.ConfigDigest)
			return err
		},
	})
}

// What makes `status` exit otherwise than with 0.
var (
	errFailed  = errors.New("something has failed")
	errWarning = errors.New("there are warnings")
)

func (c *CLI) status() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "status", short: "say whether the server is fit to serve, and if not, why",
		long: "Prints every check with its state, ok, warning or failed, and what to do. " +
			"Exits 0 if all is well, 5 if there are warnings, 1 if something has failed.",
		example: "  privyseal status\n  privyseal status --json",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			h, err := api.GetHealth.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(cmd.OutOrStdout(), h)
			} else {
				t := newTable(cmd.OutOrStdout(), "CHECK", "STATE", "DETAIL")
				for _, check := range h.Checks {
					t.row(check.Name, check.State, check.Detail)
					if check.State != "ok" && check.Remedy != "" {
						t.row("", "", "→ "+check.Remedy)
					}
				}
				err = t.end()
			}
			switch {
			case err != nil:
				return err
			case h.State == "failed" || !h.Ready:
				return errFailed
			case h.State == "warning":
				return errWarning
			}
			return nil
		},
	})
}
