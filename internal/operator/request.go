package operator

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) request() *cobra.Command {
	return group("request", "requests that wait for a person", c.requestList(), c.requestShow(), c.requestApprove(),
		c.requestReject())
}

func (c *CLI) requestList() *cobra.Command {
	var p api.ListRequestsParams
	var status string
	var asJSON *bool
	return c.command(verb{
		use: "list", short: "list the requests that wait, or waited, for a person, newest first",
		example: `  privyseal request list --status pending
  privyseal request list --profile device --json | jq -r '.requests[].id'`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&status, "status", "",
				"pending, approved, issued, rejected or expired; all if left out")
			cmd.Flags().StringVar(&p.Profile, "profile", "", "requests for this profile only")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			all := api.ApprovalPage{Requests: []api.ApprovalRequest{}}
			for p.Status = api.RequestStatus(status); ; {
				page, err := api.ListRequests.Call(cmd.Context(), client, p, api.None{})
				if err != nil {
					return err
				}
				all.Requests = append(all.Requests, page.Requests...)
				if p.Cursor = page.Next; p.Cursor == "" {
					break
				}
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			t := newTable(cmd.OutOrStdout(), "ID", "STATUS", "PROTOCOL", "PROFILE", "REQUESTER", "NAMES", "CREATED",
				"DECIDED BY")
			for _, r := range all.Requests {
				t.row(r.ID, string(r.Status), r.Protocol, r.Profile, r.Requester, brief(r.Names, r.Subject),
					stamp(r.CreatedAt), r.DecidedBy)
			}
			return t.end()
		},
	})
}

func (c *CLI) requestShow() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "show ID", short: "show a request and what would be signed for it now", args: cobra.ExactArgs(1),
		example: "  privyseal request show 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			r, err := api.GetRequest.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			if err != nil {
				return err
			}
			return printRequest(cmd, r, *asJSON)
		},
	})
}

func (c *CLI) requestApprove() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "approve ID", short: "approve a request, which then gets its certificate", args: cobra.ExactArgs(1),
		long: `Approves a request. What is approved is what "request show" shows: if that has
changed since the request came, the command exits 1, and the request waits for
approval of what it would be now. Nobody can approve what they asked for
themselves.

The certificate is issued at once; an ACME order gets it within seconds.`,
		example: "  privyseal request approve 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			r, err := api.ApproveRequest.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			if err != nil {
				return err
			}
			return printDecision(cmd, r, *asJSON)
		},
	})
}

func (c *CLI) requestReject() *cobra.Command {
	var reason string
	var asJSON *bool
	return c.command(verb{
		use: "reject ID --reason TEXT", short: "reject a request for good", args: cobra.ExactArgs(1),
		example: "  privyseal request reject 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f --reason 'not a machine of ours'",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&reason, "reason", "", "what the client is told (required)")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if reason == "" {
				return usagef("%s: --reason is required; see --help", cmd.CommandPath())
			}
			r, err := api.RejectRequest.Call(cmd.Context(), client,
				api.IDRef{ID: args[0]}, api.Rejection{Reason: reason})
			if err != nil {
				return err
			}
			return printDecision(cmd, r, *asJSON)
		},
	})
}

func printDecision(cmd *cobra.Command, r *api.ApprovalRequest, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), r)
	}
	text := fmt.Sprintf("%s %s", r.Status, r.ID)
	if r.Certificate != "" {
		text += ": certificate " + r.Certificate
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

func printRequest(cmd *cobra.Command, r *api.ApprovalRequest, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), r)
	}
	s := newSheet(cmd.OutOrStdout())
	s.line("id", r.ID)
	s.line("status", string(r.Status))
	s.line("reason", r.Reason)
	s.line("protocol", r.Protocol)
	s.line("endpoint", r.Endpoint)
	s.line("requester", r.Requester)
	s.line("identity", r.Identity)
	s.line("profile", r.Profile)
	s.line("issuer", r.Issuer)
	s.line("subject", r.Subject)
	s.line("names", names(r.Names)...)
	s.line("key", r.KeyHash)
	s.line("created", stamp(r.CreatedAt))
	s.line("expires", stamp(r.ExpiresAt))
	s.line("decided", stamp(r.DecidedAt))
	s.line("decided by", r.DecidedBy)
	s.line("certificate", r.Certificate)
	s.line("changed", r.Changes...)
	if err := s.end(); err != nil || r.Preview.Verdict == "" {
		return err
	}
	return showVerdict(cmd.OutOrStdout(), &r.Preview)
}
