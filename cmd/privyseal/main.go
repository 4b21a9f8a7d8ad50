// Command privyseal is the online certificate authority and its operator's
// command line.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/commands"
	"github.com/privyseal/privyseal/internal/dev"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/operator"
)

// version is set at build time (see Makefile).
var version = "dev"

func main() {
	if err := keys.NoCoreDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "privyseal:", err)
		os.Exit(1)
	}
	cli := operator.New(time.Now, os.Getenv)
	root := &cobra.Command{
		Use: "privyseal", Short: "A private certificate authority that you run yourself",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(dev.Command(version, time.Now))
	root.AddCommand(commands.New(
		version, time.Now, []*cobra.Command{cli.ConfigReload()}, []*cobra.Command{cli.AuditTail(), cli.AuditAccept()},
	)...)
	root.AddCommand(cli.Groups()...)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "privyseal:", err)
		os.Exit(operator.ExitCode(err))
	}
}
