package operator

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) personList() *cobra.Command {
	return c.records("people with their logins", "  privyseal person list",
		func(cmd *cobra.Command, r *api.AccessRecords) error {
			t := newTable(cmd.OutOrStdout(), "PERSON", "NAME", "LOGINS")
			for _, p := range r.People {
				t.row(p.ID, p.Name, strings.Join(p.Logins, " "))
			}
			return t.end()
		})
}

func (c *CLI) personLink() *cobra.Command {
	var l api.NewLink
	var asJSON *bool
	return c.command(verb{
		use: "link LOGIN", short: "say that a login belongs to a person", args: cobra.ExactArgs(1),
		example: `  privyseal person link uid:1000 --new 'Ada Lovelace'
  privyseal person link 'oidc:https://id.example.test#4711' --person ID`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&l.Person, "person", "", "id of a person that there is")
			cmd.Flags().StringVar(&l.Name, "new", "", "name of a person to be made")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if (l.Person == "") == (l.Name == "") {
				return usagef("say whose login it is: --person ID, or --new NAME")
			}
			l.Subject = args[0]
			p, err := api.LinkLogin.Call(cmd.Context(), client, api.None{}, l)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), p)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "person:%s %s\n", clean(p.ID), clean(p.Name))
			return err
		},
	})
}

func (c *CLI) sessionList() *cobra.Command {
	return c.records("sessions that are open", "  privyseal session list",
		func(cmd *cobra.Command, r *api.AccessRecords) error {
			t := newTable(cmd.OutOrStdout(), "SESSION", "SUBJECT", "NAME", "FROM", "STARTED", "ENDS")
			for _, s := range r.Sessions {
				t.row(s.ID, s.Subject, s.Name, s.From, stamp(s.StartedAt), stamp(s.ExpiresAt))
			}
			return t.end()
		})
}

func (c *CLI) sessionEnd() *cobra.Command {
	return c.command(verb{
		use: "end SESSION", short: "end a session", args: cobra.ExactArgs(1),
		example: "  privyseal session end 019a2f90-ea5d-750c-bef3-3b091a465582",
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			_, err := api.EndSession.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			return err
		},
	})
}

func (c *CLI) tokenCreate() *cobra.Command {
	var n api.NewToken
	var f scopeFlags
	var ttl string
	var asJSON *bool
	return c.command(verb{
		use: "create", short: "make a token, your own or a service's; its secret is shown once",
		long: "A token never holds more than you do at the moment when it is used, and ends with what you hold.",
		example: `  privyseal token create --service ci-web --role requester --pool web --profile tls-server \
    --name '*.web.internal' --ttl 90d
  privyseal token create --role auditor --all --ttl 8h --network 10.1.0.0/16`,
		flags: func(cmd *cobra.Command) {
			f.add(cmd)
			cmd.Flags().StringVar(&n.Service, "service", "", "name of the service whose it is; your own if left out")
			cmd.Flags().StringVar(&n.Role, "role", "", "the most that it may do")
			cmd.Flags().StringArrayVar(&n.Networks, "network", nil, "it may be used from, as 10.1.0.0/16; may be given often")
			cmd.Flags().StringVar(&ttl, "ttl", "", "when it ends: a time, a date, or a span from now such as 90d")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if n.Role == "" || ttl == "" {
				return usagef("a token needs --role and --ttl")
			}
			n.Scope = f.Scope
			var err error
			if n.ExpiresAt, err = parseTime("ttl", ttl, c.now()); err != nil {
				return err
			}
			made, err := api.CreateToken.Call(cmd.Context(), client, api.None{}, n)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), made)
			}
			cmd.PrintErrln("The secret is shown this once.")
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "token:  %s\nsecret: %s\n", made.Token.ID, made.Secret)
			return err
		},
	})
}

func (c *CLI) tokenList() *cobra.Command {
	return c.records("tokens, without their secrets", "  privyseal token list",
		func(cmd *cobra.Command, r *api.AccessRecords) error {
			t := newTable(cmd.OutOrStdout(), "TOKEN", "OF", "OWNER", "ROLE", "SCOPE", "ENDS")
			for _, k := range r.Tokens {
				t.row(k.ID, cmp.Or(k.Service, "owner"), k.Owner, k.Role, scopeText(k.Scope), stamp(k.ExpiresAt))
			}
			return t.end()
		})
}

func (c *CLI) tokenRevoke() *cobra.Command {
	return c.command(verb{
		use: "revoke TOKEN", short: "end a token", args: cobra.ExactArgs(1),
		example: "  privyseal token revoke 019a2f90-ea5d-750c-bef3-3b091a465582",
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			_, err := api.RevokeToken.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			return err
		},
	})
}

func (c *CLI) accessOffboard() *cobra.Command {
	var o api.Offboarding
	var asJSON *bool
	return c.command(verb{
		use: "offboard PERSON", short: "end all that a person holds, and block them", args: cobra.ExactArgs(1),
		long: `Ends grants, sessions and tokens of a person and of each of their logins in one act, and blocks them for
good. Credentials that they made go on: the lists of eab, est user and scep challenge say who made each.`,
		example: `  privyseal access offboard 019a2f90-ea5d-750c-bef3-3b091a465582 --reason 'left' --dry-run`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would end")
			cmd.Flags().StringVar(&o.Reason, "reason", "", "why; it stays in the audit record")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			id := strings.TrimPrefix(args[0], "person:")
			done, err := api.OffboardPerson.Call(cmd.Context(), client, api.IDRef{ID: id}, o)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			ends := map[bool]string{true: "would end", false: "ended"}[o.DryRun]
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d grants, %d sessions, %d tokens; blocked with %d logins\n",
				ends,
				len(done.Grants), len(done.Sessions), len(done.Tokens), len(done.Logins))
			return err
		},
	})
}
