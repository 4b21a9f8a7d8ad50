package devca

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// One tier is a self-signed CA that issues to subscribers by itself: whoever has
// this machine has the root. Only `privyseal dev --tiers 1` makes and serves one;
// `privyseal serve` refuses its folder.

// OneTier reports whether dev has set a folder up with one tier.
func OneTier(dir string) bool {
	chain, err := config.ReadChain(filepath.Join(dir, chainFile))
	return err == nil && len(chain) == 1 && pki.SelfIssued(chain[0])
}

// holdOneTier makes the one CA, whose key the server opens with the secret of its
// issuer.
func (o *Options) holdOneTier(
	ctx context.Context, now func() time.Time, offline string, names *profile.NameConstraints,
) error {
	root := ceremony.CA{Dir: offline, Secret: config.Reference("file:secrets/issuer").Secret(o.Dir), Now: now}
	cert, err := ceremony.Root(ctx, root, ceremony.RootSpec{
		Subject: "CN=Privyseal Development One-Tier CA,O=Privyseal Development", NameConstraints: names,
	})
	if err != nil {
		return err
	}
	audit, err := o.key(ctx, "audit", "audit")
	if err != nil {
		return err
	}
	text := pki.EncodeChain(cert.Raw)
	rootFile := filepath.Join(o.Dir, "root.pem")
	if err := errors.Join(audit.Close(), files.Write(rootFile, text, 0o644)); err != nil {
		return err
	}
	return files.Write(filepath.Join(o.Dir, chainFile), text, 0o644)
}
