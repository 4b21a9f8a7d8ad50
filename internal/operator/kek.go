package operator

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

func (c *CLI) kek() *cobra.Command {
	return group("kek", "the key-encryption keys", c.kekReseal())
}

// errUnopened is what a reseal exits with that left something behind.
var errUnopened = errors.New("some secrets could not be opened")

// resealed is what all pages of a reseal came to.
type resealed struct {
	DryRun   bool                 `json:"dry_run"`
	Checked  int                  `json:"checked"`
	Resealed int                  `json:"resealed"`
	Unopened []api.UnopenedSecret `json:"unopened"`
	Keys     []api.SealingKey     `json:"keys"`
}

// lost reports whether a secret that is of use cannot be opened, or one was altered.
func (r *resealed) lost() bool {
	return slices.ContainsFunc(r.Keys, func(k api.SealingKey) bool { return k.Missing }) ||
		slices.ContainsFunc(r.Unopened, func(u api.UnopenedSecret) bool { return u.Why != "missing_key" })
}

func (c *CLI) kekReseal() *cobra.Command {
	var dryRun bool
	var asJSON *bool
	return c.command(verb{
		use: "reseal", short: "seal the secrets in the database again under the first key-encryption key",
		long: `Seals the secrets in the database again that are sealed under another line of key_encryption than
the first, and says which lines are still needed: the others can be taken out. It may be stopped and
run again at any time, and beside clients and other nodes. Every node must have the new line first.`,
		example: "  privyseal kek reseal --dry-run\n  privyseal kek reseal",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only count, and show what cannot be opened")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			total, err := c.resealAll(cmd, client, dryRun)
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(cmd.OutOrStdout(), total)
			} else {
				err = printResealed(cmd, total)
			}
			if err == nil && total.lost() {
				err = errUnopened
			}
			return err
		},
	})
}

// resealAll goes on until no page is left, and says now and then how far it is.
func (c *CLI) resealAll(cmd *cobra.Command, client *api.Client, dryRun bool) (*resealed, error) {
	total, last := &resealed{DryRun: dryRun, Unopened: []api.UnopenedSecret{}}, c.now()
	for r := (api.ResealRequest{DryRun: dryRun}); ; {
		page, err := api.ResealSecrets.Call(cmd.Context(), client, api.None{}, r)
		if err != nil {
			return nil, err
		}
		total.Checked, total.Resealed = total.Checked+page.Checked, total.Resealed+page.Resealed
		total.Unopened, total.Keys = append(total.Unopened, page.Unopened...), page.Keys
		if r.Cursor = page.Next; r.Cursor == "" {
			return total, nil
		}
		if now := c.now(); now.Sub(last) >= progressEvery {
			cmd.PrintErrf("%d secrets checked so far, %d sealed again\n", total.Checked, total.Resealed)
			last = now
		}
	}
}

func printResealed(cmd *cobra.Command, total *resealed) error {
	out, verb := cmd.OutOrStdout(), "sealed again"
	if total.DryRun {
		verb = "to be sealed again"
	}
	if _, err := fmt.Fprintf(out, "%d secrets checked, %d %s, %d that cannot be opened\n",
		total.Checked, total.Resealed, verb, len(total.Unopened)); err != nil {
		return err
	}
	for _, u := range total.Unopened {
		why := map[string]string{"missing_key": "key " + u.Key + " is missing"}[u.Why]
		_, err := fmt.Fprintf(out, "  %s %s: %s\n", clean(u.Kind), clean(u.ID), cmp.Or(why, clean(u.Why)))
		if err != nil {
			return err
		}
	}
	t := newTable(out, "LINE", "KEY", "SECRETS", "")
	for i, k := range total.Keys {
		line, says := fmt.Sprint(k.Line), "needed by "+k.Needs
		switch {
		case k.Missing:
			line, says = "-", "missing; "+says
		case i == 0:
			says = "seals"
		case k.Secrets == 0:
			says = "needed by nothing: take it out on every node, and restart"
		}
		t.row(line, k.ID, fmt.Sprint(k.Secrets), says)
	}
	return t.end()
}
