package operator

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) acme() *cobra.Command {
	return group("acme", "ACME accounts, their orders and authorizations",
		group("account", "find and end accounts", c.acmeAccountList(), c.acmeAccountShow(), c.acmeAccountDeactivate()),
		group("order", "find orders", c.acmeOrderList(), c.acmeOrderShow()),
		group("authorization", "find and end authorizations, and see why a validation failed",
			c.acmeAuthorizationList(), c.acmeAuthorizationShow(), c.acmeAuthorizationDeactivate()))
}

// acmeFilter is the search of the three lists.
type acmeFilter struct {
	api.ACMEFilter
	status string
	asJSON *bool
}

func (f *acmeFilter) flags(cmd *cobra.Command, statuses string) {
	flags := cmd.Flags()
	flags.StringVar(&f.EABKey, "eab-key", "", "of accounts that this EAB key made")
	flags.StringVar(&f.Name, "name", "", "for this name, such as www.example.test or '*.example.test' itself")
	flags.StringVar(&f.Address, "address", "", "of accounts that were created from this address")
	flags.StringVar(&f.Account, "account", "", "of this account; also account:ID, as certificates name it")
	flags.StringVar(&f.Endpoint, "endpoint", "", "at this ACME endpoint")
	flags.StringVar(&f.status, "status", "", statuses)
	f.asJSON = jsonFlag(cmd)
}

// everyPage calls an operation for each page of a list. next returns the cursor that
// follows a page, put hands it to the next call.
func everyPage[P, R any](
	cmd *cobra.Command, client *api.Client, op api.Operation[P, api.None, R], p P, put func(*P, string),
	next func(*R) string,
) error {
	for {
		page, err := op.Call(cmd.Context(), client, p, api.None{})
		if err != nil {
			return err
		}
		cursor := next(page)
		if cursor == "" {
			return nil
		}
		put(&p, cursor)
	}
}

func (c *CLI) acmeAccountList() *cobra.Command {
	var f acmeFilter
	return c.command(verb{
		use: "list", short: "list accounts, oldest first",
		example: `  privyseal acme account list --eab-key 5d41402abc4b2a76b9719d911017c592
  privyseal acme account list --name www.example.test --status valid
  privyseal acme account list --address 192.0.2.7 --json | jq -r '.accounts[].id'`,
		flags: func(cmd *cobra.Command) {
			f.flags(cmd, "valid, deactivated (by its client) or revoked (by an operator)")
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			all := api.ACMEAccountPage{Accounts: []api.ACMEAccount{}}
			p := api.ListACMEAccountsParams{Status: api.ACMEAccountStatus(f.status), ACMEFilter: f.ACMEFilter}
			err := everyPage(cmd, client, api.ListACMEAccounts, p,
				func(p *api.ListACMEAccountsParams, cursor string) { p.Cursor = cursor },
				func(page *api.ACMEAccountPage) string {
					all.Accounts = append(all.Accounts, page.Accounts...)
					return page.Next
				})
			if err != nil || *f.asJSON {
				return orJSON(cmd, err, all)
			}
			t := newTable(cmd.OutOrStdout(), "ID", "STATUS", "ENDPOINT", "EAB KEY", "CREATED", "FROM", "CONTACT")
			for _, a := range all.Accounts {
				t.row(a.ID, string(a.Status), a.Endpoint, a.EABKey, stamp(a.CreatedAt), a.CreatedFrom,
					strings.Join(a.Contact, ","))
			}
			return t.end()
		},
	})
}

// orJSON prints JSON unless something failed.
func orJSON(cmd *cobra.Command, err error, v any) error {
	if err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), v)
}

func (c *CLI) acmeAccountShow() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "show ID", short: "show an account, its key, and what it has", args: cobra.ExactArgs(1),
		long: `Shows an account. "account:" may stand before its id, as in the requester of a
certificate. The key hash is the one that "cert list --key" asks for.`,
		example: `  privyseal acme account show 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f
  privyseal acme account show "$(privyseal cert show 4f3c… --json | jq -r .requester)"`,
		flags: func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			a, err := api.GetACMEAccount.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			if err != nil || *asJSON {
				return orJSON(cmd, err, a)
			}
			return showAccount(cmd, a)
		},
	})
}

