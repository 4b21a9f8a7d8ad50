package scep

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
)

// Somebody who captured another client's message can send its encrypted content
// key again and again with a ciphertext of his own, in any messageType and signed
// by himself. With CBC, an answer that depends on what came out of it gives the
// plaintext away octet by octet, and the plaintext of an enrolment holds a secret.
// So everything of that kind is a hidden error, and has one answer, at one time,
// and a bound (rule S25).

// hidden is an error that depends on decrypted octets which its sender has not
// proved to know. It unwraps to nothing: nobody may render its cause by mistake.
type hidden struct{ cause error }

func (h *hidden) Error() string { return "hidden from the client: " + h.cause.Error() }

func hide(format string, args ...any) error {
	return &hidden{fault.New(fault.Unverified, format, args...)}
}

// hideRefusal hides an error, unless the server is to blame for it.
func hideRefusal(err error) error {
	if err == nil || fault.Is(err, fault.Internal) || fault.Is(err, fault.Unavailable) {
		return err
	}
	return &hidden{err}
}

// The one answer to each group of messages. Which one it is depends on the
// messageType alone, which everybody can read.
var (
	errUnreadable = fault.New(fault.Unverified, "the encrypted part of the message cannot be decrypted or read, "+
		"or is not exactly one DER certificate request whose own signature is right; "+
		"the log of the server tells which").Because("scep_unreadable")
	errNothing = fault.New(fault.NotFound, "the encrypted part of the message cannot be decrypted or read, "+
		"or names no certificate, list or request that is here for its sender; "+
		"the log of the server tells which").Because("scep_unreadable")
)

// unreadable returns the answer to a message of the type.
func (t messageType) unreadable() *fault.Error {
	switch t {
	case certPoll, getCert, getCRL:
		return errNothing
	}
	return errUnreadable
}

// unreadable is what a client is told of a hidden error, once the time of the
// answer has come. The cause is for the log.
func (s *Server) unreadable(ctx context.Context, c *call, h *hidden) error {
	if !c.opened.IsZero() {
		s.wait(ctx, c.opened)
	}
	// What was readable has waited for the turn of its signature: a full queue is
	// told to both, or it would tell which is which.
	if err := pki.KeyUses.Do(ctx, func() {}); err != nil {
		return err
	}
	f := *c.typ.unreadable()
	switch err := s.Limits.Unreadable(ctx, c.counted()); {
	case fault.Is(err, fault.RateLimited):
		f = *fault.Of(err)
	case err != nil:
		return err
	}
	f.Err = h.cause
	return &f
}

// counted is what the message is counted by. Leading zeros of a number would give
// one encrypted key many spellings.
func (c *call) counted() limit.Envelope {
	short := func(b []byte) string {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:16])
	}
	e := limit.Envelope{Source: c.source, Recipient: short(c.ra.decrypt.cert.RawSubjectPublicKeyInfo)}
	if c.envelope != nil {
		if key := bytes.TrimLeft(c.envelope.EncryptedKey(c.ra.decrypt.cert), "\x00"); len(key) > 0 {
			e.Key = short(key)
		}
	}
	return e
}

const (
	// step is the time from the decryption of a message to the answer that it is
	// unreadable, or, on a server that is busy beyond measure, a whole number of
	// them. What is done meanwhile (parsing, a signature of whatever kind of key,
	// reads of the database) takes a tenth of it at most where the processors are not
	// overloaded.
	step = 20 * time.Millisecond
	// coarse is the resolution of the runtime's timers, with something to spare:
	// they count in milliseconds from when they are set, so they alone would pass
	// on what is to be hidden.
	coarse = 2 * time.Millisecond
)

// wait returns at the next whole step after since, or when ctx ends.
func (s *Server) wait(ctx context.Context, since time.Time) {
	until := since.Add(step * (s.Now().Sub(since)/step + 1))
	if rest := until.Sub(s.Now()) - coarse; rest > 0 {
		select {
		case <-time.After(rest):
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil && s.Now().Before(until) {
		runtime.Gosched()
	}
}
