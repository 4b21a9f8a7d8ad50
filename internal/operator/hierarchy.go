package operator

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
)

func (c *CLI) hierarchy() *cobra.Command {
	return group("hierarchy", "trees of CAs: plan, apply, lint, cost, export, import",
		c.hierarchyPlan(), c.hierarchyApply(), c.hierarchyLint(), c.hierarchyCost(), c.hierarchyExport(),
		c.hierarchyImport())
}

func (c *CLI) hierarchyPlan() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "plan FILE", short: "say what is to be done so that a hierarchy is as its file says",
		args: cobra.ExactArgs(1),
		long: `Compares a hierarchy's file with the CAs that are installed, by the laws of the tree,
and changes nothing. docs/hierarchy.md describes the file. A file that breaks a law
is refused with the law's name.`,
		example: "  privyseal hierarchy plan hierarchy.yaml",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			text, err := readSmall(cmd, args[0])
			if err != nil {
				return err
			}
			plan, err := api.PlanHierarchy.Call(cmd.Context(), client,
				api.None{}, api.HierarchyFile{Hierarchy: string(text)})
			if err != nil {
				return err
			}
			return printPlan(cmd, plan, "", *asJSON)
		},
	})
}

func (c *CLI) hierarchyApply() *cobra.Command {
	var out string
	var dry bool
	var asJSON *bool
	return c.command(verb{
		use: "apply FILE", short: "do what can be done now, and write what has to be done offline",
		args: cobra.ExactArgs(1),
		long: `Makes keys and requests of the issuers that the configuration declares, installs
certificates and lists that have come back, and writes what people have to do
offline: in the folder of --out, for each root, ceremony.yaml and the requests that
it names. Carry that folder to the ceremony, and bring the folder "out…" that it
makes back into it; the same command then goes on. Applying again changes nothing that is done.

CAs that the configuration does not declare are left alone; what to add to it is
printed.`,
		example: "  privyseal hierarchy apply hierarchy.yaml\n  privyseal hierarchy apply hierarchy.yaml --out " +
			"/media/stick --dry-run",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&out, "out", "",
				"folder of what goes to ceremonies and comes back (default: ceremonies, beside the file)")
			cmd.Flags().BoolVar(&dry, "dry-run", false, "the same as hierarchy plan")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			text, err := readSmall(cmd, args[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join(filepath.Dir(args[0]), "ceremonies")
			}
			a := &application{cmd: cmd, client: client, text: string(text), out: out, now: c.now}
			plan, err := api.PlanHierarchy.Call(cmd.Context(), client, api.None{}, api.HierarchyFile{Hierarchy: a.text})
			if err == nil && !dry {
				plan, err = a.apply(plan)
			}
			if err != nil {
				return err
			}
			return printPlan(cmd, plan, out, *asJSON)
		},
	})
}

func printPlan(cmd *cobra.Command, plan *api.HierarchyPlan, out string, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), plan)
	}
	for _, w := range plan.Warnings {
		cmd.PrintErrln("warning:", w)
	}
	t := newTable(cmd.OutOrStdout(), "CA", "LEVEL", "KEY", "TEMPLATE", "STATE", "DETAIL")
	for _, s := range plan.Steps {
		t.row(strings.Repeat("  ", s.Level-1)+s.CA, strconv.Itoa(s.Level), s.Key, s.Template, s.State, s.Detail)
	}
	if err := t.end(); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if plan.Declare != "" {
		if _, err := fmt.Fprintf(w, "\nAdd to the configuration, and run `privyseal config reload`:\n\n%s",
			plan.Declare); err != nil {
			return err
		}
	}
	for _, c := range plan.Ceremonies {
		where := "the folder of --out"
		if out != "" {
			where = filepath.Join(out, c.Root)
		}
		carry := "ceremony.yaml"
		for _, r := range c.Requests {
			carry += ", " + r + ".csr"
		}
		if _, err := fmt.Fprintf(w, "\nPending ceremony of %s: carry %s (%s) to the offline machine, bring the folder "+
			"\"out…\" that it makes back into it, and apply again.\n", c.Root, where, carry); err != nil {
			return err
		}
	}
	if plan.Done {
		_, err := fmt.Fprintf(w, "\nThe hierarchy %s is as the file says.\n", plan.Name)
		return err
	}
	return nil
}

