package operator_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/privyseal/privyseal/internal/clitest"
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
		"2 the command line is wrong, 3 no server answers, 4 a person has to approve what was asked for.\n" +
		"The offline tool's commands have [a page of their own](cli-ceremony.md).\n")
	clitest.Describe(&page, root())
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
