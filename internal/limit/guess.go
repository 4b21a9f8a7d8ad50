package limit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/privyseal/privyseal/internal/fault"
)

// Guess is what a presented secret is counted by if it is wrong.
type Guess struct {
	Source   string // of the client, see web.Source
	Endpoint string // where it is presented
	// Identity is whose secret is presented, as the protocol names it: a user, the id
	// of a key, the public key of a device.
	Identity string
	// Chosen says that somebody chose the secret, which may be short: only counting
	// protects it. Those that are made here nobody guesses.
	Chosen bool
	// Unknown says that nobody has this identity, or that it is whatever a guesser
	// likes: then it gets no count of its own once the source has used up its rate.
	Unknown bool
}

func (g Guess) bySource() string { return "secrets " + g.Endpoint + " " + g.Source }

func (g Guess) byIdentity() string {
	sum := sha256.Sum256([]byte(g.Identity)) // it may be as long as a header
	return "secret " + g.Endpoint + " " + g.Source + " " + hex.EncodeToString(sum[:16])
}

const (
	lockedOut = "too many wrong secrets for this identity from this address: look for the right one while you wait"
	crowded   = "too many wrong secrets from this address: come again later"
)

// MayGuess refuses a secret of which there were too many wrong ones. Call it before
// the secret is compared, so that who is refused learns nothing of it.
//
// What others behind the same address get wrong refuses no secret that is made
// here: where the source has used up its rate, an identity may no longer run ahead of
// its own.
func (l *Limiter) MayGuess(ctx context.Context, g Guess) error {
	own := l.cfg.WrongSecrets
	burst := own.burst()
	switch err := l.sourceFull(ctx, g); {
	case fault.Is(err, fault.RateLimited) && !g.Chosen:
		burst = 0
	case err != nil:
		return err
	}
	return l.locked(ctx, g.byIdentity(), own, burst, lockedOut)
}

func (l *Limiter) sourceFull(ctx context.Context, g Guess) error {
	all := l.cfg.WrongSecretsBySource
	return l.locked(ctx, g.bySource(), all, all.burst(), crowded)
}

// WrongSecret counts a wrong guess. It is a fault when the guess was one too
// many, so that of several at once no more than allowed are answered.
func (l *Limiter) WrongSecret(ctx context.Context, g Guess) error {
	full := l.take(ctx, g.bySource(), l.cfg.WrongSecretsBySource, crowded)
	if full != nil && (g.Unknown || !fault.Is(full, fault.RateLimited)) {
		return full
	}
	if err := l.take(ctx, g.byIdentity(), l.cfg.WrongSecrets, lockedOut); err != nil {
		return err
	}
	return full
}
