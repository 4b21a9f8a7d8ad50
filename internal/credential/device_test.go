package credential_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// devices are the credentials of devices, with a clock that a test moves.
type devices struct {
	est   *credential.ESTUsers
	scep  *credential.SCEPChallenges
	limit *limit.Limiter
	ahead atomic.Int64
}

func (d *devices) now() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) }

func newDevices(t *testing.T, st *store.Store) *devices {
	t.Helper()
	d := &devices{}
	var err error
	if d.limit, err = limit.New(limit.Defaults(), st, d.now); err != nil {
		t.Fatal(err)
	}
	d.est, d.scep = credential.NewESTUsers(st, d.limit, d.now), credential.NewSCEPChallenges(st, d.limit, d.now)
	return d
}

var anyName = pki.Binding{AnyName: true}

func here(source string) credential.Attempt {
	return credential.Attempt{Source: source, Endpoint: "devices", Profiles: []string{"device"}}
}

func refused(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	if !fault.Is(err, kind) || fault.Of(err).Reason != reason {
		t.Errorf("got %v, want %s because %q", err, kind, reason)
	}
}

func TestESTUsers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, d := t.Context(), newDevices(t, st)
		user, password, err := d.est.Create(ctx, credential.NewESTUser{
			Name: "device-7", Profile: "device", Binding: anyName, MaxUses: 1, ExpiresAt: d.now().Add(24 * time.Hour),
		})
		if err != nil || !regexp.MustCompile(`^[a-km-z2-9]{26}$`).MatchString(password) || string(user.Digest) == password {
			t.Fatalf("%q, %v", password, err)
		}
		p, err := d.est.Check(ctx, here("192.0.2.1"), "device-7", password)
		if err != nil || p.Identity != "est_user:device-7" || p.Profile != "device" || p.Spent != nil || len(p.Claims) != 1 ||
			string(p.Evidence) != `{"credential":"device-7","method":"est_password"}` {
			t.Fatalf("%+v, %v", p, err)
		}
		_, err = d.est.Check(ctx, here("192.0.2.1"), "device-7", password+"x")
		refused(t, err, fault.Unauthenticated, "est_user_wrong")
		_, err = d.est.Check(ctx, here("192.0.2.1"), "device-8", password)
		refused(t, err, fault.Unauthenticated, "est_user_wrong")
		_, err = d.est.Check(ctx, here("192.0.2.1"), "nobody", "")
		refused(t, err, fault.Unauthenticated, "est_user_wrong")
		_, err = d.est.Check(ctx, credential.Attempt{Source: "s", Endpoint: "devices", Profiles: []string{"user"}}, "device-7", password)
		refused(t, err, fault.Denied, "est_user_wrong_profile")

		// Used up and expired: right, but good for nothing new.
		use(t, st, p.Claims, 1)
		if p, err = d.est.Check(ctx, here("192.0.2.1"), "device-7", password); err != nil {
			t.Fatal(err)
		}
		refused(t, p.Spent, fault.Denied, "est_user_used_up")
		d.ahead.Store(int64(25 * time.Hour))
		if p, err = d.est.Check(ctx, here("192.0.2.1"), "device-7", password); err != nil {
			t.Fatal(err)
		}
		refused(t, p.Spent, fault.Denied, "est_user_expired")
		if _, err := d.est.Disable(ctx, "device-7", "uid:0", "r"); err != nil {
			t.Fatal(err)
		}
		_, err = d.est.Check(ctx, here("192.0.2.1"), "device-7", password)
		refused(t, err, fault.Denied, "est_user_disabled")
		if again, err := d.est.Disable(ctx, "device-7", "uid:0", "r"); err != nil || again.DisabledAt == nil {
			t.Errorf("%+v, %v", again, err)
		}

		_, password, err = d.est.Create(ctx, credential.NewESTUser{
			Name: "bound", Endpoint: "elsewhere", Binding: anyName,
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.est.Check(ctx, here("192.0.2.1"), "bound", password)
		refused(t, err, fault.Denied, "est_user_wrong_endpoint")
		for reason, n := range map[string]credential.NewESTUser{
			"est_user_name":   {Name: "a:b"},
			"est_user_uses":   {Name: "a", MaxUses: -1},
			"est_user_expiry": {Name: "a", ExpiresAt: d.now().Add(-time.Hour)},
		} {
			_, _, err := d.est.Create(ctx, n)
			refused(t, err, fault.Malformed, reason)
		}
	})
}

