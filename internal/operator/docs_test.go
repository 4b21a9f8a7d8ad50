package operator_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const cliPage = "../../docs/cli.md"

// docs/cli.md is what the commands say of themselves.
func TestCLIPage(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	page.WriteString("# The operator's commands\n\n" +
		"Written from the commands' own help by `go test ./internal/operator -run CLIPage -update`.\n\n" +
		"Every command finds the server's socket by `--socket`, then `PRIVYSEAL_SOCKET`, then `./privyseal.sock`,\n" +
		"`./privyseal-dev/privyseal.sock` and `/run/privyseal/privyseal.sock`. Exit codes: 0 done, 1 refused or failed,\n" +
		"2 the command line is wrong, 3 no server answers, 4 a person has to approve what was asked for.\n")
	describe(&page, root())
	if *update {
		if err := os.WriteFile(cliPage, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, page.Bytes()) {
		t.Error("docs/cli.md is not what the commands say: run go test ./internal/operator -run CLIPage -update")
	}
}

func describe(page *bytes.Buffer, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if sub.HasSubCommands() {
			describe(page, sub)
			continue
		}
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		usage, _, _ := strings.Cut(sub.UseLine(), " [flags]")
		fmt.Fprintf(page, "\n## %s\n\n%s.\n\n", sub.CommandPath(), strings.ToUpper(sub.Short[:1])+sub.Short[1:])
		if sub.Long != "" {
			fmt.Fprintf(page, "%s\n\n", sub.Long)
		}
		fmt.Fprintf(page, "    %s [flags]\n\n", usage)
		sub.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			name, value := "--"+f.Name, ""
			if f.Shorthand != "" {
				name = "-" + f.Shorthand + ", " + name
			}
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
				value = " (default " + f.DefValue + ")"
			}
			fmt.Fprintf(page, "- `%s` %s%s\n", name, f.Usage, value)
		})
		if sub.Example != "" {
			fmt.Fprintf(page, "\n```\n%s\n```\n", strings.ReplaceAll(sub.Example, "\n  ", "\n")[2:])
		}
	}
}
