package keys

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// URI is a parsed pkcs11: reference (RFC 7512). Empty fields are unsaid. An
// object is looked up by exactly the attributes that are given.
type URI struct {
	Token, Manufacturer, Serial, Model      string // CK_TOKEN_INFO
	LibraryManufacturer, LibraryDescription string // CK_INFO
	LibraryVersion                          string
	SlotManufacturer, SlotDescription       string // CK_SLOT_INFO
	SlotID                                  *uint64
	Object                                  string // CKA_LABEL
	ID                                      []byte // CKA_ID
	Type                                    string // "private", "public", "cert", "secret-key", "data"
	ModulePath, ModuleName                  string // which library to load
}

// pathText are the path attributes that hold UTF-8 text.
func (u *URI) pathText(name string) *string {
	switch name {
	case "token":
		return &u.Token
	case "manufacturer":
		return &u.Manufacturer
	case "serial":
		return &u.Serial
	case "model":
		return &u.Model
	case "library-manufacturer":
		return &u.LibraryManufacturer
	case "library-description":
		return &u.LibraryDescription
	case "library-version":
		return &u.LibraryVersion
	case "slot-manufacturer":
		return &u.SlotManufacturer
	case "slot-description":
		return &u.SlotDescription
	case "object":
		return &u.Object
	}
	return nil
}

// ParseURI reads a pkcs11: reference to a private key. It is stricter than RFC
// 7512 where a mistake would find the wrong key or spill a secret: an attribute
// that is unknown or given twice is refused, so is a PIN inside the reference,
// and at least an object label or id must be there.
func ParseURI(s string) (*URI, error) {
	u, err := parseURI(s)
	if err != nil {
		// The text is not repeated: it may hold a PIN.
		return nil, fmt.Errorf("key reference pkcs11:…: %w", err)
	}
	return u, nil
}

func parseURI(s string) (*URI, error) {
	rest, ok := strings.CutPrefix(s, "pkcs11:")
	if !ok {
		return nil, errors.New("want pkcs11: at the beginning")
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	var u URI
	if err := attributes(path, ";", pathExtra, u.setPath); err != nil {
		return nil, err
	}
	if hasQuery {
		if err := attributes(query, "&", queryExtra, u.setQuery); err != nil {
			return nil, err
		}
	}
	if u.Object == "" && len(u.ID) == 0 {
		return nil, errors.New("want object= or id=")
	}
	if u.Type != "" && u.Type != "private" {
		return nil, errors.New("type: want private")
	}
	return &u, nil
}

// Octets that stand for themselves in values besides letters, digits and "-._~":
// RFC 7512, section 2.3, pk11-res-avail with what each component adds.
const (
	available  = ":[]@!$'()*+,="
	pathExtra  = available + "&"
	queryExtra = available + "/?|"
)

// attributes splits a component and hands each name and decoded value to set.
func attributes(s, sep, extra string, set func(name, value string) error) error {
	seen := make(map[string]bool)
	for _, part := range strings.Split(s, sep) {
		name, raw, ok := strings.Cut(part, "=")
		if !ok || name == "" {
			return errors.New("want name=value between separators")
		}
		if seen[name] {
			return fmt.Errorf("%q is given twice", name)
		}
		seen[name] = true
		for _, c := range []byte(raw) {
			if !unreserved(c) && c != '%' && strings.IndexByte(extra, c) < 0 {
				return fmt.Errorf("%q: octet 0x%02x must be percent-encoded", name, c)
			}
		}
		value, err := url.PathUnescape(raw)
		if err != nil {
			return fmt.Errorf("%q: bad percent-encoding", name)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func (u *URI) setPath(name, value string) error {
	switch name {
	case "id":
		u.ID = []byte(value)
		return nil
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return errors.New(`"slot-id": want a decimal number`)
		}
		u.SlotID = &n
		return nil
	case "type":
		u.Type = value
		return nil
	}
	field := u.pathText(name)
	if field == nil {
		return fmt.Errorf("attribute %q is not known", name)
	}
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return fmt.Errorf("%q: want UTF-8 text", name)
	}
	*field = value
	return nil
}

func (u *URI) setQuery(name, value string) error {
	switch name {
	case "module-path":
		if !strings.HasPrefix(value, "/") {
			return errors.New(`"module-path": want an absolute path`)
		}
		u.ModulePath = value
	case "module-name":
		u.ModuleName = value
	case "pin-value", "pin-source":
		return fmt.Errorf("%q does not belong in a reference: name the PIN as the key's secret", name)
	default:
		return fmt.Errorf("attribute %q is not known", name)
	}
	return nil
}
