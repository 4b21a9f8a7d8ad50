// Package e2e runs the built program as a newcomer would, and real ACME clients
// against it: certbot, lego, uacme, acme-tiny and golang.org/x/crypto/acme, on
// SQLite and on PostgreSQL. What they get is read by openssl and by zlint, and
// after each scenario `privyseal verify` looks over the whole store.
//
// A client that is not installed skips its test with the reason; with CI=true
// it fails instead.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/privyseal/privyseal/test/lab"
)

// binary is the program under test, built once. PRIVYSEAL_BINARY names another,
// such as a release.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "privyseal-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // another user runs the program in one test
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if binary = os.Getenv("PRIVYSEAL_BINARY"); binary == "" {
		if binary, err = lab.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}
