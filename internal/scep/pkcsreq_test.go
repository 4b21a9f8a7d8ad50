package scep

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
)

// off turns off renewal by PKCSReq.
func off(ep *Endpoint) { ep.RenewByPKCSReq = new(bool) }

// TestFR2_RenewByPKCSReq: a PKCSReq that is signed by a valid certificate of ours
// renews it, without a challenge and as RenewalReq does.
func TestFR2_RenewByPKCSReq(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d, next := newDevice(t, 0).enrol(t, e, "dev-1"), newDevice(t, 1)
	send := func(d *device, tx string, csr []byte) rep {
		return d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: tx, content: csr})))
	}
	if r := send(d, "renew", next.csr(t, "dev-1", "")); r.status != pkiSuccess || !next.key.PublicKey.Equal(r.certs[0].PublicKey) {
		t.Errorf("%+v", r)
	}
	if r := send(d, "other", next.csr(t, "dev-2", testSecret)); r.status != pkiSuccess {
		t.Errorf("other names by a challenge: %+v", r)
	}
	wantFail(t, send(d, "names", next.csr(t, "dev-2", "")), badRequest, "subject_differs")
	wantFail(t, send(newDevice(t, 2), "stranger", newDevice(t, 2).csr(t, "dev-1", "")), badRequest, "scep_challenge_missing")
	err := e.pipeline.Revoke(t.Context(), issuance.Revocation{IssuerID: "ca", Serial: pki.SerialFromBig(d.cert.SerialNumber), Requester: "test"})
	if err != nil {
		t.Fatal(err)
	}
	wantFail(t, send(d, "revoked", next.csr(t, "dev-1", "")), badRequest, "certificate_revoked")
	got := e.cause(t, d.wrap(t, e, message{typ: "19", transaction: "both", content: next.csr(t, "dev-1", "guess")}))
	if !strings.Contains(got, "challenge is wrong") || !strings.Contains(got, "revoked") {
		t.Errorf("the log has %q", got)
	}
}

// TestFR2_TurnedOff: the refusal says so, to a client without a challenge and, in
// the log, of a wrong one.
func TestFR2_TurnedOff(t *testing.T) {
	t.Parallel()
	e := newEnv(t, off)
	d := newDevice(t, 0).enrol(t, e, "dev-1")
	bare := d.wrap(t, e, message{typ: "19", transaction: "a", content: d.csr(t, "dev-1", "")})
	wantFail(t, d.read(t, e.post(bare)), badRequest, "renew_by_pkcsreq_off")
	guess := d.wrap(t, e, message{typ: "19", transaction: "b", content: d.csr(t, "dev-1", "guess")})
	wantFail(t, d.read(t, e.post(guess)), badRequest, "scep_challenge_wrong")
	for _, der := range [][]byte{bare, guess} {
		if got := e.cause(t, der); !strings.Contains(got, "renew_by_pkcsreq is off") {
			t.Errorf("the log has %q", got)
		}
	}
	if r := d.read(t, e.post(d.wrap(t, e, message{typ: "17", transaction: "c", content: d.csr(t, "dev-1", "")}))); r.status != pkiSuccess {
		t.Errorf("RenewalReq: %+v", r)
	}
}

// TestFR2_NothingPresentedIsNoGuess, and locks out nobody.
func TestFR2_NothingPresentedIsNoGuess(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Endpoint){"on": func(*Endpoint) {}, "off": off, "no secret": func(ep *Endpoint) { ep.Secret = "" }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, change)
			d := newDevice(t, 0)
			for i := range 12 {
				der := d.wrap(t, e, message{typ: "19", transaction: strconv.Itoa(i), content: d.csr(t, "dev", "")})
				wantFail(t, d.read(t, e.post(der)), badRequest, "scep_challenge_missing")
			}
			w := e.post(d.wrap(t, e, message{typ: "19", transaction: "right", content: d.csr(t, "dev", testSecret)}))
			if w.Code != http.StatusOK || name != "no secret" && d.read(t, w).status != pkiSuccess {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}
