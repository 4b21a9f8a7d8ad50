package scep

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
)

// TestFR20_ChallengesOnRecord: where the secret that all devices share was guessed at
// too often from an address, under whatever names, it is not compared, whether right or
// wrong; a challenge that was made here still enrols.
func TestFR20_ChallengesOnRecord(t *testing.T) {
	t.Parallel()
	bounds := limit.Defaults()
	bounds.WrongSecretsBySource = limit.Rate{Count: 3, Per: time.Hour}
	e := newLimitedEnv(t, bounds)
	_, made, err := e.challenges.Create(t.Context(), credential.NewSCEPChallenge{Binding: pki.Binding{AnyName: true}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(n int, name, secret string) *httptest.ResponseRecorder {
		d := newDevice(t, n)
		return e.post(d.wrap(t, e, message{typ: "19", transaction: name, content: d.csr(t, name, secret)}))
	}
	for n := range 4 {
		ask(0, fmt.Sprint("guesser-", n), "guess")
	}
	for i, secret := range []string{testSecret, "guess"} {
		if w := ask(1, fmt.Sprint("honest-", i), secret); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", secret, w.Code)
		}
	}
	if w := ask(2, "router", made); w.Code != http.StatusOK {
		t.Errorf("a challenge on record: %d", w.Code)
	}
	e.sleep(20 * time.Minute)
	newDevice(t, 1).enrol(t, e, "honest-0")
}
