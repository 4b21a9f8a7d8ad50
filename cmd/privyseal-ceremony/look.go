package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/ceremony"
)

// eachCA calls fn with the CA of each folder below dir, or of the named ones.
func eachCA(dir string, names []string, fn func(ceremony.CA) error) error {
	var folders []string
	for _, n := range names {
		if !filepath.IsAbs(n) {
			n = filepath.Join(dir, n)
		}
		folders = append(folders, n)
	}
	if len(names) == 0 {
		var err error
		if folders, err = ceremony.Folders(dir); err != nil {
			return err
		}
	}
	for _, f := range folders {
		if err := fn(ceremony.CA{Dir: f, Now: time.Now}); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	return nil
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func statusCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status [CA]…", Short: "what is due next, and the ceremonies so far", Args: args(cobra.ArbitraryArgs),
		Long: `Reads the folders of the CAs in DIR, or of those that are named, and prints what opens
their keys, what ends when, and every ceremony. It needs no key.`,
		Example: "  privyseal-ceremony status\n  privyseal-ceremony status root --json",
		RunE: func(cmd *cobra.Command, names []string) error {
			list := []*ceremony.Status{}
			err := eachCA(dir, names, func(ca ceremony.CA) error {
				s, err := ceremony.Inspect(ca)
				if err == nil {
					list = append(list, s)
				}
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			for _, s := range list {
				fmt.Fprint(cmd.OutOrStdout(), s.Text(time.Now()))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder of the ceremonies")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func preflightCommand() *cobra.Command {
	var dir, hash string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "preflight [CA]…", Short: "whether this machine is fit for a ceremony", Args: args(cobra.ArbitraryArgs),
		Long: `Looks for live network interfaces, a clock that cannot be right, weak randomness, swap,
folders that others may read, and whether the program is the reviewed one. It opens
no socket and changes nothing. Warnings are for the custodians to judge; what would
stop a ceremony makes it exit 1.`,
		Example: "  privyseal-ceremony preflight\n  privyseal-ceremony preflight root --tool-sha256 9f2c4d…",
		RunE: func(cmd *cobra.Command, names []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find own program: %w", err)
			}
			if _, err := ceremony.Folders(dir); err != nil && len(names) == 0 {
				names = []string{"root"} // before the founding there is nothing yet
			}
			var found ceremony.Findings
			err = eachCA(dir, names, func(ca ceremony.CA) error {
				found = append(found, ceremony.Preflight(ceremony.Fitness{CA: ca, Tool: program, ToolHash: hash})...)
				return nil
			})
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), found)
			} else {
				_, err = io.WriteString(cmd.OutOrStdout(), found.Text())
			}
			if err == nil && found.Worst() == ceremony.Fatal {
				err = fmt.Errorf("this machine is not fit for a ceremony")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder of the ceremonies")
	cmd.Flags().StringVar(&hash, "tool-sha256", "", "SHA-256 that was published for the program")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func exportIndexCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "export-index CA", Short: "the CA's index as openssl ca keeps it", Args: args(cobra.ExactArgs(1)),
		Long:    "Prints index.txt after it was held against the certificates that are filed.",
		Example: "  privyseal-ceremony export-index root > index.txt",
		RunE: func(cmd *cobra.Command, names []string) error {
			return eachCA(dir, names, func(ca ceremony.CA) error {
				text, err := ceremony.ExportIndex(ca)
				if err == nil {
					_, err = cmd.OutOrStdout().Write(text)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder of the ceremonies")
	return cmd
}
