//go:build !linux && !darwin

package ceremony

// cards knows the files of Linux only.
func (f Fitness) cards() ([]card, error) { return readCards(f.Root) }

func randomness() Findings {
	return Findings{{"entropy", Unknown, "this machine does not tell whether its generator is seeded",
		"wait some minutes after the machine was started"}}
}
