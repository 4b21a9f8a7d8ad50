package operator

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// errNotAllowed is what `access can` exits with for a no.
var errNotAllowed = errors.New("not allowed")

func (c *CLI) access() *cobra.Command {
	return group("access", "who may do what", c.accessList(), c.accessGrant(), c.accessRevoke(), c.accessBlock(),
		c.accessUnblock(), c.accessOffboard(), c.accessCan(), c.accessAccept())
}

func (c *CLI) person() *cobra.Command {
	return group("person", "people and their logins", c.personList(), c.personLink())
}

func (c *CLI) session() *cobra.Command {
	return group("session", "logins that last for a while", c.sessionList(), c.sessionEnd())
}

func (c *CLI) token() *cobra.Command {
	return group("token", "tokens of people and services", c.tokenCreate(), c.tokenList(), c.tokenRevoke())
}

// scopeFlags say what a grant or a token is about.
type scopeFlags struct{ api.Scope }

func (f *scopeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.All, "all", false, "everything; otherwise name a pool, CA, profile, endpoint or name")
	flags.StringArrayVar(&f.Pools, "pool", nil, "pool; may be given often, as the others")
	flags.StringArrayVar(&f.CAs, "ca", nil, "id of a CA, with all below it")
	flags.StringArrayVar(&f.Profiles, "profile", nil, "profile")
	flags.StringArrayVar(&f.Endpoints, "endpoint", nil, "endpoint")
	flags.StringArrayVar(&f.Names, "name", nil, "name: NAME, '*.NAME' for all below, an address, a network, '*@NAME'")
}

func (f *scopeFlags) check() error {
	named := len(f.Pools)+len(f.CAs)+len(f.Profiles)+len(f.Endpoints)+len(f.Names) > 0
	if named == f.All {
		return usagef("say what it is about: --pool, --ca, --profile, --endpoint, --name, or --all for everything")
	}
	return nil
}

func scopeText(s api.Scope) string {
	if s.All {
		return "all"
	}
	var all []string
	for _, part := range []struct {
		name   string
		values []string
	}{{"pool", s.Pools}, {"ca", s.CAs}, {"profile", s.Profiles}, {"endpoint", s.Endpoints}, {"name", s.Names}} {
		if len(part.values) > 0 {
			all = append(all, part.name+"="+strings.Join(part.values, ","))
		}
	}
	return strings.Join(all, " ")
}

func grantTable(cmd *cobra.Command, grants []api.Grant) error {
	t := newTable(cmd.OutOrStdout(), "GRANT", "SUBJECT", "ROLE", "SCOPE", "UNTIL", "BY", "REASON")
	for _, g := range grants {
		t.row(g.ID, g.Subject, g.Role, scopeText(g.Scope), stamp(g.Until), g.By, g.Reason)
	}
	return t.end()
}

// records is a command list that prints a part of the records of access.
func (c *CLI) records(short, example string, show func(*cobra.Command, *api.AccessRecords) error) *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "list", short: short, example: example,
		flags: func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			r, err := api.ListAccess.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			for _, d := range r.Doubt {
				cmd.PrintErrf("in doubt: %s\n", clean(d))
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return show(cmd, r)
		},
	})
}

func (c *CLI) accessList() *cobra.Command {
	return c.records("grants and blocks", "  privyseal access list\n  privyseal access list --json | jq .grants",
		func(cmd *cobra.Command, r *api.AccessRecords) error {
			if err := grantTable(cmd, r.Grants); err != nil || len(r.Blocks) == 0 {
				return err
			}
			t := newTable(cmd.OutOrStdout(), "BLOCKED", "UNTIL", "BY", "REASON")
			for _, b := range r.Blocks {
				t.row(b.Subject, stamp(b.Until), b.By, b.Reason)
			}
			return t.end()
		})
}

func (c *CLI) accessGrant() *cobra.Command {
	var g api.NewGrant
	var f scopeFlags
	var until string
	var asJSON *bool
	return c.command(verb{
		use: "grant SUBJECT ROLE", short: "give a subject a role within a scope", args: cobra.ExactArgs(2),
		long: `Gives a role (admin, operator, approver, helpdesk, requester, auditor) to a subject: uid:1000,
oidc:ISSUER#SUB, certificate:ANCHOR#ID, person:ID or group:ISSUER#ID. One grant has to cover all of an act.`,
		example: `  privyseal access grant uid:1000 operator --all --reason 'second operator'
  privyseal access grant person:ID auditor --all --until 30d --reason 'audit of 2026'
  privyseal access grant uid:1001 admin --ca branch-b --reason 'runs their own CA'`,
		flags: func(cmd *cobra.Command) {
			f.add(cmd)
			cmd.Flags().StringVar(&g.Reason, "reason", "", "why; it stays in the audit record")
			cmd.Flags().StringArrayVar(&g.Reasons, "revoke-for", nil, "reason of revocation that it allows; any if left out")
			cmd.Flags().StringVar(&until, "until", "", "a time, a date, or a span from now such as 30d; no end if left out")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			g.Subject, g.Role, g.Scope = args[0], args[1], f.Scope
			var err error
			if g.Until, err = parseTime("until", until, c.now()); err != nil {
				return err
			}
			made, err := api.CreateGrant.Call(cmd.Context(), client, api.None{}, g)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), made)
			}
			return grantTable(cmd, []api.Grant{*made})
		},
	})
}

