package main

import (
	"crypto"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/ceremony"
)

func initCommand() *cobra.Command {
	var tiers int
	var example string
	cmd := &cobra.Command{
		Use: "init", Short: "write the file of a founding ceremony, with comments, to be reviewed",
		Args: args(cobra.NoArgs),
		Long: `Writes the commented YAML of a founding ceremony to standard output. Fill it in, have
a second person review it, and take it to the machine that never sees a network.`,
		Example: "  privyseal-ceremony init > ceremony.yaml\n  privyseal-ceremony init --tiers 3 > ceremony.yaml\n  " +
			"privyseal-ceremony init --example manufacturer > ceremony.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			name := fmt.Sprintf("tiers-%d", tiers)
			if example != "" {
				name = example
			}
			text, err := ceremony.Scaffold(name)
			if err != nil {
				return usageError{err.Error()}
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().IntVar(&tiers, "tiers", 2, "levels of CAs: 2, or 3 with policy CAs between")
	cmd.Flags().StringVar(&example, "example", "", "a whole organisation: manufacturer")
	return cmd
}

func runCommand() *cobra.Command {
	var o ceremony.Options
	var secrets int
	cmd := &cobra.Command{
		Use: "run FILE", Short: "hold the ceremony that a file describes", Args: args(cobra.ExactArgs(1)),
		Long: `Rehearses every act with throw-away keys and lints what comes out, shows it, asks for
the fingerprint of every request and for a yes. Then the custodians give their
shares, one by one; the acts are performed and checked again; the transcript is
signed; what may leave the machine is in the out folder, with SHA-256 sums.

A run that was interrupted is gone on with by the same command. Shares,
passphrases and PINs are read from the terminal and not shown, or from a file
descriptor, never from arguments. Without a terminal all answers are lines of
standard input.`,
		Example: "  privyseal-ceremony run ceremony.yaml --dry-run\n  privyseal-ceremony run ceremony.yaml\n" +
			"  privyseal-ceremony run ceremony.yaml --sheets /media/printer\n  privyseal-ceremony run lists.yaml " +
			"--secrets-fd 3 3< /run/shares",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Program, err = os.Executable(); err != nil {
				return fmt.Errorf("find own program: %w", err)
			}
			o.Tool = "privyseal-ceremony " + version
			c, restore := console(cmd.OutOrStdout(), secrets)
			defer restore()
			return ceremony.Run(cmd.Context(), args[0], c, o, time.Now)
		},
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "rehearse, show what would happen, and stop")
	cmd.Flags().BoolVar(&o.Again, "again", false, "hold a ceremony once more that was held before")
	cmd.Flags().StringVar(&o.Sheets, "sheets", "",
		"write the custodians' sheets to this folder instead of showing them")
	cmd.Flags().IntVar(&secrets, "secrets-fd", -1,
		"read shares, passphrases and PINs from this file descriptor, a line each")
	return cmd
}

func verifyCommand() *cobra.Command {
	var ca, head string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "verify TRANSCRIPT", Short: "check a transcript: its chain, its signatures, and whose they are",
		Args: args(cobra.ExactArgs(1)),
		Long: `Checks that no record was altered, added, moved or taken out, and every signature.
With --ca the CA's signatures must be by the key of that certificate, which is to
come from elsewhere than the transcript. With --head, the head that was printed at
the end of a ceremony and is in the binder, nothing that was done until then may be
missing at the end. Exits 1 if anything is wrong.`,
		Example: "  privyseal-ceremony verify out/root/transcript.json --ca root.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var keys []crypto.PublicKey
			if ca != "" {
				key, err := ceremony.PublicKey(ca)
				if err != nil {
					return err
				}
				keys = append(keys, key)
			}
			return ceremony.VerifyTranscript(cmd.OutOrStdout(), args[0], head, asJSON, keys...)
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "", "certificate of the CA, PEM")
	cmd.Flags().StringVar(&head, "head", "", "head of the transcript, as in the binder")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
