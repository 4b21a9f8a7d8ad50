package dev

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

const (
	devUser         = "device"       // the EST user that dev makes
	estPasswordFile = "est-password" // in DIR: its password
)

// makeESTUser makes dev's EST user once. Its password is kept in DIR, because the
// database has none.
func makeESTUser(ctx context.Context, dir string, log *slog.Logger, s *store.Store, users *credential.ESTUsers) error {
	file := filepath.Join(dir, estPasswordFile)
	_, err := s.ESTUser(ctx, devUser)
	if err == nil {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			log.WarnContext(ctx, "the password of the EST user is in no file any more: add another user",
				"user", devUser, "file", file)
		}
		return nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	_, password, err := users.Create(ctx, credential.NewESTUser{
		Name: devUser, Description: "made by privyseal dev", Binding: pki.Binding{AnyName: true}, CreatedBy: "server",
	})
	if err != nil {
		return err
	}
	return files.Write(file, []byte(password+"\n"), 0o600)
}
