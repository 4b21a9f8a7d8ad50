//go:build !cgo

package keys

const withPKCS11 = false

// Without cgo no module can be loaded; every use says so.

func dialPKCS11(*URI, string, []byte) (connection, error) { return nil, errNoPKCS11 }

func generateToken(Ref, string, Secret, Config) error { return errNoPKCS11 }
