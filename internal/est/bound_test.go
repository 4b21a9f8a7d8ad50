package est

import (
	"net/http"
	"testing"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/cmc/cmctest"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

func withNames(names ...pki.Identifier) csrOption {
	return func(_ testing.TB, r *request) { r.names = append(r.names, names...) }
}

func withText(subject string) csrOption {
	return func(t testing.TB, r *request) {
		t.Helper()
		name, err := pki.ParseName(subject)
		if err != nil {
			t.Fatal(err)
		}
		if r.rawSubject, err = name.DER(); err != nil {
			t.Fatal(err)
		}
	}
}

// everyName is a profile that takes whatever the binding is to refuse.
func (e *env) everyName(t *testing.T, change func(*profile.Config)) {
	t.Helper()
	cfg := profile.BuiltIn()["device"]
	cfg.SAN.DNS.Wildcard, cfg.SAN.Email, cfg.SAN.UPN = true, &profile.Mailboxes{}, &profile.Mailboxes{}
	cfg.SAN.URI, cfg.Subject.Fields[0].Max = &profile.URIs{}, 2 // common names
	cfg.Subject.Fields = append(cfg.Subject.Fields, profile.Field{Attribute: "emailAddress"})
	if change != nil {
		change(&cfg)
	}
	p, err := profile.Compile("device", cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.ca.Change(func(r *issuance.Rules) { r.Profiles["device"] = p })
}

// escapes are requests by a user who is bound to device-7, *.seven.test and
// 10.7.0.0/16, with the reason of the refusal; empty for none.
func escapes() map[string]struct {
	csr    []csrOption
	reason string
} {
	id := func(kind pki.IdentifierType, value string) csrOption {
		return withNames(pki.Identifier{Type: kind, Value: value})
	}
	const name, subject = "est_user_wrong_name", "est_user_wrong_subject"
	type c = struct {
		csr    []csrOption
		reason string
	}
	return map[string]c{
		"its own":               {[]csrOption{withText("CN=Device-7"), withDNS("*.seven.test")}, ""},
		"its own address":       {[]csrOption{id(pki.IP, "10.7.0.1")}, ""},
		"another common name":   {[]csrOption{withText("CN=device-8")}, subject},
		"two common names":      {[]csrOption{withText("CN=dc1,CN=device-7")}, subject},
		"a common name alike":   {[]csrOption{withText("CN=ｄevice-7")}, subject},
		"a serial number":       {[]csrOption{withText("serialNumber=8,CN=device-7")}, subject},
		"a user id":             {[]csrOption{withText("UID=device-8")}, subject},
		"an organization":       {[]csrOption{withText("CN=device-7,O=Admins")}, subject},
		"a mailbox":             {[]csrOption{withText("CN=device-7,emailAddress=root@seven.test")}, subject},
		"another host":          {[]csrOption{withText("CN=device-7"), withDNS("device-7", "dc1")}, name},
		"a wildcard":            {[]csrOption{withDNS("*.test")}, name},
		"the host itself":       {[]csrOption{withDNS("seven.test")}, name},
		"another address":       {[]csrOption{id(pki.IP, "10.8.0.1")}, name},
		"a mailbox as SAN":      {[]csrOption{id(pki.Email, "device-7@seven.test")}, name},
		"a principal":           {[]csrOption{id(pki.UPN, "device-7@seven.test")}, name},
		"a URI":                 {[]csrOption{id(pki.URI, "https://device-7/")}, name},
		"a permanent name":      {[]csrOption{id(pki.PermanentID, "1.2.3/device-7")}, name},
		"a hardware module":     {[]csrOption{id(pki.HardwareID, "1.2.3/00")}, name},
		"an address as a CN":    {[]csrOption{withText("CN=10.8.0.1")}, subject},
		"a mapped address":      {[]csrOption{withText("CN=::ffff:10.7.1.1")}, subject},
		"a host with a dot":     {[]csrOption{withText("CN=device-7.")}, subject},
		"a name below a suffix": {[]csrOption{withDNS("device-7.evil.test")}, name},
	}
}

// TestFS6_User: a password is for the names that it is bound to, in every operation.
func TestFS6_User(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.everyName(t, nil)
	d := e.withPassword(t, credential.NewESTUser{
		Name: "device-7", Binding: pki.Binding{Names: []string{"device-7", "*.seven.test", "10.7.0.0/16"}},
	})
	for name, c := range escapes() {
		key := issuancetest.NewKey(t)
		csr := newCSR(t, key, "", c.csr...)
		message := signCMC(t, throwAway(t, key), key, cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(1, csr)}))
		if c.reason == "" {
			one(t, d.post(t, "/simpleenroll", csr))
			parts(t, d.post(t, "/serverkeygen", csr))
			d.cmc(t, http.StatusOK, message).wants(t, success(1))
			continue
		}
		for _, path := range []string{"/simpleenroll", "/serverkeygen"} {
			if r := d.post(t, path, csr); r.code != http.StatusForbidden {
				t.Errorf("%s: %s: %d %s", name, path, r.code, r.body)
			} else {
				refused(t, r, http.StatusForbidden, c.reason)
			}
		}
		if a := d.cmc(t, http.StatusForbidden, message); a.Statuses[0].Code == 0 || len(a.certs) > 0 {
			t.Errorf("%s: fullcmc: %+v", name, a.Statuses)
		}
	}
	key := issuancetest.NewKey(t)
	form := cmctest.PKIData(nil, []cmctest.Part{cmctest.CRMF(crmf(t, 1, key, "dc1"))})
	if a := d.cmc(t, http.StatusForbidden, signCMC(t, throwAway(t, key), key, form)); len(a.certs) > 0 {
		t.Error("a CRMF got what a PKCS#10 may not")
	}
}

