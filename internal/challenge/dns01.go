package challenge

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
)

// dns01 looks for the digest of the key authorization among the TXT records of
// _acme-challenge below the name (RFC 8555, section 8.4). Any record may match:
// x and *.x are validated at the same name at the same time.
func (v *Validator) dns01(ctx context.Context, t Task, rec *Record) error {
	name := "_acme-challenge." + t.Identifier.Value
	rec.TXT = name
	rrs, err := v.dns.lookup(ctx, name, dns.TypeTXT)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(t.KeyAuthorization))
	want := base64.RawURLEncoding.EncodeToString(digest[:])
	var found []string
	for _, rr := range rrs {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		value := strings.Join(txt.Txt, "") // the strings of one record are one value
		if value == want {
			rec.TXT = strings.TrimSuffix(strings.ToLower(txt.Hdr.Name), ".")
			return nil
		}
		found = append(found, value)
	}
	switch len(found) {
	case 0:
		return fault.New(fault.Denied, "there is no TXT record at %s", name).Because("no_txt")
	case 1:
		return fault.New(fault.Denied, "the TXT record at %s is %s, which is not the digest of the key authorization",
			name, quote(found[0])).Because("wrong_txt")
	default:
		return fault.New(fault.Denied, "none of the %d TXT records at %s is the digest of the key authorization; the first is %s",
			len(found), name, quote(found[0])).Because("wrong_txt")
	}
}