func subjectCSR(t *testing.T, cn string) *pki.CSR {
	t.Helper()
	block, _ := pem.Decode([]byte(admintest.CSROf(t, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: cn, Organization: []string{"Example"}},
	})))
	csr, err := pki.ParseCSR(t.Context(), block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// use reserves n certificates that take the claims.
func use(t *testing.T, st *store.Store, claims []store.Claim, n int) (won int) {
	t.Helper()
	var wins atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			c := store.Certificate{
				ID: store.NewID(), IssuerID: "ca", Serial: pki.NewSerial(), Origin: "request:" + store.NewID(), KeyHash: []byte{1},
				NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), ReservedAt: time.Now(),
			}
			err := st.Reserve(t.Context(), c, claims, store.Event{At: time.Now(), Action: "certificate.intent"})
			if err == nil {
				wins.Add(1)
			} else if !fault.Is(err, fault.Denied) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return int(wins.Load())
}

func TestSCEP_S21_OneTimeChallengeHasOneWinner(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, d := t.Context(), newDevices(t, st)
		c, secret, err := d.scep.Create(ctx, credential.NewSCEPChallenge{
			Profile: "device", Binding: pki.Binding{Subject: "CN=router-7,O=Example"}, MaxUses: 1,
			ExpiresAt: d.now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := d.scep.Check(ctx, here("s"), secret)
		if err != nil || p.Identity != "scep_challenge:"+c.ID || p.Spent != nil {
			t.Fatalf("%+v, %v", p, err)
		}
		refused(t, p.Bound.Check("device", &pki.Name{}, nil), fault.Denied, "scep_challenge_wrong_subject")
		for _, wrong := range []string{secret + " ", c.ID} {
			_, err = d.scep.Check(ctx, here("s"), wrong)
			refused(t, err, fault.Unauthenticated, "scep_challenge_wrong")
		}
		for range 2 * limit.Defaults().WrongSecrets.Count { // no guess
			_, err = d.scep.Check(ctx, here("s"), "")
			refused(t, err, fault.Unauthenticated, "scep_challenge_missing")
		}
		if won := use(t, st, p.Claims, 16); won != 1 {
			t.Errorf("%d certificates for one use", won)
		}
		if p, err = d.scep.Check(ctx, here("s"), secret); err != nil {
			t.Fatal(err)
		}
		refused(t, p.Spent, fault.Denied, "scep_challenge_used_up")
		if _, err := d.scep.Disable(ctx, c.ID, "uid:0", "r"); err != nil {
			t.Fatal(err)
		}
		_, err = d.scep.Check(ctx, here("s"), secret)
		refused(t, err, fault.Denied, "scep_challenge_disabled")

		// Static: many uses, any subject.
		_, secret, err = d.scep.Create(ctx, credential.NewSCEPChallenge{Binding: anyName})
		if err != nil {
			t.Fatal(err)
		}
		if p, err = d.scep.Check(ctx, here("s"), secret); err != nil {
			t.Fatal(err)
		}
		if won := use(t, st, p.Claims, 8); won != 8 {
			t.Errorf("%d of 8 uses without a limit", won)
		}
	})
}

// S28: ten wrong secrets of a source at an endpoint lock it out there; a right
// secret does not help it, and others are not hurt.
func TestSCEP_S28_GuessersAreLockedOut(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, d := t.Context(), newDevices(t, st)
		_, secret, err := d.scep.Create(ctx, credential.NewSCEPChallenge{Binding: anyName})
		if err != nil {
			t.Fatal(err)
		}
		_, password, err := d.est.Create(ctx, credential.NewESTUser{Name: "device-7", Binding: anyName})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 10 {
			if n%2 == 0 {
				_, err = d.scep.Check(ctx, here("192.0.2.9"), "guess")
			} else {
				_, err = d.est.Check(ctx, here("192.0.2.9"), "device-7", "guess")
			}
			if !fault.Is(err, fault.Unauthenticated) {
				t.Fatalf("guess %d: %v", n, err)
			}
		}
		_, err = d.scep.Check(ctx, here("192.0.2.9"), secret)
		if !fault.Is(err, fault.RateLimited) || fault.Of(err).RetryAfter <= 0 {
			t.Errorf("a right challenge after ten wrong ones: %v", err)
		}
		_, err = d.est.Check(ctx, here("192.0.2.9"), "device-7", password)
		refused(t, err, fault.RateLimited, "")
		if _, err = d.scep.Check(ctx, here("192.0.2.10"), secret); err != nil {
			t.Errorf("another source: %v", err)
		}
		elsewhere := here("192.0.2.9")
		elsewhere.Endpoint = "others"
		if _, err = d.scep.Check(ctx, elsewhere, secret); err != nil {
			t.Errorf("another endpoint: %v", err)
		}
		d.ahead.Store(int64(10 * time.Minute))
		if _, err = d.scep.Check(ctx, here("192.0.2.9"), secret); err != nil {
			t.Errorf("ten minutes later: %v", err)
		}
	})
}