func (c *CLI) accessRevoke() *cobra.Command {
	return c.command(verb{
		use: "revoke GRANT", short: "take a grant away", args: cobra.ExactArgs(1),
		example: "  privyseal access revoke 019a2f90-ea5d-750c-bef3-3b091a465582",
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			g, err := api.RevokeGrant.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer %s (%s)\n", clean(g.Subject), g.Role,
				clean(scopeText(g.Scope)))
			return err
		},
	})
}

func (c *CLI) accessBlock() *cobra.Command {
	var b api.NewBlock
	var until string
	return c.command(verb{
		use: "block SUBJECT", short: "keep a subject out, whatever grants it has", args: cobra.ExactArgs(1),
		example: "  privyseal access block uid:1000 --reason 'laptop stolen' --until 7d",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&b.Reason, "reason", "", "why; it stays in the audit record")
			cmd.Flags().StringVar(&until, "until", "", "a time, a date, or a span from now such as 7d; for good if left out")
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			b.Subject = args[0]
			var err error
			if b.Until, err = parseTime("until", until, c.now()); err != nil {
				return err
			}
			made, err := api.CreateBlock.Call(cmd.Context(), client, api.None{}, b)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is blocked\n", clean(made.Subject))
			return err
		},
	})
}

func (c *CLI) accessUnblock() *cobra.Command {
	return c.command(verb{
		use: "unblock SUBJECT", short: "take a block away", args: cobra.ExactArgs(1),
		example: "  privyseal access unblock uid:1000",
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			_, err := api.RemoveBlock.Call(cmd.Context(), client, api.None{}, api.SubjectRef{Subject: args[0]})
			return err
		},
	})
}

func (c *CLI) accessCan() *cobra.Command {
	var p api.CanParams
	var asJSON *bool
	return c.command(verb{
		use: "can SUBJECT PERMISSION", short: "may a subject do something, and by which grant",
		args: cobra.ExactArgs(2),
		long: "Asks what decides on operations. Without an object the question is about the whole server. Exits with 1 for no.",
		example: `  privyseal access can uid:1000 cert.issue --issuer web --name www.example.test
  privyseal access can person:ID request.decide`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&p.Issuer, "issuer", "", "CA or pool of the object")
			cmd.Flags().StringVar(&p.Profile, "profile", "", "its profile")
			cmd.Flags().StringVar(&p.Endpoint, "endpoint", "", "its endpoint")
			cmd.Flags().StringVar(&p.Name, "name", "", "its DNS name")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			p.Subject, p.Permission = args[0], args[1]
			v, err := api.CanAccess.Call(cmd.Context(), client, p, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(cmd.OutOrStdout(), v)
			} else {
				answer := map[bool]string{true: "yes", false: "no"}[v.Allowed]
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", answer, clean(cmp.Or(v.By, v.Why)))
			}
			if err == nil && !v.Allowed {
				err = errNotAllowed
			}
			return err
		},
	})
}

func (c *CLI) accessAccept() *cobra.Command {
	var a api.Acceptance
	var asJSON *bool
	return c.command(verb{
		use: "accept", short: "take the records of access as they are, after they were found in doubt",
		long: `When records of access were written, put back or taken out behind the server's back, none of them grants
anything. Look at "privyseal access list" first: what was put back stays unless you revoke it afterwards.`,
		example: "  privyseal access accept --reason 'database restored from the backup of Monday'",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&a.Reason, "reason", "", "why; it stays in the audit record")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			done, err := api.AcceptAccess.Call(cmd.Context(), client, api.None{}, a)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d records kept, %d removed\n", done.Kept, len(done.Removed))
			for _, r := range done.Removed {
				cmd.PrintErrf("removed: %s\n", clean(r))
			}
			return err
		},
	})
}

func (c *CLI) whoami() *cobra.Command {
	var can bool
	var asJSON *bool
	return c.command(verb{
		use: "whoami", short: "who you are to the server", example: "  privyseal whoami\n  privyseal whoami --can",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&can, "can", false, "show your grants too")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			me, err := api.WhoAmI.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), me)
			}
			s := newSheet(cmd.OutOrStdout())
			s.line("caller", me.Caller)
			s.line("person", me.Person)
			if t := me.Token; t != nil {
				s.line("token", t.ID)
				s.line("owner", t.Owner)
				s.line("role", t.Role)
				s.line("scope", scopeText(t.Scope))
				s.line("ends", stamp(t.ExpiresAt))
			} else {
				s.line("subjects", me.Subjects...)
			}
			if me.Local {
				s.line("may do", "everything, as an administrator of the socket")
			}
			if err := s.end(); err != nil || !can {
				return err
			}
			return grantTable(cmd, me.Grants)
		},
	})
}
