package commands

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/keys"
)

const doctorTokenLong = `Prints what a token and its module say of themselves, as a row of the table in
docs/hsm.md: the token, the module, sessions, tries of the PIN, how it is logged in
to. Without --reference it looks at the tokens of the keys of all issuers. No PIN is
sent unless --login is given: then the PIN of the issuer with this key is tried once.`

func doctorCommand() *cobra.Command {
	doctor := &cobra.Command{Use: "doctor", Short: "look at what the server depends on"}
	var reference string
	var login bool
	token := withConfig(&cobra.Command{
		Use: "token", Short: "describe the tokens in which keys are", Long: doctorTokenLong, Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, cfg *config.File) error {
		return doctorToken(cmd, cfg, keys.Ref(reference), login)
	})
	token.Flags().StringVar(&reference, "reference", "", "a key's reference, pkcs11:…, in the place of the issuers'")
	token.Flags().BoolVar(&login, "login", false, "log in as serve does, and look at the key")
	doctor.AddCommand(token)
	return doctor
}

// doctorToken prints a row for each key in a token, once.
func doctorToken(cmd *cobra.Command, cfg *config.File, only keys.Ref, login bool) error {
	secrets := make(map[keys.Ref]keys.Secret)
	refs := []keys.Ref{only}
	if only == "" {
		refs = nil
	}
	for _, is := range cfg.Issuers {
		if strings.HasPrefix(string(is.Key), "pkcs11:") {
			secrets[is.Key] = is.Passphrase.Secret(cfg.Dir)
			if only == "" {
				refs = append(refs, is.Key)
			}
		}
	}
	if len(refs) == 0 {
		return errors.New("no issuer of the configuration has its key in a token: give one with --reference")
	}
	rows := []string{"| token | module | sessions | PIN tries | login |", "|---|---|---|---|---|"}
	seen := make(map[string]bool)
	for _, ref := range refs {
		var secret keys.Secret
		if login {
			if secret = secrets[ref]; secret == nil {
				return fmt.Errorf("%s is no issuer's key, so that its PIN is not known: leave out --login", ref)
			}
		}
		d, err := keys.Describe(cmd.Context(), ref, secret, cfg.PKCS11.Keys())
		if err != nil {
			return err
		}
		if row := d.Row(); !seen[row] {
			seen[row] = true
			rows = append(rows, row)
		}
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(rows, "\n"))
	return err
}
