package credential

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Passwords of EST users and SCEP challenges are made here and nowhere else: 130
// random bits. Nobody tries 2^130 passwords at any price of a try, so they are
// kept as one SHA-256 each: a slow hash, or a key that rotates, would protect a
// person's password and would only cost here. The digest is taken over the name
// too, so that equal passwords would not show.
const secretLetters = 26

// alphabet has no letter that is taken for a digit, and no dash at which a
// command line would stumble.
var alphabet = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// deviceSecret returns a new password.
func deviceSecret() string {
	var b [17]byte
	_, _ = rand.Read(b[:])
	return alphabet.EncodeToString(b[:])[:secretLetters]
}

// secretDigest is what is kept of a password.
func secretDigest(kind, name, secret string) []byte {
	sum := sha256.Sum256([]byte("privyseal " + kind + "\x00" + name + "\x00" + secret))
	return sum[:]
}

// Proof is a credential that was presented and is right.
type Proof struct {
	Identity string          // "est_user:device-7", "scep_challenge:<id>", "webhook:<name>"
	Profile  string          // that it is bound to; empty is any
	Claims   []store.Claim   // consumed when the certificate is reserved
	Evidence json.RawMessage // for the audit record
	// Spent is why nothing new may be had with it; nil if something may. Whoever
	// holds it still gets what it was spent on (rule E12).
	Spent error
	// Bound is what may be asked for with it; nil is anything.
	Bound *issuance.Bound
	// Hook is the webhook that is to hear of the outcome; empty is none.
	Hook string
}

// Attempt says who presents a secret where, and counts for the lockout.
type Attempt struct {
	Source   string   // of the client, see web.Source
	Endpoint string   // the endpoint's name
	Profiles []string // that the endpoint offers; empty is any
}

// guess is what a wrong secret of an identity is counted by (rule S28).
func (a *Attempt) guess(identity string) limit.Guess {
	return limit.Guess{Source: a.Source, Endpoint: a.Endpoint, Identity: identity}
}

// terms are what EST users and SCEP challenges have in common.
type terms struct {
	kind     string // "est_user" or "scep_challenge"
	endpoint string
	profile  string
	binding  pki.Binding
	maxUses  int
	uses     int
	expires  *time.Time
	disabled *time.Time
}

// standing says what a credential is good for at a moment.
func (t *terms) standing(now time.Time) Standing {
	switch {
	case t.disabled != nil:
		return Disabled
	case t.expires != nil && !now.Before(*t.expires):
		return Expired
	case t.maxUses > 0 && t.uses >= t.maxUses:
		return UsedUp
	}
	return Active
}

// admit judges a right secret. The first error refuses it; spent only refuses
// something new.
func (t *terms) admit(a *Attempt, now time.Time) (spent, err error) {
	what := strings.ReplaceAll(t.kind, "_", " ")
	deny := func(reason, format string, args ...any) error {
		return fault.New(fault.Denied, format, args...).Because(t.kind + "_" + reason)
	}
	switch {
	case t.disabled != nil:
		return nil, deny("disabled", "the %s is disabled", what)
	case t.endpoint != "" && t.endpoint != a.Endpoint:
		return nil, deny("wrong_endpoint", "the %s is for another endpoint", what)
	case t.profile != "" && len(a.Profiles) > 0 && !slices.Contains(a.Profiles, t.profile):
		return nil, deny("wrong_profile", "the %s is for a profile that is not offered here", what)
	}
	if s := t.standing(now); s != Active {
		return deny(string(s), "the %s is %s", what, s.words()), nil
	}
	return nil, nil //nolint:nilnil // neither spent nor refused
}

// bound is what the door holds requests against.
func (t *terms) bound() *issuance.Bound {
	b := &issuance.Bound{Kind: t.kind, Binding: t.binding}
	if t.profile != "" {
		b.Profiles = []string{t.profile}
	}
	return b
}

// guard runs a comparison of a secret under the lockout.
type guard struct{ limits *limit.Limiter }

// wrong counts a wrong secret and returns what the client is told.
func (g guard) wrong(ctx context.Context, of limit.Guess, kind string) error {
	if err := g.limits.WrongSecret(ctx, of); err != nil {
		return err
	}
	return fault.New(fault.Unauthenticated, "the %s is wrong", strings.ReplaceAll(kind, "_", " ")).
		Because(kind + "_wrong")
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// checkBinding refuses a new credential that says nothing of names, or what cannot be
// read.
func checkBinding(kind string, b *pki.Binding) error {
	if part, err := b.Check(); err != nil {
		return fault.New(fault.Malformed, "%w", err).Because(kind + "_" + part)
	}
	if !b.Binds() {
		return fault.New(fault.Malformed, "say for which names it is good: names, a subject, or any name").
			Because(kind + "_unbound")
	}
	return nil
}

// checkNew checks what is common to new credentials.
func checkNew(kind, description string, binding *pki.Binding, maxUses int, expires, now time.Time) error {
	switch {
	case len(description) > maxDescription:
		return fault.New(fault.Malformed, "the description is longer than %d bytes", maxDescription).
			Because(kind + "_description")
	case maxUses < 0:
		return fault.New(fault.Malformed, "the number of uses is negative").Because(kind + "_uses")
	case !expires.IsZero() && !expires.After(now):
		return fault.New(fault.Malformed, "the expiry lies in the past").Because(kind + "_expiry")
	}
	return checkBinding(kind, binding)
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// act is the audit event of something done to a credential.
func act(at time.Time, action, by, subject, requestID string, detail map[string]any) (store.Event, error) {
	ev := store.Event{At: at, Action: action, Outcome: "success", Actor: by, Subject: subject, RequestID: requestID}
	if detail != nil {
		text, err := json.Marshal(detail)
		if err != nil {
			return ev, fmt.Errorf("%s: %w", action, err)
		}
		ev.Detail = text
	}
	return ev, nil
}

func evidence(method, name string) json.RawMessage {
	text, _ := json.Marshal(map[string]string{"method": method, "credential": name}) // strings always encode
	return text
}
