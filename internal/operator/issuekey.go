package operator

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
)

// private is the mode of a file that only its owner may read.
const private fs.FileMode = 0o600

// keyFlags are those of `cert issue` that make the key here.
type keyFlags struct{ out, algorithm string }

func (k *keyFlags) set(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.out, "key-out", "",
		"make the key here, and write it to this new file (PKCS#8, mode 0600); it is sent nowhere")
	cmd.Flags().StringVar(&k.algorithm, "algorithm", "ec-p256",
		"the key that --key-out makes: ec-p256, ec-p384, ec-p521, rsa-3072 or rsa-4096")
}

// request makes the key and the certificate request for it, PEM, which names nothing: the
// names are beside it. The key is on disk when request returns, so that no certificate is
// ever issued for a lost one; of a dry run it is nowhere.
func (k *keyFlags) request(dryRun bool) (string, error) {
	key, err := keys.Make(k.algorithm)
	if err != nil {
		return "", usagef("--algorithm: %s", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", fmt.Errorf("make certificate request: %w", err)
	}
	if !dryRun {
		err = k.write(key)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})), err
}

// write never replaces a file: the key in it may be the last one.
func (k *keyFlags) write(key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	f, err := os.OpenFile(k.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, private)
	if errors.Is(err, fs.ErrExist) {
		return usagef("--key-out %s: exists, and no key is replaced: name another file, or take it away", k.out)
	}
	if err != nil {
		return usagef("--key-out: %s", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close(), files.SyncDir(filepath.Dir(k.out))); err != nil {
		return fmt.Errorf("write key: %w", errors.Join(err, os.Remove(k.out)))
	}
	return nil
}

// after takes the key away again if nothing was or will be issued for it, and says where
// it is if nobody knows.
func (k *keyFlags) after(cmd *cobra.Command, err error) {
	var p *api.Problem
	switch {
	case k.out == "" || err == nil:
	case errors.Is(err, api.ErrUnreachable), errors.Is(err, errUsage),
		errors.As(err, &p) && p.Refused() && !p.Waiting():
		if err := os.Remove(k.out); err != nil {
			cmd.PrintErrf("the key that nothing was issued for is still there: %s\n", err)
		}
	default:
		cmd.PrintErrf("the key is in %s; keep it until you know that there is no certificate for it\n", k.out)
	}
}
