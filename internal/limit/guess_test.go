package limit_test

import (
	"context"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestLockoutAfterTenWrongSecrets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, c := context.Background(), newClock()
		l, other := newLimiter(t, limit.Defaults(), s, c), newLimiter(t, limit.Defaults(), s, c)
		g := limit.Guess{Source: "192.0.2.1", Endpoint: "e", Identity: "a"}
		for range 10 {
			if err := l.MayGuess(ctx, g); err != nil {
				t.Fatal(err)
			}
			if err := l.WrongSecret(ctx, g); err != nil {
				t.Fatal(err)
			}
		}
		wantLimited(t, l.MayGuess(ctx, g))
		wantLimited(t, other.MayGuess(ctx, g)) // another node knows
		wantLimited(t, other.WrongSecret(ctx, g))
		for _, free := range []limit.Guess{
			{Source: "192.0.2.2", Endpoint: "e", Identity: "a"}, {Source: "192.0.2.1", Endpoint: "f", Identity: "a"},
			{Source: "192.0.2.1", Endpoint: "e", Identity: "b"},
		} {
			if err := l.MayGuess(ctx, free); err != nil {
				t.Errorf("%+v: %v", free, err)
			}
		}
		c.advance(10 * time.Minute)
		if err := l.MayGuess(ctx, g); err != nil {
			t.Errorf("after ten minutes: %v", err)
		}
	})
}

// TestFR20_ChosenSecrets: where only counting protects a secret, a source that has used
// up its rate is not compared any more until there is room again.
func TestFR20_ChosenSecrets(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), newClock()
	cfg := limit.Defaults()
	cfg.WrongSecretsBySource = limit.Rate{Count: 3, Per: 3 * time.Second}
	l := newLimiter(t, cfg, storetest.SQLite(t), c)
	guess := func(identity string) limit.Guess {
		return limit.Guess{Source: "a", Endpoint: "e", Identity: identity, Chosen: true, Unknown: true}
	}
	for _, identity := range []string{"1", "2", "3"} {
		if err := l.WrongSecret(ctx, guess(identity)); err != nil {
			t.Fatal(err)
		}
	}
	wantLimited(t, l.WrongSecret(ctx, guess("4")))
	wantLimited(t, l.MayGuess(ctx, guess("5")))
	made := guess("5")
	made.Chosen = false
	if err := l.MayGuess(ctx, made); err != nil {
		t.Errorf("a secret that was made here: %v", err)
	}
	c.advance(time.Second)
	if err := l.MayGuess(ctx, guess("5")); err != nil {
		t.Errorf("once there is room again: %v", err)
	}
}
