package keys

import (
	"context"
	"fmt"
	"path/filepath"
)

// Description is what a token and its module say of themselves.
type Description struct {
	Token, Serial, Model string
	Module               string // path
	Library              string // description and version
	Sessions             string // how many all programs may have, in words where the token does not say
	PIN                  string // what the token says of tries that are left
	Login                string // how it is logged in to: "not tried" unless a key was opened
}

// Row is a row of the table in docs/hsm.md.
func (d Description) Row() string {
	return fmt.Sprintf("| %s, serial %s (run, %s, %s) | `%s` | %s | %s | %s |", d.Token, d.Serial, d.Model, d.Library,
		filepath.Base(d.Module), d.Sessions, d.PIN, d.Login)
}

// Describe looks at the one token that ref names. With a secret it also logs in,
// as Open does, and looks at the key; without one no PIN is sent.
func Describe(ctx context.Context, ref Ref, secret Secret, cfg Config) (Description, error) {
	if !withPKCS11 {
		return Description{}, fmt.Errorf("describe the token of %s: %w", ref, errNoPKCS11)
	}
	u, module, err := ref.token(cfg.Module)
	if err != nil {
		return Description{}, fmt.Errorf("describe the token of %s: %w", ref, err)
	}
	d, err := describeToken(ctx, u, module, secret, cfg)
	if err != nil {
		return Description{}, fmt.Errorf("describe the token of %s: %w", ref, err)
	}
	return d, nil
}
