package operator

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// keyCompromise is the reason that concerns every certificate of a key.
const keyCompromise = "keyCompromise"

// revocation is what `cert revoke` is told.
type revocation struct {
	issuer, reason, since, where string
	dryRun, yes, sameKey, json   bool
	unknown                      bool
	at                           time.Time // of since
}

func (c *CLI) certRevoke() *cobra.Command {
	var r revocation
	return c.command(verb{
		use:   "revoke {SERIAL|ID | --where EXPRESSION}",
		short: "revoke one certificate, or all that an expression selects", args: cobra.MaximumNArgs(1),
		long: `Revokes one certificate for good, or puts it on hold. With --where it revokes what
the expression selects: terms with commas between, all of which must hold.

  name~*.old.example   one of the names fits; * stands for any characters
  name=a.example       one of the names is this one
  issuer= profile= protocol= endpoint= requester= key=
  not_after<2027-01-31 issued<2026-03-01 issued>-36h and so on; a time, a date, a span from now

Expired certificates are left alone. Look with --dry-run, then do it with --yes.
A revocation that was interrupted goes on when the same command is given again.`,
		example: `  privyseal cert revoke 4f3c… --reason superseded
  privyseal cert revoke 4f3c… --reason keyCompromise --invalidity-date 2027-01-31 --same-key
  privyseal cert revoke --where 'name~*.old.example, issuer=web-a' --reason cessationOfOperation --dry-run
  privyseal cert revoke --where 'name~*.old.example, issuer=web-a' --reason cessationOfOperation --yes`,
		flags: func(cmd *cobra.Command) {
			flags := cmd.Flags()
			flags.StringVar(&r.reason, "reason", "",
				"unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold or "+
					"privilegeWithdrawn (required)")
			flags.StringVar(&r.issuer, "issuer", "", "issuer's id, where two issuers used the same serial")
			flags.StringVar(&r.since, "invalidity-date", "",
				"since when the key is known or feared to be bad; not before the certificate's notBefore")
			flags.BoolVar(&r.sameKey, "same-key", false,
				"with the reason keyCompromise: all other certificates of the same key too")
			flags.BoolVar(&r.unknown, "unknown", false,
				"with --issuer: the serial is revoked though it is not on record, as one issued after the backup that "+
					"was restored")
			flags.StringVar(&r.where, "where", "",
				"which certificates to revoke, such as 'name~*.old.example, issuer=web-a'")
			flags.BoolVar(&r.dryRun, "dry-run", false, "with --where: only count and show what would be revoked")
			flags.BoolVar(&r.yes, "yes", false, "with --where: do it")
			flags.BoolVar(&r.json, "json", false, "print JSON")
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if err := r.check(cmd, args); err != nil {
				return err
			}
			var err error
			if r.at, err = parseTime("invalidity-date", r.since, c.now()); err != nil {
				return err
			}
			if r.where != "" {
				return c.revokeMany(cmd, client, r)
			}
			return c.revokeOne(cmd, client, r, args[0])
		},
	})
}

func (r *revocation) check(cmd *cobra.Command, args []string) error {
	path := cmd.CommandPath()
	switch {
	case (len(args) == 1) == (r.where != ""):
		return usagef("%s: say which certificate, by serial or id, or which ones, with --where", path)
	case r.reason == "":
		return usagef("%s: say why with --reason, such as superseded or keyCompromise", path)
	case r.where == "" && (r.dryRun || r.yes):
		return usagef("%s: --dry-run and --yes go with --where", path)
	case r.dryRun && r.yes:
		return usagef("%s: --dry-run and --yes contradict each other", path)
	case r.where != "" && (r.issuer != "" || r.sameKey):
		return usagef("%s: --issuer and --same-key do not go with --where; write issuer=… or key=… in the expression",
			path)
	case r.unknown && (r.issuer == "" || r.sameKey):
		return usagef("%s: --unknown goes with a serial and --issuer, and not with --same-key", path)
	case r.sameKey && r.reason != keyCompromise:
		return usagef("%s: --same-key goes with --reason keyCompromise", path)
	}
	return nil
}

// revokeOne revokes one certificate. A key compromise concerns the other
// certificates of the key: they are revoked too, or counted and offered.
func (c *CLI) revokeOne(cmd *cobra.Command, client *api.Client, r revocation, ref string) error {
	cert, err := api.RevokeCertificate.Call(cmd.Context(), client,
		api.CertificateRef{Certificate: ref, Issuer: r.issuer},
		api.RevokeRequest{Reason: r.reason, InvalidityAt: r.at, Unknown: r.unknown})
	var refusal *api.Problem
	switch {
	case r.sameKey && errors.As(err, &refusal) && refusal.Kind == "already_revoked":
		// Done by an earlier run: what is left to do are the others.
		if cert, err = api.GetCertificate.Call(cmd.Context(), client,
			api.CertificateRef{Certificate: ref, Issuer: r.issuer}, api.None{}); err != nil {
			return err
		}
		cmd.PrintErrf("%s\n", clean(refusal.Detail))
	case err != nil:
		return err
	case r.json:
		if err := printJSON(cmd.OutOrStdout(), cert); err != nil {
			return err
		}
	default:
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "revoked %s of %s for %s (%s)\n",
			cert.Serial, cert.Issuer, cert.Revocation.Reason, brief(cert.Names, clean(cert.Subject))); err != nil {
			return err
		}
	}
	if r.reason != keyCompromise {
		return nil
	}
	r.where = "key=" + cert.KeyHash
	others, err := api.PreviewRevocations.Call(cmd.Context(), client,
		api.None{}, api.BulkSelection{Where: r.where, Reason: r.reason})
	if err != nil || others.Count == 0 {
		return err
	}
	if !r.sameKey {
		cmd.PrintErrf("%s of the same key %s not revoked for it: privyseal cert revoke --where %s --reason %s --yes\n",
			certificates(others.Count), isAre(others.Count), r.where, r.reason)
		return nil
	}
	sum, err := c.revokePages(cmd, client, r, others.Count)
	cmd.PrintErrf("%s of the same key revoked\n", certificates(int64(sum.Revoked)))
	return err
}

func (c *CLI) certRelease() *cobra.Command {
	var issuer string
	var asJSON *bool
	return c.command(verb{
		use: "release SERIAL|ID", short: "take a certificate off hold", args: cobra.ExactArgs(1),
		long: `Takes a certificate off hold: it is good again, and the next lists say so. Only a
hold can be taken back; every other revocation is final.`,
		example: "  privyseal cert revoke 4f3c… --reason certificateHold\n  privyseal cert release 4f3c…",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&issuer, "issuer", "", "issuer's id, where two issuers used the same serial")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			cert, err := api.ReleaseCertificate.Call(cmd.Context(), client,
				api.CertificateRef{Certificate: args[0], Issuer: issuer}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), cert)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "released %s of %s (%s)\n", cert.Serial, cert.Issuer,
				brief(cert.Names, clean(cert.Subject)))
			return err
		},
	})
}

func certificates(n int64) string {
	if n == 1 {
		return "1 certificate"
	}
	return fmt.Sprintf("%d certificates", n)
}

func isAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
