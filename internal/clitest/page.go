// Package clitest writes the pages of commands from the commands' own help, for
// the tests that hold the pages against it.
package clitest

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Describe writes a section for every command below cmd.
func Describe(page *bytes.Buffer, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if sub.HasSubCommands() {
			Describe(page, sub)
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
