//go:build cgo

package keys

import (
	"context"
	"fmt"
)

// describeToken is Describe for a module that can be loaded.
func describeToken(ctx context.Context, u *URI, module string, secret Secret, cfg Config) (Description, error) {
	t := &tokenKey{
		uri: u, lib: libraryAt(module), secret: secret, sessions: cfg.Sessions, finalTry: cfg.FinalTry,
		report: func(string, error) {},
	}
	if err := t.lib.enter(ctx); err != nil {
		return Description{}, err
	}
	defer t.lib.leave()
	slot, err := t.lib.find(u, t.sessions)
	if err != nil {
		return Description{}, err
	}
	d, err := slot.describe()
	if err != nil || secret == nil {
		return d, err
	}
	c, err := t.connect(ctx)
	if err != nil {
		return Description{}, err
	}
	d.Login = "once per process"
	if c.always {
		d.Login = "for each use of the key (CKA_ALWAYS_AUTHENTICATE)"
	}
	return d, nil
}

// describe reads what the token and the module say. The caller has the turn.
func (t *token) describe() (Description, error) {
	info, err := t.lib.module.GetTokenInfo(t.slot)
	if err != nil {
		return Description{}, fmt.Errorf("read token information: %w", meaning(err))
	}
	lib, err := t.lib.module.GetInfo()
	if err != nil {
		return Description{}, fmt.Errorf("read module information: %w", meaning(err))
	}
	d := Description{
		Token: info.Label, Serial: info.SerialNumber, Model: info.Model, Module: t.lib.path,
		Library:  fmt.Sprintf("%s %d.%d", lib.LibraryDescription, lib.LibraryVersion.Major, lib.LibraryVersion.Minor),
		Sessions: "no bound said", PIN: "all left, or not counted by the token",
		Login: "not tried",
	}
	if !unbounded(info.MaxSessionCount) {
		d.Sessions = fmt.Sprint(info.MaxSessionCount)
	}
	switch {
	case info.Flags&pinLocked != 0:
		d.PIN = "locked"
	case info.Flags&pinFinalTry != 0:
		d.PIN = "one left"
	case info.Flags&pinCountLow != 0:
		d.PIN = "a wrong one was sent since the last right one"
	}
	return d, nil
}
