package profile

import (
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// CheckNames judges names as Apply would, each by itself, before there is a
// request: a front-end asks before it lets anybody prove them. The fault has one
// Sub for each bad name.
func (p *Profile) CheckNames(names []pki.Identifier) error {
	var bad []*fault.Error
	for _, id := range names {
		if _, f := p.checkName(id); f != nil {
			bad = append(bad, f.About(string(id.Type), id.Value))
		}
	}
	if len(bad) > 0 {
		return refuseNames(bad)
	}
	return nil
}

// CheckPeriod judges the validity that a request will ask for as Apply would at
// the given time; zero times are not asked for.
func (p *Profile) CheckPeriod(notBefore, notAfter, now time.Time) error {
	var t Template
	return p.applyValidity(Request{NotBefore: notBefore, NotAfter: notAfter}, &t, now)
}
