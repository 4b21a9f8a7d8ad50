package ca

import (
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// Why returns what an operator should know of a CA at a time, the gravest first: why
// it is not in use, not trusted, without its key or not signing, then the warnings of
// the laws as they are at that time. It is for operators alone.
func (c *CA) Why(now time.Time) []string {
	var all []string
	say := func(text string) {
		if text != "" && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	switch {
	case c.Pending != nil:
		return []string{"it is not in use: " + fault.Text(c.Pending)}
	case !c.Installed():
		return []string{"it has no certificate yet"}
	}
	say(c.Trust(now).Why)
	if _, lost := c.KeyState(); lost != nil {
		say("its key cannot be used: " + fault.Text(lost))
	}
	v, refused := Judge(c.Chain(), c.Configured && !c.Offline, now)
	if refused != nil {
		say(fault.Text(refused))
	}
	for _, f := range v.NoSigning {
		say("it signs nothing new: " + f.Detail)
	}
	for _, f := range v.NotNow {
		if c.Trust(now).State != Expired {
			say(f.Detail)
		}
	}
	for _, f := range v.Warnings {
		say(f.Detail)
	}
	return all
}

// DaysLeft returns how many whole days the certificate in force has left; below zero
// after its end.
func (c *CA) DaysLeft(now time.Time) int {
	left := c.Certificate().NotAfter.Sub(now)
	days := int(left / (24 * time.Hour))
	if left < 0 {
		days--
	}
	return days
}
