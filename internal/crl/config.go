package crl

import (
	"errors"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Config is how an issuer publishes its revocation lists.
type Config struct {
	// Interval is how often a new list is published, whether anything was revoked
	// or not; 24h if left out.
	Interval time.Duration `yaml:"interval,omitempty"`
	// Validity is how long a list may be used, from its publication to its
	// nextUpdate; 168h (7 days) if left out. It should be several times Interval:
	// that is the time to repair a CA whose key is away.
	Validity time.Duration `yaml:"validity,omitempty"`
	// Skew dates a list back, for clients whose clocks are slow; 10m if left out.
	Skew time.Duration `yaml:"skew,omitempty"`
	// Immediate are the reasons for which a list is published at once, in the
	// words of RFC 5280; keyCompromise and cACompromise if left out, [] for none.
	Immediate []string `yaml:"immediate,omitempty"`
	// Shards divides new certificates among that many lists, each with its own URL
	// in the certificate and in the list; 0, one list for all, if left out. Some
	// clients cannot use such lists: see docs/revocation.md before you set it. What
	// was issued keeps its list for good, whatever this says later. A list of all
	// revocations is published beside them.
	Shards int `yaml:"shards,omitempty"`
	// Delta is how often a list of what changed since the last full list is
	// published between two of them; never if left out.
	Delta time.Duration `yaml:"delta,omitempty"`
}

// Complete returns c with what is left out filled in.
func (c Config) Complete() Config {
	if c.Interval == 0 {
		c.Interval = 24 * time.Hour
	}
	if c.Validity == 0 {
		c.Validity = 7 * 24 * time.Hour
	}
	if c.Skew == 0 {
		c.Skew = 10 * time.Minute
	}
	if c.Immediate == nil {
		c.Immediate = []string{pki.KeyCompromise.String(), pki.CACompromise.String()}
	}
	return c
}

// maxShards keeps the number of lists one that a folder and a person can handle.
const maxShards = 4096

// Check reports everything that is wrong with a completed configuration.
func (c Config) Check() error {
	_, err := c.reasons()
	return errors.Join(
		strictyaml.WrongIf(c.Interval < time.Minute, "interval", "want 1m or more"),
		strictyaml.WrongIf(c.Validity < 2*c.Interval, "validity", "want twice the interval or more"),
		strictyaml.WrongIf(c.Skew < 0 || c.Skew > 24*time.Hour, "skew", "want 0s to 24h"),
		strictyaml.WrongIf(c.Shards < 0 || c.Shards > maxShards, "shards", "want 0 to %d", maxShards),
		strictyaml.WrongIf(c.Delta != 0 && (c.Delta < time.Minute || c.Delta > c.Interval/2),
			"delta", "want 1m to half the interval"),
		err,
	)
}

func (c Config) reasons() ([]pki.Reason, error) {
	reasons := make([]pki.Reason, 0, len(c.Immediate))
	for _, name := range c.Immediate {
		r, err := pki.ParseReason(name)
		if err != nil {
			return nil, strictyaml.Wrong("immediate", "%v", err)
		}
		reasons = append(reasons, r)
	}
	return reasons, nil
}
