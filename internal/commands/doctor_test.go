//go:build cgo

package commands

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// TestFT9_DoctorToken prints a token's row, without and with a login.
func TestFT9_DoctorToken(t *testing.T) { // not parallel: the token is found by the environment
	tok := hsmtest.New(t)
	o := &devca.Options{
		Dir: t.TempDir(), HTTPS: "127.0.0.1:1", EST: "127.0.0.1:2", HTTP: "127.0.0.1:3", Ops: "127.0.0.1:4",
		HTTP01: 5002, ALPN: 5001, Tiers: 2, Given: func(string) bool { return false },
	}
	file, err := o.SetUp(t.Context(), time.Now, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args       []string
		want, fail string
	}{
		{[]string{"--reference", tok.Ref("k")}, "| lab, serial ", ""},
		{[]string{"--reference", tok.Ref("k"), "--login"}, "", "leave out --login"},
		{[]string{"--reference", strings.Replace(tok.Ref("k"), "lab", "none", 1)}, "", `it has label "lab"`},
		{nil, "", "give one with --reference"},
	} {
		var out bytes.Buffer
		doctor := doctorCommand()
		doctor.SetOut(&out)
		doctor.SetErr(io.Discard)
		doctor.SetArgs(append([]string{"token", "--config", file}, c.args...))
		err := doctor.ExecuteContext(t.Context())
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%v: %v: want %q", c.args, err, c.fail)
			}
			continue
		}
		if err != nil || !strings.Contains(out.String(), c.want) || !strings.HasPrefix(out.String(), "| token |") {
			t.Errorf("%v: %v\n%s", c.args, err, out.String())
		}
	}
}