func (c *CLI) hierarchyLint() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "lint", short: "check the laws of the tree over all CAs that are installed",
		long: `Checks path lengths, depth, validity, names and usages along every chain, CA
certificates that are nobody's here, and what is allowed but worth a look. Exits 1 if
a law is broken; warnings alone exit 0.`,
		example: "  privyseal hierarchy lint",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			h, err := api.GetHierarchy.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(cmd.OutOrStdout(), h)
			} else {
				err = printLint(cmd, h)
			}
			if err != nil {
				return err
			}
			for _, f := range h.Findings {
				if f.Severity == "error" {
					return errBroken
				}
			}
			return nil
		},
	})
}

// errBroken makes `hierarchy lint` exit 1.
var errBroken = errors.New("a law of the tree is broken")

func printLint(cmd *cobra.Command, h *api.Hierarchy) error {
	t := newTable(cmd.OutOrStdout(), "CA", "LEVEL", "PATH LENGTH", "STATE", "NOT AFTER", "BELOW", "CHAIN BYTES")
	for _, ca := range h.CAs {
		limit := "none"
		if ca.PathLen != nil {
			limit = strconv.Itoa(*ca.PathLen)
		}
		t.row(strings.Repeat("  ", ca.Level-1)+ca.ID, strconv.Itoa(ca.Level), limit, ca.State, stamp(ca.NotAfter),
			strconv.Itoa(ca.Children), strconv.Itoa(ca.ChainBytes))
	}
	if err := t.end(); err != nil {
		return err
	}
	for _, f := range h.Findings {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s: %s\n", f.Severity, clean(f.About),
			clean(f.What)); err != nil {
			return err
		}
	}
	return nil
}

func (c *CLI) hierarchyCost() *cobra.Command {
	var asJSON *bool
	return c.command(verb{
		use: "cost", short: "say what the depth of each tree costs at every connection",
		long: `Shows for each CA that issues what a server with a certificate of it sends beside its
own certificate at every handshake, how many signatures a client verifies, and how
long that takes here.`,
		example: "  privyseal hierarchy cost",
		flags:   func(cmd *cobra.Command) { asJSON = jsonFlag(cmd) },
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			h, err := api.GetHierarchy.Call(cmd.Context(), client, api.None{}, api.None{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), api.Hierarchy{CAs: h.CAs})
			}
			t := newTable(cmd.OutOrStdout(), "CA", "DEPTH", "KEY", "CHAIN BYTES", "SIGNATURES", "VERIFIED IN",
				"LIVE CERTIFICATES")
			for _, ca := range h.CAs {
				if ca.Children > 0 || ca.Level == 1 {
					continue
				}
				took := time.Duration(ca.VerifyMicroseconds) * time.Microsecond
				t.row(ca.ID, strconv.Itoa(ca.Level), ca.Key, strconv.Itoa(ca.ChainBytes), strconv.Itoa(ca.Signatures),
					took.String(), strconv.FormatInt(ca.Certificates, 10))
			}
			return t.end()
		},
	})
}

func (c *CLI) hierarchyExport() *cobra.Command {
	var out string
	return c.command(verb{
		use: "export CA --out FILE", short: "write a CA and all below it, with their records, for another server",
		args: cobra.ExactArgs(1),
		long: `Writes a CA, those below it, every certificate that they have issued and what is
revoked, for "privyseal hierarchy import" on another server. Private keys are not in
it: carry the key files or tokens by themselves. Stop issuing from these CAs first;
what is issued or revoked here later is not in the file.`,
		example: "  privyseal hierarchy export bulbs-root --out bulbs.jsonl",
		flags:   func(cmd *cobra.Command) { cmd.Flags().StringVar(&out, "out", "", "file to write (required)") },
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if out == "" {
				return usagef("%s: --out is required; see --help", cmd.CommandPath())
			}
			export, err := api.ExportHierarchy.Call(cmd.Context(), client, api.IssuerRef{Issuer: args[0]}, api.None{})
			if err != nil {
				return err
			}
			defer func() { _ = export.Body.Close() }()
			file, err := files.Create(out, 0o600) // it names customers
			if err != nil {
				return usagef("--out: %s", err)
			}
			defer file.Discard()
			n, err := io.Copy(file, export.Body)
			if err != nil {
				return fmt.Errorf("export broke off: %w", err)
			}
			if err := file.Commit(); err != nil {
				return err
			}
			cmd.PrintErrf("wrote %d bytes to %s\n", n, out)
			return nil
		},
	})
}
