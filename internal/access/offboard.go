package access

import (
	"context"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
)

// Offboarded is what ends when a person leaves: grants by id, sessions and tokens too.
type Offboarded struct {
	Logins, Grants, Sessions, Tokens []string
}

// Offboard ends in one change the grants, sessions and tokens of a person and of each of
// their logins, and blocks the person for good. The logins stay theirs, so that the block
// holds for each of them, whatever groups they are in. A dry run only looks.
func (a *Access) Offboard(
	ctx context.Context, c Caller, person, reason string, dryRun bool, requestID string,
) (*Offboarded, error) {
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	var out *Offboarded
	if dryRun {
		s, err := a.current(ctx)
		if err != nil {
			return nil, err
		}
		out, err = s.leaving(person)
		return out, err
	}
	err := a.change(ctx, func(s *snapshot, e *edit) (err error) {
		if out, err = s.leaving(person); err != nil {
			return err
		}
		for kind, ids := range map[string][]string{
			kindGrant: out.Grants, kindSession: out.Sessions, kindToken: out.Tokens,
		} {
			for _, id := range ids {
				e.remove(kind, id)
			}
		}
		e.event = a.event(c, "person.offboarded", "person:"+person, requestID, out)
		subject := "person:" + person
		return e.write(kindBlock, subject, nil, Block{Subject: subject, Reason: reason, By: c.String(),
			At: a.cfg.Now().UTC()})
	})
	return out, err
}

// leaving finds what ends with a person.
func (s *snapshot) leaving(person string) (*Offboarded, error) {
	if _, known := s.people[person]; !known {
		return nil, fault.New(fault.NotFound, "there is no person %s", person).Because("person_unknown")
	}
	var out Offboarded
	for subject, l := range s.logins {
		if l.Person == person {
			out.Logins = append(out.Logins, subject)
		}
	}
	slices.Sort(out.Logins)
	theirs := func(l Login) bool { return slices.Contains(out.Logins, l.Subject()) }
	for _, g := range s.grants {
		if g.Subject == "person:"+person || slices.Contains(out.Logins, g.Subject) {
			out.Grants = append(out.Grants, g.ID)
		}
	}
	for _, one := range s.sessions {
		if theirs(one.Login) {
			out.Sessions = append(out.Sessions, one.ID)
		}
	}
	for _, t := range s.tokens {
		if theirs(t.Owner) {
			out.Tokens = append(out.Tokens, t.ID)
		}
	}
	return &out, nil
}
