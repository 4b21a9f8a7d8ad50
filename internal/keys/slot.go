//go:build cgo

package keys

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// errNoToken is in the chain when the module has no token that a reference names.
var errNoToken = errors.New("the module has no token of this label, serial or slot")

// maxNamed is how many tokens or keys an error names at most.
const maxNamed = 8

// find returns the one token that has every attribute of u. No PIN is sent before
// it is certain which one is meant. The caller has the turn.
func (l *library) find(u *URI, sessions int) (*token, error) {
	if err := l.start(); err != nil {
		return nil, err
	}
	if err := u.matchesLibrary(l.module); err != nil {
		return nil, err
	}
	slots, err := l.module.GetSlotList(true)
	if err != nil {
		return nil, fmt.Errorf("list slots: %w", meaning(err))
	}
	var found *pkcs11.TokenInfo
	var at uint
	var named, all []string
	for _, id := range slots {
		info, err := l.module.GetTokenInfo(id)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 { // broken, or empty
			continue
		}
		name := fmt.Sprintf("label %q, serial %q, slot %d", info.Label, info.SerialNumber, id)
		all = append(all, name)
		if u.matchesToken(&info) && u.matchesSlot(l.module, id) {
			found, at = &info, id
			named = append(named, name)
		}
	}
	switch len(named) {
	case 0:
		return nil, l.noToken(all)
	case 1:
		return l.tokenAt(at, found, sessions), nil
	}
	return nil, fmt.Errorf("%d tokens of the module are what the reference names (%s), and no PIN was sent: want one; "+
		"name it by serial=", len(named), list(named))
}

// noToken says what there is in the place of a token.
func (l *library) noToken(all []string) error {
	seen := "it has none at all"
	if len(all) > 0 {
		seen = "it has " + list(all)
	}
	later := ""
	if !l.fresh {
		later = "; a token that was made or put in after this node had started may need a restart of it"
	}
	return fmt.Errorf("%w: %s%s%s", errNoToken, seen, l.hint(), later)
}

func list(names []string) string {
	if more := len(names) - maxNamed; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(names[:maxNamed], "; "), more)
	}
	return strings.Join(names, "; ")
}

func same(want, have string) bool { return want == "" || want == have }

func (u *URI) matchesLibrary(p *pkcs11.Ctx) error {
	if u.LibraryManufacturer+u.LibraryDescription+u.LibraryVersion == "" {
		return nil
	}
	i, err := p.GetInfo()
	if err != nil {
		return fmt.Errorf("read module information: %w", meaning(err))
	}
	version := fmt.Sprintf("%d.%d", i.LibraryVersion.Major, i.LibraryVersion.Minor)
	if same(u.LibraryManufacturer, i.ManufacturerID) && same(u.LibraryDescription, i.LibraryDescription) &&
		same(u.LibraryVersion, version) {
		return nil
	}
	return fmt.Errorf("the PKCS#11 module is another one than the reference says: it is %q of %q, version %s",
		i.LibraryDescription, i.ManufacturerID, version)
}

func (u *URI) matchesToken(info *pkcs11.TokenInfo) bool {
	return same(u.Token, info.Label) && same(u.Serial, info.SerialNumber) &&
		same(u.Manufacturer, info.ManufacturerID) && same(u.Model, info.Model)
}

func (u *URI) matchesSlot(p *pkcs11.Ctx, id uint) bool {
	if u.SlotID != nil && *u.SlotID != uint64(id) {
		return false
	}
	if u.SlotManufacturer+u.SlotDescription == "" {
		return true
	}
	info, err := p.GetSlotInfo(id)
	return err == nil && same(u.SlotManufacturer, info.ManufacturerID) && same(u.SlotDescription, info.SlotDescription)
}
