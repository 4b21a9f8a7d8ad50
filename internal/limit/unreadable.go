package limit

import (
	"context"
	"time"
)

// Envelope is what an encrypted message is counted by when it cannot be read:
// who sent it, which of our keys it is for, and its encrypted content key. Each is
// a short text; Key may be empty.
type Envelope struct{ Source, Recipient, Key string }

const unreadable = "too many messages that cannot be read"

func (e Envelope) bySource() string    { return "unreadable source " + e.Recipient + " " + e.Source }
func (e Envelope) byEnvelope() string  { return "unreadable envelope " + e.Recipient + " " + e.Key }
func (e Envelope) byRecipient() string { return "unreadable recipient " + e.Recipient }

// MayRead refuses a message of which there were too many that nobody could read.
// Call it before a message is decrypted.
//
// Strangers cannot lock out anybody but themselves: the rate of a recipient
// refuses nobody by itself. Where it is used up, a source may no longer run ahead
// of its own rate.
func (l *Limiter) MayRead(ctx context.Context, e Envelope) error {
	if e.Key != "" {
		r := l.cfg.UnreadableByEnvelope
		if err := l.locked(ctx, e.byEnvelope(), r, r.burst(), unreadable); err != nil {
			return err
		}
	}
	burst, err := l.sourceBurst(ctx, e)
	if err != nil {
		return err
	}
	return l.locked(ctx, e.bySource(), l.cfg.UnreadableBySource, burst, unreadable)
}

func (l *Limiter) sourceBurst(ctx context.Context, e Envelope) (time.Duration, error) {
	all := l.cfg.UnreadableByRecipient
	if all.Count == 0 {
		return l.cfg.UnreadableBySource.burst(), nil
	}
	wait, err := l.store.LimitWait(ctx, e.byRecipient(), l.now(), all.burst())
	if err != nil || wait > 0 {
		return 0, err
	}
	return l.cfg.UnreadableBySource.burst(), nil
}

// Unreadable counts a message that could not be read, whatever the reason. It is a
// fault when it was one too many, so that of several at once no more than allowed
// are answered.
func (l *Limiter) Unreadable(ctx context.Context, e Envelope) error {
	if r := l.cfg.UnreadableByRecipient; r.Count > 0 {
		if _, _, err := l.store.UpdateLimit(ctx, e.byRecipient(), l.now(), r.period(), r.burst()); err != nil {
			return err
		}
	}
	if e.Key != "" {
		if err := l.take(ctx, e.byEnvelope(), l.cfg.UnreadableByEnvelope, unreadable); err != nil {
			return err
		}
	}
	return l.take(ctx, e.bySource(), l.cfg.UnreadableBySource, unreadable)
}
