//go:build !cgo

package keys

import "context"

const withPKCS11 = false

// Without cgo no module can be loaded; every use says so.

func openToken(context.Context, *URI, string, Secret, Config, func(string, error)) (backend, error) {
	return nil, errNoPKCS11
}

func generateToken(Ref, string, Secret, Config) error { return errNoPKCS11 }

func describeToken(context.Context, *URI, string, Secret, Config) (Description, error) {
	return Description{}, errNoPKCS11
}
