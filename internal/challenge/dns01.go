package challenge

import (
	"context"
	"strings"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
)

// dns01 looks for the digest of the key authorization among the TXT records of
// _acme-challenge below the name (RFC 8555, section 8.4). Any record may match:
// x and *.x are validated at the same name at the same time.
func (v *Validator) dns01(ctx context.Context, t Task, rec *Record) error {
	name, want := t.Expected()
	rec.TXT = name
	f, err := v.dns.lookup(ctx, name, dns.TypeTXT)
	if err != nil {
		return err
	}
	var values []string
	for _, rr := range f.rrs {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		value := strings.Join(txt.Txt, "") // the strings of one record are one value
		if value == want {
			rec.TXT = strings.TrimSuffix(strings.ToLower(txt.Hdr.Name), ".")
			return nil
		}
		values = append(values, value)
	}
	where, first := f.in(name), ""
	if len(values) > 0 && f.alias == "" { // what stands elsewhere may be nobody's business
		first = "; the first is " + quote(values[0])
	}
	switch len(values) {
	case 0:
		return fault.New(fault.Denied, "there is no TXT record at %s; want one that is %s",
			where, want).Because("no_txt")
	case 1:
		return fault.New(fault.Denied, "the TXT record at %s is not %s, the digest of the key authorization%s",
			where, want, strings.Replace(first, "the first", "it", 1)).Because("wrong_txt")
	default:
		return fault.New(fault.Denied, "none of the %d TXT records at %s is %s, the digest of the key authorization%s",
			len(values), where, want, first).Because("wrong_txt")
	}
}
