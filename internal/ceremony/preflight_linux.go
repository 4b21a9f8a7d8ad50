package ceremony

import (
	"errors"

	"golang.org/x/sys/unix"
)

func (f Fitness) cards() ([]card, error) { return readCards(f.Root) }

// randomness asks the kernel without waiting whether its generator is seeded.
func randomness() Findings {
	var b [32]byte
	n, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return Findings{{"entropy", Fatal, "the kernel has not gathered enough randomness yet",
			"type, move the mouse, wait a minute, try again"}}
	case err != nil || n != len(b):
		return Findings{{"entropy", Unknown, "the kernel does not tell whether its generator is seeded",
			"wait some minutes after the machine was started"}}
	}
	return Findings{{"entropy", Fine, "the kernel's generator is seeded", ""}}
}