func showAccount(cmd *cobra.Command, a *api.ACMEAccount) error {
	s := newSheet(cmd.OutOrStdout())
	s.line("id", a.ID)
	s.line("status", string(a.Status))
	s.line("endpoint", a.Endpoint)
	s.line("eab key", a.EABKey)
	s.line("contact", a.Contact...)
	s.line("created", stamp(a.CreatedAt))
	s.line("created from", a.CreatedFrom)
	s.line("terms agreed", strings.TrimSpace(stamp(a.TermsAgreedAt)+" "+a.Terms))
	s.line("thumbprint", a.Thumbprint)
	s.line("key hash", a.KeyHash)
	s.line("orders", counted(a.Orders))
	s.line("authorizations", counted(a.Authorizations))
	if err := s.end(); err != nil || len(a.Certificates) == 0 {
		return err
	}
	cmd.Println("newest certificates:")
	t := newTable(cmd.OutOrStdout(), "SERIAL", "STATUS", "PROFILE", "ISSUER", "NOT AFTER", "NAMES")
	for _, cert := range a.Certificates {
		t.row(cert.Serial, string(cert.Status), cert.Profile, cert.Issuer, stamp(cert.NotAfter),
			brief(cert.Names, cert.Subject))
	}
	return t.end()
}

// counted says how many there are of each status.
func counted(c api.ACMECounts) string {
	var parts []string
	for _, of := range []struct {
		n    int
		name string
	}{
		{c.Pending, "pending"}, {c.Ready, "ready"}, {c.Processing, "processing"}, {c.Valid, "valid"},
		{c.Invalid, "invalid"}, {c.Expired, "expired"}, {c.Deactivated, "deactivated"}, {c.Revoked, "revoked"},
	} {
		if of.n > 0 {
			parts = append(parts, strconv.Itoa(of.n)+" "+of.name)
		}
	}
	return or(strings.Join(parts, ", "), "none on record")
}

func (c *CLI) acmeAccountDeactivate() *cobra.Command {
	var b api.DeactivateAccount
	var asJSON *bool
	return c.command(verb{
		use: "deactivate ID", short: "end an account, its authorizations and its orders", args: cobra.ExactArgs(1),
		long: `Ends an account for good: its status is then "revoked". Its authorizations end with
it, and so do its orders, those that are being finalized too. Its certificates
stay valid and do not renew over EST or SCEP; "cert revoke" revokes them.`,
		example: `  privyseal acme account deactivate 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f
  privyseal acme account deactivate 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f --block-key`,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&b.BlockKey, "block-key", false,
				"block its key too: no account and no certificate can have it any more")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			a, err := api.DeactivateACMEAccount.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, b)
			if err != nil || *asJSON {
				return orJSON(cmd, err, a)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", a.Status, a.ID)
			return err
		},
	})
}

func (c *CLI) acmeOrderList() *cobra.Command {
	var f acmeFilter
	return c.command(verb{
		use: "list", short: "list the orders that are on record, oldest first",
		example: `  privyseal acme order list --status invalid --name www.example.test
  privyseal acme order list --account 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f --json`,
		flags: func(cmd *cobra.Command) {
			f.flags(cmd, "pending, ready, processing, valid or invalid, as it is by now")
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			all := api.ACMEOrderPage{Orders: []api.ACMEOrder{}}
			p := api.ListACMEOrdersParams{Status: api.ACMEOrderStatus(f.status), ACMEFilter: f.ACMEFilter}
			err := everyPage(cmd, client, api.ListACMEOrders, p,
				func(p *api.ListACMEOrdersParams, cursor string) { p.Cursor = cursor },
				func(page *api.ACMEOrderPage) string {
					all.Orders = append(all.Orders, page.Orders...)
					return page.Next
				})
			if err != nil || *f.asJSON {
				return orJSON(cmd, err, all)
			}
			t := newTable(cmd.OutOrStdout(), "ID", "STATUS", "REASON", "ENDPOINT", "PROFILE", "ACCOUNT", "CREATED",
				"NAMES")
			for _, o := range all.Orders {
				t.row(o.ID, string(o.Status), reason(o.Problem), o.Endpoint, o.Profile, o.Account, stamp(o.CreatedAt),
					brief(o.Names, ""))
			}
			return t.end()
		},
	})
}

