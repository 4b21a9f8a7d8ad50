package operator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) est() *cobra.Command {
	return group("est", "enrolment over EST", group("user", "names and passwords of devices", c.estUserAdd(),
		c.estUserList(), c.estUserDisable()))
}

func (c *CLI) scep() *cobra.Command {
	return group("scep", "enrolment over SCEP",
		group("challenge", "challenge passwords of devices", c.scepChallengeCreate(), c.scepChallengeList(),
			c.scepChallengeDisable()))
}

// bindingFlags say for which names a credential is good.
type bindingFlags struct {
	subject string
	names   []string
	anyName bool
}

func (f *bindingFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.names, "name", nil, "name it is good for: NAME, '*.NAME' for all below, an address, "+
		"a network, '*@NAME', 'spiffe://NAME/*', 'upn:*@NAME' or 'CN=*,O=ORG'; may be given often")
	flags.StringVar(&f.subject, "subject", "", "the only subject it is good for, as RFC 4514 writes it; * is any value")
	flags.BoolVar(&f.anyName, "any-name", false, "it is good for any name")
}

// check wants what the server would refuse anyway, in the words of the command line.
func (f *bindingFlags) check() error {
	switch {
	case f.anyName && len(f.names) > 0:
		return usagef("--any-name and --name exclude each other")
	case !f.anyName && f.subject == "" && len(f.names) == 0:
		return usagef("say for which names it is good: --name, --subject, or --any-name for all")
	}
	return nil
}

// bound shows for what names a credential is good.
func bound(subject string, names []string, anyName, unbound bool) string {
	said := slices.Clone(names)
	if subject != "" && !slices.Contains(said, subject) {
		said = append([]string{subject}, said...)
	}
	switch {
	case unbound && subject != "":
		return subject + " and ANY (unbound)"
	case unbound:
		return "ANY (unbound)"
	case anyName:
		said = append(said, "any")
	}
	return strings.Join(said, " ")
}

// deviceFlags are what credentials of devices have in common.
type deviceFlags struct {
	bindingFlags
	description, endpoint, profile, expires string
	uses                                    int
	asJSON                                  *bool
}

func (f *deviceFlags) add(cmd *cobra.Command, protocol string) {
	f.bindingFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.description, "description", "", "who or what it is for")
	flags.StringVar(&f.endpoint, "endpoint", "", protocol+" endpoint it is good for; any if left out")
	flags.StringVar(&f.profile, "profile", "", "profile it may use; any if left out")
	flags.IntVar(&f.uses, "uses", 1, "certificates that it is good for; 0 is without limit")
	flags.StringVar(&f.expires, "expires", "", "a time, a date, or a span from now such as 24h; never if left out")
	f.asJSON = jsonFlag(cmd)
}

func (f *deviceFlags) check() error {
	if f.uses < 0 {
		return usagef("--uses %d: want 0 or more", f.uses)
	}
	return f.bindingFlags.check()
}

func (c *CLI) estUserAdd() *cobra.Command {
	var f deviceFlags
	return c.command(verb{
		use: "add NAME", short: "make a user; its password is shown once", args: cobra.ExactArgs(1),
		example: `  privyseal est user add device-7 --name device-7 --profile device --uses 1 --expires 24h
  privyseal est user add lund --name '*.lund.example.test' --name 10.7.0.0/16 --uses 0
  privyseal est user add printer --subject 'CN=*,OU=Printers' --uses 0
  curl --user "device-8:$(privyseal est user add device-8 --name device-8 --json | jq -r .password)" …`,
		flags: func(cmd *cobra.Command) { f.add(cmd, "EST") },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			expires, err := parseTime("expires", f.expires, c.now())
			if err != nil {
				return err
			}
			secret, err := api.CreateESTUser.Call(cmd.Context(), client, api.None{}, api.NewESTUser{
				Name: args[0], Description: f.description, Endpoint: f.endpoint, Profile: f.profile,
				Subject: f.subject, Names: f.names, AnyName: f.anyName, MaxUses: &f.uses, ExpiresAt: expires,
			})
			if err != nil {
				return err
			}
			if *f.asJSON {
				return printJSON(cmd.OutOrStdout(), secret)
			}
			cmd.PrintErrln("The password is shown this once.")
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "name:     %s\npassword: %s\n", secret.Name, secret.Password)
			return err
		},
	})
}

