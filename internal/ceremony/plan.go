package ceremony

import (
	"fmt"
	"strings"
)

// show writes what will happen.
func (r *run) show(plan []outcome) {
	c := r.console
	c.say("Ceremony  %s\nReason    %s\nFile      %s, SHA-256 %s\nClock     %s",
		r.file.Name, r.reason(), r.path, r.config, r.now().UTC().Format("2006-01-02 15:04:05 UTC"))
	if len(r.file.Present) > 0 {
		names := make([]string, len(r.file.Present))
		for i, p := range r.file.Present {
			names[i] = p.Name
		}
		c.say("Present   %s", strings.Join(names, ", "))
	}
	for _, w := range r.warnings {
		c.say("WARNING   %s", w)
	}
	if r.journal.resumed() {
		c.say("This ceremony was interrupted after %d of %d acts. It goes on where it stopped.", len(r.journal.Acts),
			len(r.file.Acts))
	}
	c.say("\nAll acts were rehearsed with throw-away keys, linted, and came out as follows.")
	for n, act := range r.file.Acts {
		name, by := act.name()
		if r.journal.done(n) {
			c.say("\nAct %d: %s by %s (done)", n+1, name, by)
			continue
		}
		c.say("\nAct %d: %s by %s\n%s", n+1, name, by, plan[n].plan())
	}
}

func (r *run) reason() string {
	if r.file.Reason == "" {
		return "NONE IS GIVEN. The transcript will say so."
	}
	return r.file.Reason
}

// plan is what an act will make, in lines.
func (o outcome) plan() string {
	lines := []string{}
	if o.certificate != nil {
		lines = append(lines, facts(o.certificate))
	}
	if o.list != nil {
		lines = append(lines, fmt.Sprintf("    list %s, valid until %s, %d revoked",
			o.list.Number, day(o.list.NextUpdate), len(o.list.RevokedCertificateEntries)))
	}
	for _, t := range o.text {
		lines = append(lines, "    "+t)
	}
	if o.act.Note != "" && o.list == nil && len(o.text) == 0 {
		lines = append(lines, "    "+o.act.Note)
	}
	return strings.Join(lines, "\n")
}

// summary is what an act has made, in lines.
func (o outcome) summary() string {
	a := o.act
	switch {
	case o.certificate != nil:
		return fmt.Sprintf("  signed   %s\n  serial   %s\n  until    %s\n  SHA-256  %s", a.Subject, a.Serial,
			day(o.certificate.NotAfter), a.Certificate)
	case o.list != nil:
		return fmt.Sprintf("  signed   list %s, %s\n  SHA-256  %s", a.CRLNumber, a.Note, a.CRL)
	}
	return "  done     " + strings.Join(o.text, "\n           ")
}
