package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// macDomain separates keys of MACs from what seals, and MACs from one another.
const macDomain = "privyseal record mac\x00"

// MAC returns an authenticator of data under a key derived from the first
// key-encryption key: the header of a sealed secret, then HMAC-SHA256. It holds for
// data under this name only.
func (s *Sealer) MAC(name string, data []byte) []byte {
	current := s.keys[0].ID
	out := append([]byte{version}, current[:]...)
	return append(out, s.sum(current, name, data)...)
}

// CheckMAC returns nil if mac is one of MAC for this name and data. The error is
// ErrFormat, ErrKey or ErrBroken otherwise.
func (s *Sealer) CheckMAC(name string, data, mac []byte) error {
	id, err := KeyOf(mac)
	switch {
	case err != nil || len(mac) != HeadSize+sha256.Size:
		return fmt.Errorf("check record %q: %w", name, ErrFormat)
	case !s.Has(id):
		return fmt.Errorf("check record %q: %w (%s): %s", name, ErrKey, id, Remedy)
	case !hmac.Equal(mac[HeadSize:], s.sum(id, name, data)):
		return fmt.Errorf("check record %q: %w", name, ErrBroken)
	}
	return nil
}

func (s *Sealer) sum(id KeyID, name string, data []byte) []byte {
	h := hmac.New(sha256.New, s.macs[id])
	h.Write(covered([]byte(macDomain), name))
	h.Write([]byte{0})
	h.Write(data)
	return h.Sum(nil)
}

func macKey(kek []byte) []byte {
	h := hmac.New(sha256.New, kek)
	h.Write([]byte(macDomain))
	return h.Sum(nil)
}
