package ceremony

import "net"

// cards asks by sysctl, which needs no socket.
func (f Fitness) cards() ([]card, error) {
	if f.Root != "/" {
		return readCards(f.Root)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var cards []card
	for _, i := range interfaces {
		cards = append(cards, card{
			name: i.Name, loopback: i.Flags&net.FlagLoopback != 0,
			live: i.Flags&net.FlagUp != 0 && i.Flags&net.FlagRunning != 0,
		})
	}
	return cards, nil
}

// randomness: the kernel hands out nothing before its generator is seeded.
func randomness() Findings {
	return Findings{{"entropy", Fine, "the kernel's generator is seeded", ""}}
}
