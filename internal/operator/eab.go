package operator

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) eab() *cobra.Command {
	return group("eab", "keys for external account binding of ACME clients", c.eabCreate(), c.eabList(), c.eabDisable())
}

func (c *CLI) eabCreate() *cobra.Command {
	var k api.NewEABKey
	var f bindingFlags
	var uses int
	var expires string
	var asJSON *bool
	return c.command(verb{
		use: "create", short: "make a key; its secret is shown once",
		example: `  privyseal eab create --uses 20 --expires 30d --profile tls-server --name '*.web.example.test'
  privyseal eab create --description 'web team' --endpoint eab --any-name
  privyseal eab create --name host.example.test --json | jq -r '.kid, .hmac'
  certbot register --eab-kid KID --eab-hmac-key HMAC …`,
		flags: func(cmd *cobra.Command) {
			flags := cmd.Flags()
			flags.StringVar(&k.Description, "description", "", "who it is for")
			flags.StringVar(&k.Endpoint, "endpoint", "", "ACME endpoint it is good for; any if left out")
			flags.StringArrayVar(&k.Profiles, "profile", nil,
				"profile its accounts may use; may be given often; any if left out")
			flags.IntVar(&uses, "uses", 1, "accounts that it may make; 0 is without limit")
			flags.StringVar(&expires, "expires", "",
				"a time, a date, or a span from now such as 30d; never if left out")
			f.add(cmd)
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			k.Subject, k.Names, k.AnyName = f.subject, f.names, f.anyName
			if uses < 0 {
				return usagef("--uses %d: want 0 or more", uses)
			}
			k.MaxUses = &uses
			var err error
			if k.ExpiresAt, err = parseTime("expires", expires, c.now()); err != nil {
				return err
			}
			secret, err := api.CreateEABKey.Call(cmd.Context(), client, api.None{}, k)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), secret)
			}
			cmd.PrintErrln("The hmac is shown this once.")
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "kid:  %s\nhmac: %s\n", secret.KID, secret.HMAC)
			return err
		},
	})
}

func (c *CLI) eabList() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "list", short: "list the keys, without their secrets",
		example: `  privyseal eab list
  privyseal eab list --json | jq '.keys[] | select(.status == "active")'`,
		flags: func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			all := api.EABKeyPage{Keys: []api.EABKey{}}
			for p := (api.PageParams{}); ; {
				page, err := api.ListEABKeys.Call(cmd.Context(), client, p, api.None{})
				if err != nil {
					return err
				}
				all.Keys = append(all.Keys, page.Keys...)
				if p.Cursor = page.Next; p.Cursor == "" {
					break
				}
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			t := newTable(cmd.OutOrStdout(), "KID", "STATUS", "USES", "ENDPOINT", "NAMES",
				"EXPIRES", "CREATED", "BY", "DESCRIPTION")
			for _, k := range all.Keys {
				uses := strconv.Itoa(k.Uses)
				if k.MaxUses > 0 {
					uses += "/" + strconv.Itoa(k.MaxUses)
				}
				t.row(k.KID, k.Status, uses, or(k.Endpoint, "any"), bound(k.Subject, k.Names, k.AnyName, k.Unbound),
					or(stamp(k.ExpiresAt), "never"), stamp(k.CreatedAt), k.CreatedBy, k.Description)
			}
			return t.end()
		},
	})
}

func (c *CLI) eabDisable() *cobra.Command {
	var accounts bool
	var asJSON *bool
	return c.command(verb{
		use: "disable KID", short: "disable a key; accounts that it made stay, unless --accounts",
		args: cobra.ExactArgs(1),
		example: `  privyseal eab disable 5d41402abc4b2a76b9719d911017c592
  privyseal eab disable 5d41402abc4b2a76b9719d911017c592 --accounts`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&accounts, "accounts", false,
				"end the accounts that it made too, as \"acme account deactivate\" does")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			ref := api.EABKeyRef{KID: args[0]}
			if accounts {
				ref.Accounts = api.RevokeAccounts
			}
			key, err := api.DisableEABKey.Call(cmd.Context(), client, ref, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), key)
			}
			text := "disabled " + key.KID
			if accounts {
				text += fmt.Sprintf("; accounts revoked: %d", key.AccountsRevoked)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	})
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
