package ceremony

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// card is a network interface as the kernel tells it.
type card struct {
	name     string
	loopback bool
	live     bool // it is up, or could carry traffic this moment
	wireless bool
}

// network reports live interfaces. It reads what the kernel shows as files (or,
// on Darwin, asks by sysctl): a socket would be the first step of what must not
// be.
func (f Fitness) network() Findings {
	cards, err := f.cards()
	if err != nil {
		return Findings{{"network", Unknown, "this machine does not tell its network interfaces: " + err.Error(),
			"take out cables and cards yourself, and switch off radio"}}
	}
	var list Findings
	for _, c := range cards {
		switch {
		case c.loopback:
		case c.live:
			list = append(list, Finding{"network", Warning, c.name + " is up: this machine is on a network",
				fmt.Sprintf("take out the cable or card, or: ip link set %s down", c.name)})
		case c.wireless:
			list = append(list, Finding{"network", Warning, c.name + " is a radio, switched off for now",
				"use a machine without radio, or take the card out"})
		}
	}
	if len(list) > 0 {
		return list
	}
	return Findings{{"network", Fine, "no interface is up", ""}}
}

// The kernel's numbers (if_arp.h, if.h).
const (
	typeLoopback = 772
	flagUp       = 1
)

// readCards reads Linux's /sys/class/net below root.
func readCards(root string) ([]card, error) {
	dir := filepath.Join(root, "sys/class/net")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var cards []card
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(path, "type")); err != nil {
			continue // bonding_masters and the like are plain files
		}
		flags := number(path, "flags")
		state, err := os.ReadFile(filepath.Join(path, "operstate"))
		if err != nil {
			state = []byte("unknown")
		}
		c := card{
			name:     e.Name(),
			loopback: number(path, "type") == typeLoopback,
			wireless: exists(filepath.Join(path, "wireless")) || exists(filepath.Join(path, "phy80211")),
		}
		switch strings.TrimSpace(string(state)) {
		case "up", "dormant", "testing":
			c.live = true
		case "unknown": // drivers that do not tell
			c.live = flags&flagUp != 0 || flags < 0
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// number reads one attribute, -1 if it cannot be read.
func number(dir, name string) int64 {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 0, 64)
	if err != nil {
		return -1
	}
	return n
}
