package issuer

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

func TestFT5_Milder(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	day := func(n int) *time.Time {
		d := at.AddDate(0, 0, n)
		return &d
	}
	entry := func(reason pki.Reason, since int, invalid *time.Time) Revoked {
		return Revoked{Serial: "01", At: *day(since), Reason: reason, InvalidityAt: invalid}
	}
	for name, tt := range map[string]struct {
		was, is Revoked
		want    string
	}{
		"the same":                 {entry(pki.KeyCompromise, 0, day(-2)), entry(pki.KeyCompromise, 0, day(-2)), ""},
		"an earlier date":          {entry(pki.Superseded, 0, nil), entry(pki.Superseded, -1, nil), ""},
		"a fraction of a second":   {entry(pki.Superseded, 0, nil), Revoked{At: at.Add(time.Millisecond), Reason: pki.Superseded}, ""},
		"became a compromise":      {entry(pki.Superseded, 0, nil), entry(pki.KeyCompromise, 0, day(-1)), ""},
		"another compromise":       {entry(pki.KeyCompromise, 0, nil), entry(pki.CACompromise, 0, nil), ""},
		"another reason":           {entry(pki.Superseded, 0, nil), entry(pki.Unspecified, 0, nil), ""},
		"a hold that became final": {entry(pki.CertificateHold, 0, nil), entry(pki.Superseded, 5, nil), ""},
		"a hold that was renewed":  {entry(pki.CertificateHold, 0, nil), entry(pki.CertificateHold, 5, nil), ""},
		"final, then on hold":      {entry(pki.Superseded, 0, nil), entry(pki.CertificateHold, 0, nil), "superseded became certificateHold"},
		"final, then removed":      {entry(pki.Superseded, 0, nil), entry(pki.RemoveFromCRL, 0, nil), "superseded became removeFromCRL"},
		"a compromise, then none":  {entry(pki.CACompromise, 0, nil), entry(pki.Unspecified, 0, nil), "cACompromise became unspecified"},
		"an attribute authority's": {entry(pki.AACompromise, 0, nil), entry(pki.Superseded, 0, nil), "aACompromise became superseded"},
		"a later date": {
			entry(pki.Superseded, 0, nil), entry(pki.Superseded, 1, nil),
			"since 2026-03-01T12:00:00Z became since 2026-03-02T12:00:00Z",
		},
		"a later date with an invalidity date": {entry(pki.KeyCompromise, 0, nil), entry(pki.KeyCompromise, 1, day(0)), ""},
		"no invalidity date any more": {
			entry(pki.KeyCompromise, 0, day(-9)), entry(pki.KeyCompromise, 0, nil),
			"since 2026-02-20T12:00:00Z became since 2026-03-01T12:00:00Z",
		},
		"a later invalidity date": {
			entry(pki.KeyCompromise, 0, day(-9)), entry(pki.KeyCompromise, 0, day(-8)),
			"since 2026-02-20T12:00:00Z became since 2026-02-21T12:00:00Z",
		},
	} {
		if got := tt.is.Milder(tt.was); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
