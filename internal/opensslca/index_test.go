package opensslca

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/pki"
)

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestParseIndex(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	entries := []Entry{
		{Serial: "1000", NotAfter: epoch, Subject: "/CN=a", File: "unknown"},
		{Serial: "0a", NotAfter: time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC), Subject: `/CN=\xC3\xA4/b`, File: "unknown", Expired: true},
		{Serial: "02", NotAfter: epoch, Subject: "", File: "02.pem", Revoked: &Revocation{At: epoch}},
		{Serial: "03", NotAfter: epoch, File: "unknown", Revoked: &Revocation{At: epoch, Reason: pki.CACompromise}},
		{Serial: "04", NotAfter: epoch, File: "unknown", Revoked: &Revocation{At: epoch, Reason: pki.KeyCompromise, InvalidityAt: &since}},
		{Serial: "05", NotAfter: epoch, File: "unknown", Revoked: &Revocation{At: epoch, Reason: pki.CACompromise, InvalidityAt: &since}},
	}
	got, err := ParseIndex(append([]byte("# a comment\n\n"), FormatIndex(entries)...))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(entries, got); d != "" {
		t.Error(d)
	}
	if old, err := parseTime("700101000000Z"); err != nil || old.Year() != 1970 {
		t.Errorf("%v %v", old, err)
	}
	if old, err := parseTime("550101000000Z"); err != nil || old.Year() != 1955 {
		t.Errorf("%v %v", old, err)
	}
	for _, bad := range []string{
		"V", "V\t261121120000Z\t\t10\tunknown", "X\t261121120000Z\t\t10\tunknown\t/CN=a", "V\tsoon\t\t10\tunknown\t/CN=a",
		"V\t261121120000Z\t\tzz\tunknown\t/CN=a", "V\t261121120000Z\t261121120000Z\t10\tunknown\t/CN=a",
		"R\t261121120000Z\t\t10\tunknown\t/CN=a", "R\t261121120000Z\t261121120000Z,bored\t10\tunknown\t/CN=a",
		"R\t261121120000Z\t261121120000Z,keyTime\t10\tunknown\t/CN=a", "R\t261121120000Z\t261121120000Z,superseded,x\t10\tunknown\t/CN=a",
		"R\t261121120000Z\t261121120000Z,keyTime,x\t10\tunknown\t/CN=a", "V\t261121120000Z\t\t10\tunknown\t/CN=\xff",
	} {
		if _, err := ParseIndex([]byte(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for text, want := range map[string]string{
		"V\t261121120000Z\t\t10\tunknown\t/CN=a\nE\t261121120000Z\t\t0010\tunknown\t/CN=b\n": "line 2: serial 10 is in line 1 already",
		"V\t261121120000Z\t\t10\tunknown\t/CN=" + strings.Repeat("a", maxLine):               "line 1: longer",
		"V\t261121120000Z\t\t00\tunknown\t/CN=a":                                             "line 1: serial",
	} {
		if _, err := ParseIndex([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	hold, err := ParseIndex([]byte("R\t261121120000Z\t261121120000Z,holdInstruction,holdInstructionReject\t10\tunknown\t/CN=a"))
	if err != nil || hold[0].Revoked.Reason != pki.CertificateHold || hold[0].Revoked.InvalidityAt != nil {
		t.Errorf("%v %v", hold, err)
	}
	if Storable(pki.PrivilegeWithdrawn) || !Storable(pki.Superseded) {
		t.Error("reasons")
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte("V\t361121115959Z\t\t1000\tunknown\t/C=DE/CN=x\nR\t20510101000000Z\t261121120000Z,keyTime,20260102030405Z\t0A\tunknown\t/CN=y\n"))
	f.Add([]byte("E\t491231235959Z\t\t01\tunknown\t\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := ParseIndex(text)
		if err != nil {
			return
		}
		again, err := ParseIndex(FormatIndex(entries))
		if err != nil {
			t.Fatalf("%q: %v", FormatIndex(entries), err)
		}
		if d := cmp.Diff(entries, again); d != "" {
			t.Fatal(d)
		}
	})
}
