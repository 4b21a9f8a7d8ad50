package operator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/operator"
	"github.com/privyseal/privyseal/internal/store"
)

// root is the operator's part of the privyseal command.
func root() *cobra.Command {
	cli := operator.New(time.Now, os.Getenv)
	cmd := &cobra.Command{Use: "privyseal", SilenceErrors: true, SilenceUsage: true}
	audit, config := &cobra.Command{Use: "audit", Short: "the audit record"}, &cobra.Command{Use: "config", Short: "the configuration"}
	audit.AddCommand(cli.AuditTail(), cli.AuditAccept())
	config.AddCommand(cli.ConfigReload())
	cmd.AddCommand(cli.Groups()...)
	cmd.AddCommand(audit, config)
	return cmd
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"privyseal": func() {
			cmd := root()
			err := cmd.Execute()
			if err != nil {
				fmt.Fprintln(os.Stderr, "privyseal:", err)
			}
			os.Exit(operator.ExitCode(err))
		},
	})
}

// Each script talks to a server of its own at $PRIVYSEAL_SOCKET.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("the script's T is not a testing.TB")
			}
			s := admintest.Start(tb, nil, "web-a-1")
			env.Setenv("PRIVYSEAL_SOCKET", s.Socket)
			env.Values["server"] = s
			env.Values["tb"] = tb
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"csr": makeCSR, "exits": exits, "breaks": breaks, "record": putRecord, "account": makeAccount,
		},
	})
}

// makeCSR is `csr FILE NAME…`.
func makeCSR(ts *testscript.TestScript, _ bool, args []string) {
	tb, ok := ts.Value("tb").(testing.TB)
	if !ok || len(args) < 1 {
		ts.Fatalf("usage: csr FILE NAME…")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(admintest.CSR(tb, args[1:]...)), 0o600))
}

// makeAccount is `account KID FILE`: the EAB key in KID has made an account; FILE then holds
// its id, that of its order that failed, and that of its authorization that waits.
func makeAccount(ts *testscript.TestScript, _ bool, args []string) {
	s, ok := ts.Value("server").(*admintest.Server)
	tb, isTB := ts.Value("tb").(testing.TB)
	if !ok || !isTB || len(args) != 2 {
		ts.Fatalf("usage: account KID FILE")
	}
	made := s.ACME(tb, strings.TrimSpace(ts.ReadFile(args[0])))
	text := strings.Join([]string{made.Account, made.Failed, made.PendingAuthz}, "\n") + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// putRecord is `record ID`: a CA without a certificate that can be read is installed.
func putRecord(ts *testscript.TestScript, _ bool, args []string) {
	s, ok := ts.Value("server").(*admintest.Server)
	if !ok || len(args) != 1 {
		ts.Fatalf("usage: record ID")
	}
	ts.Check(s.Store.PutIssuer(context.Background(), store.IssuerRecord{
		ID: args[0], Name: args[0], State: "active", ParentID: "root",
		Certificate: []byte("broken"), Subject: "CN=Broken", CreatedAt: time.Now(),
	}))
}

// exits is `exits CODE COMMAND…`: it runs a command that ends with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if got := 0; err != nil {
		if errors.As(err, &exit) {
			got = exit.ExitCode()
		}
		if got != want {
			ts.Fatalf("%v: %v, want exit code %d", args[1:], err, want)
		}
	} else if want != 0 {
		ts.Fatalf("%v: exit code 0, want %d", args[1:], want)
	}
}

// breaks is `breaks key|reload|health`: from then on that fails.
func breaks(ts *testscript.TestScript, _ bool, args []string) {
	s, ok := ts.Value("server").(*admintest.Server)
	if !ok || len(args) != 1 {
		ts.Fatalf("usage: breaks key|reload|health")
	}
	refusal := errors.New("privyseal.yaml:7:3: unknown key")
	switch args[0] {
	case "key":
		s.KeyFails.Store(true)
	case "reload":
		s.ReloadErr.Store(&refusal)
	case "health":
		s.NotReady.Store(true)
	}
}
