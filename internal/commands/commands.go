// Package commands has the verbs of the server's side of the command line: serve,
// migrate, verify, and what reads a configuration file or the audit record.
package commands

import (
	"cmp"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/server"
	"github.com/privyseal/privyseal/internal/statedir"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/verify"
)

// errFindings is returned by the verbs that look for faults and found some. They
// have printed them.
var errFindings = errors.New("there are findings")

// New returns the verbs. The operator's verbs of the groups config and audit are
// handed in, because they speak to a running server.
func New(version string, now func() time.Time, config, audit []*cobra.Command) []*cobra.Command {
	configGroup := &cobra.Command{Use: "config", Short: "check, describe and reload the configuration"}
	configGroup.AddCommand(append([]*cobra.Command{checkCommand(now), schemaCommand()}, config...)...)
	auditGroup := &cobra.Command{Use: "audit", Short: "verify and read the audit record"}
	auditGroup.AddCommand(append([]*cobra.Command{auditVerifyCommand(now)}, audit...)...)
	return []*cobra.Command{
		serveCommand(version, now), migrateCommand(now), verifyCommand(now), doctorCommand(), configGroup, auditGroup,
		versionCommand(version),
	}
}

func serveCommand(version string, now func() time.Time) *cobra.Command {
	return withConfig(&cobra.Command{Use: "serve", Short: "serve what a configuration file says", Args: cobra.NoArgs},
		func(cmd *cobra.Command, cfg *config.File) error {
			ctx, stop := server.Signals(cmd.Context())
			defer stop()
			n, err := statedir.Claim(cfg.State.Dir)
			if err != nil {
				return err
			}
			return server.Run(ctx, server.NewEnv(version, now, cfg.Log), n, cfg, func() {})
		})
}

func migrateCommand(now func() time.Time) *cobra.Command {
	return withConfig(&cobra.Command{
		Use: "migrate", Short: "bring the database's schema up to this release", Args: cobra.NoArgs,
	}, withStore(now, func(cmd *cobra.Command, _ *config.File, s *store.Store) error {
		if err := s.Migrate(cmd.Context()); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date")
		return err
	}))
}

func verifyCommand(now func() time.Time) *cobra.Command {
	var asJSON, fetch bool
	var archives []string
	cmd := withConfig(&cobra.Command{
		Use: "verify", Short: "check every invariant of the CA over the whole database", Args: cobra.NoArgs,
		Long: `Reads the whole database, changes nothing, prints what is wrong and exits 1 if
anything is. With --fetch it also asks, over plain http, what the certificates of
the CAs and the newest certificate of each point to: lists, OCSP responders and
issuer certificates that are missing, out of date or another CA's.`,
	}, withStore(now, func(cmd *cobra.Command, cfg *config.File, s *store.Store) error {
		key, err := auditPublicKey(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		r, err := verify.CheckCA(cmd.Context(), s, verify.Config{
			AuditKeys: []crypto.PublicKey{key}, Archives: archives, Archive: cfg.Audit.Archive,
			Now: now(), Fetch: fetch, AuditFolder: new(audit.FolderIn(cfg.State.Dir)),
		})
		if err != nil {
			return err
		}
		summary := fmt.Sprintf("%d issuers, %d certificates (%d imported), %d orders, %d lists, %d audit events",
			r.Issuers, r.Certificates, r.Imported, r.Orders, r.Lists, r.AuditEvents)
		if fetch {
			summary += fmt.Sprintf(", %d URLs asked, %d not", r.Fetched, r.NotFetched)
		}
		if err := printWarnings(cmd.OutOrStdout(), asJSON, r.Warnings); err != nil {
			return err
		}
		return printFindings(cmd.OutOrStdout(), asJSON, r, r.Findings, summary)
	}))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&fetch, "fetch", false, "also ask what certificates point to, over the network")
	cmd.Flags().StringSliceVar(&archives, "archive", nil, "more segments of audit events than those in audit.archive")
	return cmd
}

