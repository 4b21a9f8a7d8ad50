package est

import (
	"testing"

	"github.com/privyseal/privyseal/internal/cmc/cmctest"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
)

// TestFS10_WhoseWordBlocksAKey: the holder's, and that of the registration
// authority that enrolled the certificate; of others it revokes alone.
func TestFS10_WhoseWordBlocksAKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, RAProfiles: []string{"ra"}})
	ra := &device{e: e, key: issuancetest.NewKey(t)}
	ra.cert = e.issue(t, "ra", newCSR(t, ra.key, "RA"))
	own := *e.withPassword(t, credential.NewESTUser{Name: "device"})
	own.enrol(t, "/simpleenroll", "own")
	own.user = ""
	foreign := *e.withPassword(t, credential.NewESTUser{Name: "device-2"})
	foreign.enrol(t, "/simpleenroll", "foreign")
	key := issuancetest.NewKey(t)
	byRA := &device{e: e, key: key}
	part := cmctest.CRMF(cmctest.RAVerified(crmfRequest(t, 3, key, "some device")))
	byRA.cert = ra.cmc(t, 200, signCMC(t, ra.cert, ra.key, cmctest.PKIData(nil, []cmctest.Part{part}))).certs[0]
	for name, c := range map[string]struct {
		by, of *device
		want   bool
	}{
		"holder": {&own, &own, true}, "who enrolled it": {ra, byRA, true}, "another": {ra, &foreign, false},
	} {
		request := cmctest.PKIData([]cmctest.Part{cmctest.RevokeRequest(5, c.of.cert, int64(pki.KeyCompromise))}, nil)
		c.by.cmc(t, 200, signCMC(t, c.by.cert, c.by.key, request)).wants(t, success(5))
		hash, err := pki.HashKey(c.of.cert.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.store.BlockedKey(t.Context(), hash); err != nil || got != c.want {
			t.Errorf("%s: blocked %t, %v; want %t", name, got, err, c.want)
		}
	}
}
