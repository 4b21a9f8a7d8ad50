// Command privyseal-ceremony is the offline CA: it makes roots, signs the CAs
// below them and their lists, and records what was done. It opens no socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/keys"
)

// version is set at build time (see Makefile).
var version = "dev"

func main() {
	if err := keys.NoCoreDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "privyseal-ceremony:", err)
		os.Exit(1)
	}
	root := commands()
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "privyseal-ceremony:", err)
		os.Exit(exitCode(err))
	}
}

func commands() *cobra.Command {
	root := &cobra.Command{
		Use: "privyseal-ceremony", Short: "The offline CA: roots, the CAs below them, and their lists",
		Version: version, SilenceUsage: true, SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Sprintf("%s: %v\nsee %s --help", cmd.CommandPath(), err, cmd.CommandPath())}
	})
	root.AddCommand(initCommand(), runCommand(), verifyCommand(), statusCommand(), preflightCommand(),
		exportIndexCommand(), importCommand())
	return root
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// exitCode is 1 for what was refused or failed and 2 for a wrong command line.
func exitCode(err error) int {
	var u usageError
	if errors.As(err, &u) || strings.HasPrefix(err.Error(), "unknown command") {
		return 2
	}
	return 1
}

// args counts arguments as cobra does, as a mistake on the command line.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usageError{fmt.Sprintf("%s: %v\nusage: %s", cmd.CommandPath(), err, cmd.UseLine())}
		}
		return nil
	}
}
