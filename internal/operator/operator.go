// Package operator is the operator's command line: cobra commands that call the
// operator API of a running server over its unix socket or the network. It opens no store and
// reads no configuration; what it prints is what the server answered.
//
// Every command has --socket and --server and, where there is something to print, --json.
// What is asked for goes to standard output and everything else to standard
// error, so that output can be piped. Exit codes are those of ExitCode.
//
// New returns the commands' maker; main attaches Groups at the root, and
// AuditTail, AuditAccept and ConfigReload to the server's own groups.
package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
)

// Exit codes.
const (
	exitRefused     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitWaiting     = 4
	exitWarning     = 5
)

// CLI makes the commands.
type CLI struct {
	now    func() time.Time
	getenv func(string) string
}

// New returns a CLI that reads its times against now and its environment with
// getenv, which is os.Getenv outside of tests.
func New(now func() time.Time, getenv func(string) string) *CLI {
	return &CLI{now: now, getenv: getenv}
}

// Groups returns the commands that are the operator's alone.
func (c *CLI) Groups() []*cobra.Command {
	return []*cobra.Command{
		c.cert(), c.acme(), c.eab(), c.est(), c.scep(), c.request(), c.issuer(), c.hierarchy(), c.importGroup(),
		c.crl(), c.kek(), c.status(), c.access(), c.person(), c.session(), c.token(), c.whoami(),
		c.login(), c.logout(), c.contextGroup(),
	}
}

// errUsage is in the chain of errors that the caller of the command made.
var errUsage = errors.New("usage")

// usageError is a mistake on the command line; its text is shown as it is.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }
func (e usageError) Unwrap() error { return errUsage }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// ExitCode returns the exit code of what a command returned: 0 done, 1 refused
// or failed, 2 the command line is wrong, 3 no server answers, 4 an operator has to
// approve what was asked for, 5 `status` has warnings.
func ExitCode(err error) int {
	var p *api.Problem
	switch {
	case err == nil:
		return 0
	case errors.Is(err, api.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, errUsage), isCobra(err):
		return exitUsage
	case errors.As(err, &p) && p.Waiting():
		return exitWaiting
	case errors.Is(err, errWarning):
		return exitWarning
	default:
		return exitRefused
	}
}

// cobraMistakes are how cobra begins what it says of a command line, at the root
// and in commands that are not made here; it has no types for them.
var cobraMistakes = []string{
	"unknown command", "unknown flag", "unknown shorthand flag", "flag needs an argument", "invalid argument",
	"bad flag syntax", "required flag", "accepts ", "requires ",
}

func isCobra(err error) bool {
	return slices.ContainsFunc(cobraMistakes, func(start string) bool { return strings.HasPrefix(err.Error(), start) })
}

// verb is a command that calls the server.
type verb struct {
	use, short, example string
	long                string
	args                cobra.PositionalArgs // nil: none are taken
	flags               func(*cobra.Command)
	run                 func(*cobra.Command, *api.Client, []string) error
}

func (c *CLI) command(v verb) *cobra.Command {
	var to target
	flags := v.flags
	v.flags = func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&to.socket, "socket", "", "the server's unix socket, or the folder that holds it")
		cmd.Flags().StringVar(&to.server, "server", "", "a server in the network: its URL, or the name of its context")
		cmd.Flags().StringVar(&to.root, "root", "", "with --server: SHA-256 of a CA above it, or of its self-signed certificate")
		if flags != nil {
			flags(cmd)
		}
	}
	return c.local(v, func(cmd *cobra.Command, args []string) error {
		client, err := c.connect(cmd, to)
		if err != nil {
			return err
		}
		defer client.Close()
		return v.run(cmd, client, args)
	})
}

// local is a command that calls no operation.
func (c *CLI) local(v verb, run func(*cobra.Command, []string) error) *cobra.Command {
	if v.args == nil {
		v.args = cobra.NoArgs
	}
	cmd := &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example,
		SilenceUsage: true, SilenceErrors: true, DisableFlagsInUseLine: false,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := v.args(cmd, args); err != nil {
				return usagef("%s: %s\nusage: %s", cmd.CommandPath(), err, cmd.UseLine())
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(flagError)
	if v.flags != nil {
		v.flags(cmd)
	}
	cmd.RunE = run
	return cmd
}

func flagError(cmd *cobra.Command, err error) error {
	return usagef("%s: %s\nsee %s --help", cmd.CommandPath(), err, cmd.CommandPath())
}

// group is a command that only holds others.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s has no command %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	cmd.SetFlagErrorFunc(flagError)
	cmd.AddCommand(verbs...)
	return cmd
}

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}