// TestFS6_WhatIsSigned: what the profile fixes in a subject, or leaves out of it, is not
// held against the binding.
func TestFS6_WhatIsSigned(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.everyName(t, func(c *profile.Config) {
		c.Subject = profile.Subject{
			Fields: []profile.Field{{Attribute: "CN"}, {Attribute: "O", Fixed: "Example"}}, Others: "drop",
		}
	})
	for name, b := range map[string]pki.Binding{
		"names":   {Names: []string{"device-7"}},
		"subject": {Subject: "CN=device-7"},
		"asked":   {Subject: "CN=device-7,O=Example,C=CH"},
	} {
		d := e.withPassword(t, credential.NewESTUser{Name: name, Binding: b})
		csr := newCSR(t, issuancetest.NewKey(t), "", withText("CN=device-7,O=Example,C=CH"))
		cert := one(t, d.post(t, "/simpleenroll", csr))
		if cert.Subject.String() != "CN=device-7,O=Example" {
			t.Errorf("%s: %s", name, cert.Subject)
		}
		csr = newCSR(t, issuancetest.NewKey(t), "", withText("CN=device-8,O=Example,C=CH"))
		refused(t, d.post(t, "/simpleenroll", csr), 403, "est_user_wrong_subject")
	}
}

// TestFS6_Renewal: a renewal is asked by the power of the certificate, also where a
// password stands beside it.
func TestFS6_Renewal(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{
		Name: "est", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthBoth, OwnNames: NamesAny,
	})
	d := e.enrolled(t, "device-8")
	d.user = "u"
	d.password = e.addUser(t, credential.NewESTUser{Name: "u", Binding: pki.Binding{Names: []string{"device-7"}}})
	one(t, d.post(t, "/simplereenroll", newCSR(t, issuancetest.NewKey(t), "device-8")))
	refused(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "device-8")), 403, "est_user_wrong_subject")
}

// TestFS6_DecidedLater: what waits is held against the binding again when it is
// decided, because the profile may make other names of it by then.
func TestFS6_DecidedLater(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "u", Binding: pki.Binding{Subject: "CN=*"}})
	e.everyName(t, func(c *profile.Config) { c.Approval = true })
	csr := newCSR(t, issuancetest.NewKey(t), "dc1", withDNS("dc1"))
	refused(t, d.post(t, "/simpleenroll", csr), 403, "est_user_wrong_name")
	want(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "dc1")), http.StatusAccepted)
	all, err := e.approvals.List(t.Context(), store.RequestSearch{Status: store.RequestPending, Limit: 2})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d requests wait, %v", len(all), err)
	}
	e.everyName(t, func(c *profile.Config) { c.Approval, c.Subject.CommonNameInSAN = true, true })
	_, err = e.approvals.Approve(t.Context(), all[0].ID, approval.Actor{Name: "uid:1"})
	if !fault.Is(err, fault.RejectedIdentifier) || fault.Of(err).Reason != "est_user_wrong_name" {
		t.Errorf("approved: %v", err)
	}
}

// TestFS6_OldUser: one of before there were bindings goes on.
func TestFS6_OldUser(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "old", Binding: pki.Binding{AnyName: true, Old: true}})
	one(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "dc1", withDNS("dc1"))))
	if n, err := e.store.CountUnbound(t.Context(), e.now()); err != nil || n != (store.Unbound{ESTUsers: 1}) {
		t.Errorf("%+v, %v", n, err)
	}
}