// reason is a problem in one cell.
func reason(p api.ACMEProblem) string {
	return or(p.Reason, strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:"))
}

func (c *CLI) acmeOrderShow() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "show ID", short: "show an order, and how its names were, or were not, proved", args: cobra.ExactArgs(1),
		example: "  privyseal acme order show 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			o, err := api.GetACMEOrder.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			if err != nil || *asJSON {
				return orJSON(cmd, err, o)
			}
			s := newSheet(cmd.OutOrStdout())
			s.line("id", o.ID)
			s.line("status", string(o.Status))
			s.problem(o.Problem)
			s.line("account", o.Account)
			s.line("endpoint", o.Endpoint)
			s.line("profile", o.Profile)
			s.line("names", names(o.Names)...)
			s.line("created", stamp(o.CreatedAt))
			s.line("expires", stamp(o.ExpiresAt))
			s.line("finalized", strings.TrimSpace(stamp(o.ProcessingAt)+" "+o.Node))
			s.line("not before", stamp(o.NotBefore))
			s.line("not after", stamp(o.NotAfter))
			s.line("replaces", o.Replaces)
			s.line("certificate", o.Certificate)
			for i := range o.Authorizations {
				s.line("", " ")
				s.authorization(&o.Authorizations[i])
			}
			return s.end()
		},
	})
}

func (c *CLI) acmeAuthorizationList() *cobra.Command {
	var f acmeFilter
	return c.command(verb{
		use: "list", short: "list the authorizations that are on record, oldest first",
		example: `  privyseal acme authorization list --name www.example.test --status invalid
  privyseal acme authorization list --account 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f --status valid --json`,
		flags: func(cmd *cobra.Command) {
			f.flags(cmd, "pending, valid, invalid, deactivated (by its client), revoked (by an operator) or expired")
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			all := api.ACMEAuthorizationPage{Authorizations: []api.ACMEAuthorization{}}
			p := api.ListACMEAuthorizationsParams{
				Status: api.ACMEAuthorizationStatus(f.status), ACMEFilter: f.ACMEFilter,
			}
			err := everyPage(cmd, client, api.ListACMEAuthorizations, p,
				func(p *api.ListACMEAuthorizationsParams, cursor string) { p.Cursor = cursor },
				func(page *api.ACMEAuthorizationPage) string {
					all.Authorizations = append(all.Authorizations, page.Authorizations...)
					return page.Next
				})
			if err != nil || *f.asJSON {
				return orJSON(cmd, err, all)
			}
			t := newTable(cmd.OutOrStdout(), "ID", "STATUS", "NAME", "CHALLENGE", "REASON", "ACCOUNT", "EXPIRES")
			for _, a := range all.Authorizations {
				var typ, why string
				if len(a.Challenges) > 0 {
					typ, why = a.Challenges[0].Type, reason(a.Challenges[0].Problem)
				}
				t.row(a.ID, string(a.Status), a.Name.Value, typ, why, a.Account, stamp(a.ExpiresAt))
			}
			return t.end()
		},
	})
}

func (c *CLI) acmeAuthorizationShow() *cobra.Command {
	return c.acmeAuthorizationVerb("show ID", "show what is expected, what was tried, and why it failed",
		api.GetACMEAuthorization, func(cmd *cobra.Command, a *api.ACMEAuthorization) error {
			s := newSheet(cmd.OutOrStdout())
			s.authorization(a)
			return s.end()
		})
}

func (c *CLI) acmeAuthorizationDeactivate() *cobra.Command {
	return c.acmeAuthorizationVerb("deactivate ID", "end an authorization and the orders that rest on it",
		api.DeactivateACMEAuthorization, func(cmd *cobra.Command, a *api.ACMEAuthorization) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", a.Status, a.ID)
			return err
		})
}

func (c *CLI) acmeAuthorizationVerb(
	use, short string, op api.Operation[api.IDRef, api.None, api.ACMEAuthorization],
	show func(*cobra.Command, *api.ACMEAuthorization) error,
) *cobra.Command {
	name, _, _ := strings.Cut(use, " ")
	var asJSON *bool
	return c.command(verb{
		use: use, short: short, args: cobra.ExactArgs(1),
		example: "  privyseal acme authorization " + name + " 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			a, err := op.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			if err != nil || *asJSON {
				return orJSON(cmd, err, a)
			}
			return show(cmd, a)
		},
	})
}