func (c *CLI) estUserList() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "list", short: "list the users, without their passwords",
		example: "  privyseal est user list",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			all := api.ESTUserPage{Users: []api.ESTUser{}}
			for p := (api.PageParams{}); ; {
				page, err := api.ListESTUsers.Call(cmd.Context(), client, p, api.None{})
				if err != nil {
					return err
				}
				all.Users = append(all.Users, page.Users...)
				if p.Cursor = page.Next; p.Cursor == "" {
					break
				}
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			t := newTable(cmd.OutOrStdout(), "NAME", "STATUS", "USES", "ENDPOINT", "PROFILE", "NAMES",
				"EXPIRES", "CREATED", "BY", "DESCRIPTION")
			for _, u := range all.Users {
				t.row(u.Name, u.Status, used(u.Uses, u.MaxUses), or(u.Endpoint, "any"), or(u.Profile, "any"),
					bound(u.Subject, u.Names, u.AnyName, u.Unbound), or(stamp(u.ExpiresAt), "never"),
					stamp(u.CreatedAt), u.CreatedBy, u.Description)
			}
			return t.end()
		},
	})
}

func (c *CLI) estUserDisable() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "disable NAME", short: "disable a user; its certificates stay", args: cobra.ExactArgs(1),
		example: "  privyseal est user disable device-7",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			user, err := api.DisableESTUser.Call(cmd.Context(), client, api.ESTUserRef{Name: args[0]}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), user)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "disabled %s\n", user.Name)
			return err
		},
	})
}

func (c *CLI) scepChallengeCreate() *cobra.Command {
	var f deviceFlags
	return c.command(verb{
		use: "create", short: "make a challenge password; it is shown once",
		example: `  privyseal scep challenge create --profile device --subject 'CN=router-7' --uses 1 --expires 1h
  privyseal scep challenge create --name router-7.example.test --name 192.0.2.7 --expires 1h
  privyseal scep challenge create --uses 0 --name '*.lund.example.test' --description 'shared by the routers of Lund'`,
		flags: func(cmd *cobra.Command) { f.add(cmd, "SCEP") },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			expires, err := parseTime("expires", f.expires, c.now())
			if err != nil {
				return err
			}
			secret, err := api.CreateSCEPChallenge.Call(cmd.Context(), client, api.None{}, api.NewSCEPChallenge{
				Description: f.description, Endpoint: f.endpoint, Profile: f.profile,
				Subject: f.subject, Names: f.names, AnyName: f.anyName, MaxUses: &f.uses, ExpiresAt: expires,
			})
			if err != nil {
				return err
			}
			if *f.asJSON {
				return printJSON(cmd.OutOrStdout(), secret)
			}
			cmd.PrintErrln("The challenge is shown this once.")
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "id:        %s\nchallenge: %s\n", secret.ID, secret.Secret)
			return err
		},
	})
}

func (c *CLI) scepChallengeList() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "list", short: "list the challenges, without their secrets",
		example: "  privyseal scep challenge list",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			all := api.SCEPChallengePage{Challenges: []api.SCEPChallenge{}}
			for p := (api.PageParams{}); ; {
				page, err := api.ListSCEPChallenges.Call(cmd.Context(), client, p, api.None{})
				if err != nil {
					return err
				}
				all.Challenges = append(all.Challenges, page.Challenges...)
				if p.Cursor = page.Next; p.Cursor == "" {
					break
				}
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			t := newTable(cmd.OutOrStdout(), "ID", "STATUS", "USES", "ENDPOINT", "PROFILE", "NAMES",
				"EXPIRES", "CREATED", "BY", "DESCRIPTION")
			for _, ch := range all.Challenges {
				t.row(ch.ID, ch.Status, used(ch.Uses, ch.MaxUses), or(ch.Endpoint, "any"), or(ch.Profile, "any"),
					bound(ch.Subject, ch.Names, ch.AnyName, ch.Unbound), or(stamp(ch.ExpiresAt), "never"),
					stamp(ch.CreatedAt), ch.CreatedBy, ch.Description)
			}
			return t.end()
		},
	})
}

func (c *CLI) scepChallengeDisable() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "disable ID", short: "disable a challenge; certificates that it was used for stay",
		args:    cobra.ExactArgs(1),
		example: "  privyseal scep challenge disable 0193a2b4-7c11-7d5e-9b3f-0a1b2c3d4e5f",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			ch, err := api.DisableSCEPChallenge.Call(cmd.Context(), client, api.IDRef{ID: args[0]}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), ch)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "disabled %s\n", ch.ID)
			return err
		},
	})
}

// used shows uses against their limit.
func used(n, limit int) string {
	if limit == 0 {
		return strconv.Itoa(n)
	}
	return strconv.Itoa(n) + "/" + strconv.Itoa(limit)
}
