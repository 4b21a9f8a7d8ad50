package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/ceremony"
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "take over a CA of another program", Args: args(cobra.NoArgs)}
	cmd.AddCommand(importOpenSSLCommand())
	return cmd
}

func importOpenSSLCommand() *cobra.Command {
	var im ceremony.Import
	var q ceremony.Quorum
	var o ceremony.Options
	var secrets int
	cmd := &cobra.Command{
		Use: "openssl-ca --dir DIR", Short: "an offline CA that was run with openssl ca", Args: args(cobra.NoArgs),
		Long: `Reads the folder of a CA that was run with openssl ca: openssl.cnf, index.txt, serial,
crlnumber, certificates, the last list, and the key, whose passphrase is asked for. What
does not fit together is refused or shown. The key is encrypted anew, under shares of
which any --need of the --custodian open it, or under a passphrase; the rest comes
along, so that what the CA signed can be revoked and its lists go on with the next
number. The old folder is only read: destroying its key is up to you.`,
		Example: "  privyseal-ceremony import openssl-ca --dir /root/ca --reason 'Out of OpenSSL' \\\n" +
			"      --need 3 --custodian 'Ann Alpha' --custodian 'Bo Beta' --custodian 'Cy Gamma' --custodian 'Di " +
			"Delta' --custodian 'Ed Epsilon'\n" +
			"  privyseal-ceremony import openssl-ca --dir /mnt/stick --key /mnt/stick/root.key --certificate " +
			"/mnt/stick/root.crt --into root",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if im.From.Dir == "" {
				return usageError{"import openssl-ca: say with --dir which folder the CA is in"}
			}
			if len(q.Custodians) > 0 || q.Need > 0 {
				im.Quorum = &q
			}
			o.Tool = "privyseal-ceremony " + version
			if o.Program, err = os.Executable(); err != nil {
				return fmt.Errorf("find own program: %w", err)
			}
			c, restore := console(cmd.OutOrStdout(), secrets)
			defer restore()
			return ceremony.RunImport(cmd.Context(), im, c, o, time.Now)
		},
	}
	f := cmd.Flags()
	f.StringVar(&im.From.Dir, "dir", "", "folder of the CA (required)")
	f.StringVar(&im.From.Config, "config", "", "its openssl.cnf (default: openssl.cnf in the folder)")
	f.StringVar(&im.From.Section, "section", "", "the CA's section in it (default: what default_ca names)")
	f.StringVar(&im.From.Key, "key", "", "file of the key, instead of what openssl.cnf names")
	f.StringVar(&im.From.Certificate, "certificate", "",
		"file of the certificate and those above it, instead of what openssl.cnf names")
	f.StringVar(&im.From.CRL, "crl", "", "the newest list that was published, if it is not in the folder")
	f.StringVar(&im.Into, "into", "root", "folder to be made; its last part is the CA's name in ceremonies")
	f.StringVar(&im.Out, "out", "out", "folder of what may leave the machine")
	f.StringVar(&im.Reason, "reason", "", "why, for the transcript")
	f.IntVar(&q.Need, "need", 0, "how many custodians open the key together")
	f.StringArrayVar(&q.Custodians, "custodian", nil, "somebody who gets a share; once for each")
	f.StringVar(&o.Sheets, "sheets", "", "write the custodians' sheets to this folder instead of showing them")
	f.IntVar(&secrets, "secrets-fd", -1, "read shares and passphrases from this file descriptor, a line each")
	return cmd
}
