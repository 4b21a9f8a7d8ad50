package quorum

import "fmt"

// Collector takes the shares of one set, one after the other.
type Collector struct {
	set    Set
	shares []Share
}

// Collect returns a Collector for the shares of a set.
func Collect(set Set) *Collector { return &Collector{set: set} }

// Add takes one more share. A share that is not of the set, or was given
// already, is refused by name and changes nothing; another may be tried.
func (c *Collector) Add(s Share) error {
	if err := c.set.Check(s); err != nil {
		return err
	}
	for _, have := range c.shares {
		if have.number == s.number {
			return fmt.Errorf("share %d was given already: another custodian's is needed", s.number)
		}
	}
	c.shares = append(c.shares, s)
	return nil
}

// Missing returns how many shares are still needed; 0 when Secret will succeed.
func (c *Collector) Missing() int { return max(c.set.Need-len(c.shares), 0) }

// Numbers returns which shares were given, in that order, for the transcript.
func (c *Collector) Numbers() []int {
	numbers := make([]int, len(c.shares))
	for i, s := range c.shares {
		numbers[i] = s.number
	}
	return numbers
}

// Secret restores the secret. The caller clears it after use.
func (c *Collector) Secret() ([]byte, error) { return Combine(c.set, c.shares) }

// Clear wipes the shares.
func (c *Collector) Clear() {
	for i := range c.shares {
		clear(c.shares[i].value[:])
	}
	c.shares = nil
}
