package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
)

// startContainer is the last resort. It returns the URL of a server in a
// container, which the library's own reaper removes after the test binary.
func startContainer(why error) (dsn string, err error) {
	defer func() {
		if r := recover(); r != nil { // the library panics where no engine answers
			err = errors.Join(why, fmt.Errorf("no Docker engine: %v", r))
		}
	}()
	ctx := context.Background()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return "", errors.Join(why, fmt.Errorf("no Docker engine: %w", err))
	}
	defer func() { _ = provider.Close() }()
	if err := provider.Health(ctx); err != nil {
		return "", errors.Join(why, fmt.Errorf("no Docker engine: %w", err))
	}
	container, err := postgres.Run(ctx, "postgres:16-alpine", postgres.WithDatabase("postgres"),
		postgres.WithUsername("postgres"), postgres.WithPassword("postgres"), postgres.BasicWaitStrategies())
	if err != nil {
		return "", errors.Join(why, fmt.Errorf("start a container: %w", err))
	}
	return container.ConnectionString(ctx, "sslmode=disable")
}
