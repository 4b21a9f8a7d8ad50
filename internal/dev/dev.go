// Package dev is `privyseal dev`: it makes a small CA in a folder, runs a server on
// it, and prints what to type next.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/server"
	"github.com/privyseal/privyseal/internal/statedir"
	"github.com/privyseal/privyseal/internal/store"
)

// Command returns the verb.
func Command(version string, now func() time.Time) *cobra.Command {
	o := &devca.Options{}
	cmd := &cobra.Command{
		Use: "dev", Short: "make a small CA in a folder and serve it on this machine", Args: cobra.NoArgs,
		Long: `Makes a root, an issuing CA and a configuration in DIR, serves them on loopback
and prints what to type next. A second start on the same DIR goes on with what is
there; flags that are given win over DIR/privyseal.yaml and are written back.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := server.Signals(cmd.Context())
			defer stop()
			env := func(l config.Log) server.Env { return server.NewEnv(version, now, l) }
			return run(ctx, o, now, env, cmd.OutOrStdout())
		},
	}
	o.Flags(cmd.Flags())
	return cmd
}

const oneTierBanner = `*******************************************************************************
* INSECURE: one tier. The root's key is on this machine and signs everything. *
* If it is lost or stolen, nothing can be revoked and nothing is left.        *
* This is for experiments. Leave --tiers out for a root and an issuing CA.    *
*******************************************************************************
`

// run is `privyseal dev`. env lends the server what logs as the folder's configuration
// says.
func run(
	ctx context.Context, o *devca.Options, now func() time.Time, env func(config.Log) server.Env, out io.Writer,
) error {
	if err := o.Check(); err != nil {
		return err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	n, err := statedir.Claim(dir)
	if err != nil {
		return err
	}
	file, err := o.SetUp(ctx, now, out)
	if err != nil {
		return errors.Join(err, n.Release())
	}
	cfg, err := config.LoadDev(file, devca.OneTier(dir))
	if err != nil {
		return errors.Join(err, n.Release())
	}
	if cfg.OneTier {
		if _, err := fmt.Fprint(out, oneTierBanner); err != nil {
			return errors.Join(err, n.Release())
		}
	}
	e := env(cfg.Log)
	e.Seed = func(ctx context.Context, s *store.Store, users *credential.ESTUsers) error {
		return makeESTUser(ctx, dir, e.Log, s, users)
	}
	return server.Run(ctx, e, n, cfg, func() { _ = hints(ctx, out, dir, cfg) })
}