func auditVerifyCommand(now func() time.Time) *cobra.Command {
	var asJSON bool
	var archives []string
	cmd := withConfig(&cobra.Command{
		Use: "verify", Short: "check the chains of the audit record against their checkpoints", Args: cobra.NoArgs,
		Long: "Reads the audit record, names the first bad event of each chain and exits 1 if there is one.",
	}, withStore(now, func(cmd *cobra.Command, cfg *config.File, s *store.Store) error {
		key, err := auditPublicKey(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		v := audit.Verifier{
			Store: s, Keys: []crypto.PublicKey{key}, Archives: archives, Dir: cfg.Audit.Archive,
			Folder: new(audit.FolderIn(cfg.State.Dir)),
		}
		r, err := v.Verify(cmd.Context())
		if err != nil {
			return err
		}
		summary := fmt.Sprintf("%d events in %d chains, %d checkpoints", r.Events, r.Chains, r.Checkpoints)
		if n := r.NotRead(); n > 0 {
			summary += fmt.Sprintf(", %d older events neither in the database nor in a segment", n)
		}
		if r.Accepted > 0 {
			summary += fmt.Sprintf(", %d accepted", r.Accepted)
		}
		if err := printWarnings(cmd.OutOrStdout(), asJSON, r.Warnings); err != nil {
			return err
		}
		return printFindings(cmd.OutOrStdout(), asJSON, r, r.Findings, summary)
	}))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().StringSliceVar(&archives, "archive", nil, "more segments of events than those in audit.archive")
	return cmd
}

// printWarnings prints what is no finding and not well either. As JSON it is in the
// report.
func printWarnings(out io.Writer, asJSON bool, warnings []string) error {
	for _, w := range warnings {
		if asJSON {
			break
		}
		if _, err := fmt.Fprintf(out, "warning: %s\n", w); err != nil {
			return err
		}
	}
	return nil
}

// printFindings prints a report, and fails if there is anything in it.
func printFindings[F fmt.Stringer](out io.Writer, asJSON bool, report any, findings []F, summary string) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			if _, err := fmt.Fprintln(out, f); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(out, "checked %s: %d findings\n", summary, len(findings)); err != nil {
			return err
		}
	}
	if len(findings) > 0 {
		return errFindings
	}
	return nil
}

func checkCommand(now func() time.Time) *cobra.Command {
	var database bool
	cmd := withConfig(&cobra.Command{
		Use: "check", Short: "report everything that is wrong with a configuration file", Args: cobra.NoArgs,
		Long: `Reads the file and the files that it names, touches nothing, and exits 1 if anything is wrong.
With --database it also opens the database and says which lines of key_encryption the secrets there
need: before a line is taken out, and before a restart without it.`,
	}, func(cmd *cobra.Command, cfg *config.File) error {
		for _, w := range cfg.Warnings {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "warning: %s\n", w); err != nil {
				return err
			}
		}
		if database {
			if err := withStore(now, checkSecrets(now))(cmd, cfg); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is good (%s)\n", cfg.Path, cfg.Digest())
		return err
	})
	cmd.Flags().BoolVar(&database, "database", false, "also hold key_encryption against the secrets in the database")
	return cmd
}

// checkSecrets says what the secrets in the database need of key_encryption, and fails
// if they need what is not there.
func checkSecrets(now func() time.Time) func(*cobra.Command, *config.File, *store.Store) error {
	return func(cmd *cobra.Command, cfg *config.File, s *store.Store) error {
		sealer, err := cfg.Sealer()
		if err != nil {
			return fmt.Errorf("key_encryption: %w", err)
		}
		uses, err := credential.NewResealer(s, sealer, now).Uses(cmd.Context())
		if err != nil {
			return err
		}
		check := health.Secrets(uses, sealer, sealer)
		switch check.State {
		case health.Failed:
			return fmt.Errorf("key_encryption: %s: %s", check.Detail, check.Remedy)
		case health.Warning:
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "warning: key_encryption: %s: %s\n", check.Detail, check.Remedy)
		default:
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "every secret in the database opens; %s\n",
				cmp.Or(check.Detail, "all lines are needed"))
		}
		return err
	}
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of the configuration file", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema)
			return err
		},
	}
}

func versionCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "privyseal %s %s%s\n", version, runtime.Version(), commit())
			return err
		},
	}
}

// commit is the revision that the binary was built from, if the build knew it.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return " " + s.Value
		}
	}
	return ""
}

// withConfig gives a command --config and hands it the file, read and checked.
func withConfig(cmd *cobra.Command, do func(*cobra.Command, *config.File) error) *cobra.Command {
	file := cmd.Flags().String("config", "",
		"the configuration file (default: "+strings.Join(config.Places, ", ")+", whichever is there first)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		found, err := config.Find(*file)
		if err != nil {
			return err
		}
		cfg, err := config.Load(found)
		if err != nil {
			return err
		}
		return do(cmd, cfg)
	}
	return cmd
}

// withStore hands a command the database, beside a server that may be running.
func withStore(
	now func() time.Time, do func(*cobra.Command, *config.File, *store.Store) error,
) func(*cobra.Command, *config.File) error {
	return func(cmd *cobra.Command, cfg *config.File) (err error) {
		s, err := cfg.OpenStore(cmd.Context(), "command:"+store.NewID(), now)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return do(cmd, cfg, s)
	}
}

// auditPublicKey is the public half of the key that signs checkpoints.
func auditPublicKey(ctx context.Context, cfg *config.File) (crypto.PublicKey, error) {
	secret := cfg.Audit.Passphrase.Secret(cfg.Dir)
	k, err := keys.Open(ctx, cfg.Audit.Key, secret, cfg.PKCS11.Keys())
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	return k.Public(), k.Close()
}