// TestFS6_WhatIsKept: a binding comes back as it was made, on both engines; what is
// older than bindings comes back as that, with what its columns say, and is counted
// for as long as it is of use.
func TestFS6_WhatIsKept(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, d, now := t.Context(), newDevices(t, st), time.Now()
		ev := store.Event{At: now, Action: "x"}
		bound := pki.Binding{Subject: "CN=router-7", Names: []string{"*.a.test", "CN=*"}}
		kept := func(got, want pki.Binding, err error) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v, (-want +got):\n%s", err, diff)
			}
		}
		user, _, err := d.est.Create(ctx, credential.NewESTUser{Name: "new", Binding: bound})
		must(t, err)
		user, err = st.ESTUser(ctx, user.Name)
		kept(user.Binding, bound, err)
		old := pki.Binding{AnyName: true, Old: true}
		must(t, st.CreateESTUser(ctx, store.ESTUser{Name: "old", Digest: []byte{1}, Binding: old, CreatedAt: now}, ev))
		user, err = st.ESTUser(ctx, "old")
		kept(user.Binding, old, err)
		past := now.Add(-time.Hour)
		must(t, st.CreateESTUser(ctx, store.ESTUser{
			Name: "past", Digest: []byte{1}, Binding: old, CreatedAt: now, ExpiresAt: &past,
		}, ev))

		named := pki.Binding{Subject: "CN=a", AnyName: true, Old: true}
		must(t, st.CreateSCEPChallenge(ctx, store.SCEPChallenge{
			ID: "c", Digest: []byte{1}, Binding: named, CreatedAt: now,
		}, ev))
		challenge, err := st.SCEPChallenge(ctx, "c")
		kept(challenge.Binding, named, err)

		must(t, st.CreateEAB(ctx, store.EABKey{
			KID: "old", HMAC: []byte{1}, Binding: old, CreatedAt: now, MaxUses: 1, Uses: 1,
		}, ev))
		key, err := st.EAB(ctx, "old")
		kept(key.Binding, old, err)
		names := pki.Binding{Names: []string{"a.test"}}
		withNames := pki.Binding{Names: names.Names, Old: true} // as an earlier release wrote it
		must(t, st.CreateEAB(ctx, store.EABKey{KID: "names", HMAC: []byte{1}, Binding: withNames, CreatedAt: now}, ev))
		key, err = st.EAB(ctx, "names")
		kept(key.Binding, names, err)
		n, err := st.CountUnbound(ctx, now)
		if want := (store.Unbound{ESTUsers: 1, SCEPChallenges: 1, EABKeys: 1}); err != nil || n != want {
			t.Errorf("%+v, %v", n, err)
		}
	})
}

// TestFS6_NewOnesSayForWhat: no credential is made that says nothing of names.
func TestFS6_NewOnesSayForWhat(t *testing.T) {
	t.Parallel()
	ctx, d := t.Context(), newDevices(t, storetest.SQLite(t))
	for part, b := range map[string]pki.Binding{
		"unbound": {}, "any_name": {AnyName: true, Names: []string{"a.test"}}, "subject": {Subject: "a.test"},
		"name_pattern": {Names: []string{"10.0.0.1/8"}}, "scope": {Names: make([]string, 300)},
	} {
		_, _, err := d.est.Create(ctx, credential.NewESTUser{Name: "u", Binding: b})
		refused(t, err, fault.Malformed, "est_user_"+part)
		_, _, err = d.scep.Create(ctx, credential.NewSCEPChallenge{Binding: b})
		refused(t, err, fault.Malformed, "scep_challenge_"+part)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
