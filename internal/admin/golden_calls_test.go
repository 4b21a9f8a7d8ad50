package admin_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

func goldenCredentials(g *golden) {
	for _, of := range []struct{ create, list, disable, path, name, other, scope, profile, id string }{
		{"CreateEABKey", "ListEABKeys", "DisableEABKey", "/v1/eab/keys", "", "",
			`"names":["*.a.test"],"profiles":["tls-server"]`, `"profiles":["boredom"]`, "kid"},
		{"CreateESTUser", "ListESTUsers", "DisableESTUser", "/v1/est/users", `"name":"box-1",`, `"name":"box-2",`,
			`"names":["*.a.test"],"profile":"tls-server"`, `"profile":"boredom"`, "name"},
		{"CreateSCEPChallenge", "ListSCEPChallenges", "DisableSCEPChallenge", "/v1/scep/challenges", "", "",
			`"subject":"CN=box","profile":"tls-server"`, `"profile":"boredom"`, "id"},
	} {
		create := func(name, body string, keep ...string) { g.call(of.create, name, "POST", of.path, body, keep...) }
		bound := `"description":"team","endpoint":"eab","expires_at":"2099-01-02T03:04:05Z",` + of.scope + `}`
		create("bound", `{`+of.name+bound, of.id+"=made")
		create("another", `{`+of.other+bound) // EAB keys are listed in the order of random ids: two that look alike
		create("unknown endpoint", `{"endpoint":"nowhere"}`)
		create("unbound", `{`+strings.TrimSuffix(of.name, ",")+`}`)
		create("unknown profile", `{"any_name":true,`+of.name+of.profile+`}`)
		create("uses below zero", `{"any_name":true,`+of.name+`"max_uses":-1}`)
		create("expired", `{"any_name":true,`+of.name+`"expires_at":"2020-01-02T03:04:05Z"}`)
		g.call(of.list, "all", "GET", of.path, "")
		g.call(of.list, "first page", "GET", of.path+"?limit=1", "", "next=page")
		g.call(of.list, "next page", "GET", of.path+"?cursor=$page", "")
		g.call(of.list, "bad limit", "GET", of.path+"?limit=1001", "")
		create("without limit", `{"any_name":true,`+strings.ReplaceAll(of.name, "1", "3")+`"max_uses":0}`)
		g.call(of.disable, "disabled", "POST", of.path+"/$made/disable", "")
		g.call(of.disable, "again", "POST", of.path+"/$made/disable", "")
		g.call(of.disable, "unknown", "POST", of.path+"/nobody/disable", "")
	}
}

func goldenLists(t *testing.T, g *golden, s *admintest.Server) {
	t.Helper()
	g.call("PublishCRLs", "published", "POST", "/v1/crls/web-a-1/publish", `{"clock_was_wrong":true}`)
	g.call("PublishCRLs", "unknown", "POST", "/v1/crls/nobody/publish", `{}`)
	g.call("PublishCRLs", "key elsewhere", "POST", "/v1/crls/root/publish", `{}`)
	now := time.Now().Truncate(time.Second)
	list, err := x509.CreateRevocationList(nil, &x509.RevocationList{
		Number: big.NewInt(7), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: big.NewInt(0x4711), RevocationTime: now.Add(-time.Hour)},
		},
	}, s.Root, s.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	g.vars["list"] = quoted(t, string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})))
	g.call("ImportCRL", "new", "POST", "/v1/crls", `{"crl":$list}`)
	g.call("ImportCRL", "again", "POST", "/v1/crls", `{"crl":$list}`)
	g.call("ImportCRL", "neither PEM nor base64", "POST", "/v1/crls", `{"crl":"*"}`)
	g.call("ImportCRL", "not a list", "POST", "/v1/crls", `{"crl":"AAAA"}`)
	g.call("ListCRLs", "all", "GET", "/v1/crls", "")
	g.call("GetCRLs", "of an issuer", "GET", "/v1/crls/web-a-1", "")
	g.call("GetCRLs", "unknown", "GET", "/v1/crls/nobody", "")
	g.call("RecoverRevocations", "dry run", "POST", "/v1/crls/web-a-1/recover", `{"dry_run":true}`)
	g.call("RecoverRevocations", "recovered", "POST", "/v1/crls/web-a-1/recover", `{"holds":true}`)
	g.call("RecoverRevocations", "another CA's", "POST", "/v1/crls/web-a-1/recover", `{"crl":$list}`)
	g.call("RecoverRevocations", "bad form", "POST", "/v1/crls/web-a-1/recover", `{"crl":"*"}`)
	g.call("RecoverRevocations", "unknown", "POST", "/v1/crls/nobody/recover", `{}`)
}

// signed is a CA certificate in PEM for the request that was kept as csr, below the
// root, with the root's.
func signed(t *testing.T, g *golden, s *admintest.Server) string {
	t.Helper()
	block, _ := pem.Decode([]byte(g.vars["csr"]))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	cert := pkitest.Certify(t, &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), RawSubject: csr.RawSubject, NotBefore: now, NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		CRLDistributionPoints: []string{"http://ca.test/crl/root.crl"},
	}, s.Root, csr.PublicKey, s.RootKey)
	return quoted(t, string(pki.EncodeChain(cert.Raw, s.Root.Raw)))
}

func goldenIssuers(t *testing.T, g *golden, s *admintest.Server) {
	t.Helper()
	dir := t.TempDir()
	g.dirs = append(g.dirs, dir)
	declare := func(id string) ca.Declaration {
		return ca.Declaration{
			ID: id, Key: keys.Ref("file:" + filepath.Join(dir, id+".key")), Subject: "CN=" + id,
			Secret: func() ([]byte, error) { return []byte("a passphrase"), nil },
		}
	}
	s.Declared = []ca.Declaration{{ID: "root", Offline: true}, declare("new"), declare("moved")}
	post := func(operation, name, id, act, body string, keep ...string) {
		g.call(operation, name, "POST", "/v1/issuers/"+id+"/"+act, body, keep...)
	}
	post("CreateIssuerCSR", "made", "new", "csr", `{}`, "csr=csr")
	post("CreateIssuerCSR", "once more", "new", "csr", `{"subject":"CN=new","algorithm":"ec-p256"}`)
	post("CreateIssuerCSR", "again", "new", "csr", `{"again":true}`, "csr=csr")
	post("CreateIssuerCSR", "another algorithm", "new", "csr", `{"algorithm":"rsa-3072"}`)
	post("CreateIssuerCSR", "key elsewhere", "root", "csr", `{}`)
	post("CreateIssuerCSR", "undeclared", "nobody", "csr", `{}`)
	g.vars["chain"] = signed(t, g, s)
	post("InstallIssuer", "no transcript", "new", "certificate", `{"certificate":$chain}`)
	post("InstallIssuer", "not PEM", "new", "certificate", `{"certificate":"x"}`)
	post("InstallIssuer", "undeclared", "nobody", "certificate", `{"certificate":$chain}`)
	post("InstallIssuer", "installed", "new", "certificate", `{"certificate":$chain,"no_transcript":true}`)
	post("InstallIssuer", "again", "new", "certificate", `{"certificate":$chain,"no_transcript":true}`)

	post("CreateIssuerCSR", "one that moves", "moved", "csr", `{}`, "csr=csr")
	g.vars["chain"] = signed(t, g, s)
	record := `{"certificate":$chain,"records":[{"serial":"1001","subject":"CN=lost","not_after":"2099-01-02T03:04:05Z",
		"revocation":{"reason":"superseded","revoked_at":"2026-01-02T03:04:05Z"}}]}`
	post("ImportRecords", "entered", "moved", "records", record)
	post("ImportRecords", "again", "moved", "records", record)
	post("ImportRecords", "no end", "moved", "records", `{"certificate":$chain,"records":[{"serial":"1002"}]}`)
	post("ImportRecords", "bad serial", "moved", "records", `{"certificate":$chain,"records":[{"serial":"xyz"}]}`)
	post("ImportRecords", "in force", "new", "records", record)
	post("ImportRecords", "undeclared", "nobody", "records", record)
	post("AdoptIssuer", "not a key", "moved", "adopt",
		`{"certificate":$chain,"private_key":"hunter2","passphrase":"hunter2"}`)
	post("AdoptIssuer", "bad number", "moved", "adopt", `{"certificate":$chain,"last_crl_number":"many"}`)
	post("AdoptIssuer", "undeclared", "nobody", "adopt", `{"certificate":$chain}`)
	post("AdoptIssuer", "adopted", "moved", "adopt", `{"certificate":$chain,"last_crl_number":"41","crl_shards":2}`)
	post("AdoptIssuer", "again", "moved", "adopt", `{"certificate":$chain,"last_crl_number":"41","crl_shards":2}`)
	g.call("ListIssuers", "all", "GET", "/v1/issuers", "")
	g.call("GetHierarchy", "all", "GET", "/v1/hierarchy", "")
	g.call("ExportHierarchy", "of an issuer", "GET", "/v1/hierarchy/moved/export", "")
	g.call("ExportHierarchy", "unknown", "GET", "/v1/hierarchy/nobody/export", "")
	g.vars["hierarchy"] = quoted(t,
		"name: n\ncas:\n  - {id: r, subject: 'CN=R,O=E'}\n  - {id: a, parent: r, subject: 'CN=A,O=E'}\n")
	g.call("PlanHierarchy", "plan", "POST", "/v1/hierarchy/plan", `{"hierarchy":$hierarchy}`)
	g.call("PlanHierarchy", "not YAML", "POST", "/v1/hierarchy/plan", `{"hierarchy":":"}`)
	g.call("RemoveIssuer", "used", "DELETE", "/v1/issuers/web-a-1", "")
	g.call("RemoveIssuer", "removed", "DELETE", "/v1/issuers/new", "")
	g.call("RemoveIssuer", "unknown", "DELETE", "/v1/issuers/nobody", "")
}

func goldenSystem(g *golden, s *admintest.Server) {
	g.call("GetVersion", "version", "GET", "/v1/version", "")
	g.call("GetVersion", "another method", "POST", "/v1/version", "{}")
	g.call("GetVersion", "another path", "GET", "/v2/version", "")
	g.call("GetHealth", "ready", "GET", "/v1/health", "")
	s.NotReady.Store(true)
	g.call("GetHealth", "not ready", "GET", "/v1/health", "")
	g.call("ResealSecrets", "dry run", "POST", "/v1/secrets/reseal", `{"dry_run":true}`, "next=rest")
	g.call("ResealSecrets", "the rest", "POST", "/v1/secrets/reseal", `{"cursor":"$rest"}`)
	g.call("ResealSecrets", "bad cursor", "POST", "/v1/secrets/reseal", `{"cursor":"*"}`)
	g.call("ReloadConfig", "reloaded", "POST", "/v1/config/reload", "")
	refusal := errors.New(`privyseal.yaml:7:3: unknown key "profle"`)
	s.ReloadErr.Store(&refusal)
	g.call("ReloadConfig", "refused", "POST", "/v1/config/reload", "")
	g.call("ListAuditEvents", "all", "GET", "/v1/audit/events", "")
	g.call("ListAuditEvents", "first page", "GET", "/v1/audit/events?limit=1", "", "next=events")
	g.call("ListAuditEvents", "next page", "GET", "/v1/audit/events?cursor=$events&limit=1", "")
	g.call("ListAuditEvents", "bad cursor", "GET", "/v1/audit/events?cursor=*", "")
	g.call("ListAuditEvents", "bad limit", "GET", "/v1/audit/events?limit=-1", "")
	for _, at := range [][2]string{{"unknown, no issuer", ""}, {"unknown", "?issuer=web-a-1"}, {"unknown, key elsewhere", "?issuer=root"}} {
		g.call("RevokeCertificate", at[0], "POST", "/v1/certificates/4711aa4711aa4711aa/revoke"+at[1], `{"unknown":true,"reason":"keyCompromise"}`)
	}
	g.call("AcceptAudit", "no reason", "POST", "/v1/audit/accept", `{"reason":" "}`)
	g.call("AcceptAudit", "accepted", "POST", "/v1/audit/accept", `{"reason":"a new host"}`)
	g.call("AcceptAudit", "nothing is wrong", "POST", "/v1/audit/accept", `{"reason":"again"}`)
}

func goldenAccess(g *golden) {
	g.call("WhoAmI", "local", "GET", "/v1/whoami", "")
	grant := `{"subject":"uid:4000000000","role":"operator","scope":{"cas":["root"],"names":["*.a.test"]},"reason":"team"}`
	g.call("CreateGrant", "made", "POST", "/v1/access/grants", grant, "id=grant")
	g.call("CreateGrant", "no such role", "POST", "/v1/access/grants", strings.Replace(grant, "operator", "king", 1))
	g.call("CreateGrant", "no reason", "POST", "/v1/access/grants", strings.Replace(grant, "team", "", 1))
	g.call("CreateGrant", "no scope", "POST", "/v1/access/grants", `{"subject":"uid:1","role":"admin","scope":{},"reason":"x"}`)
	g.call("CreateGrant", "a name", "POST", "/v1/access/grants", strings.Replace(grant, "uid:4000000000", "ada", 1))
	can := "/v1/access/can?subject=uid:4000000000&permission="
	g.call("CanAccess", "yes", "GET", can+"cert.issue&issuer=web-a-1&name=x.a.test", "")
	g.call("CanAccess", "another name", "GET", can+"cert.issue&issuer=web-a-1&name=x.b.test", "")
	g.call("CanAccess", "everything", "GET", can+"cert.issue", "")
	g.call("CanAccess", "no such permission", "GET", can+"cert.eat", "")
	g.call("LinkLogin", "a new person", "POST", "/v1/access/logins", `{"subject":"uid:4000000000","name":"Ada"}`, "id=ada")
	g.call("LinkLogin", "unknown person", "POST", "/v1/access/logins", `{"subject":"uid:4000000000","person":"x"}`)
	token := `{"service":"ci","role":"requester","scope":{"all":true},"expires_at":"2099-01-02T03:04:05Z"}`
	g.call("CreateToken", "too long", "POST", "/v1/access/tokens", token)
	g.call("RevokeToken", "unknown", "POST", "/v1/access/tokens/x/revoke", "")
	offboard := "/v1/access/people/$ada/offboard"
	g.call("OffboardPerson", "only looks", "POST", offboard, `{"dry_run":true,"reason":"left"}`)
	g.call("OffboardPerson", "no reason", "POST", offboard, `{}`)
	g.call("OffboardPerson", "unknown", "POST", "/v1/access/people/x/offboard", `{"reason":"left"}`)
	g.call("EndSession", "unknown", "POST", "/v1/access/sessions/x/end", "")
	g.call("CreateBlock", "made", "POST", "/v1/access/blocks", `{"subject":"uid:4000000001","reason":"left"}`)
	g.call("ListAccess", "all", "GET", "/v1/access", "")
	g.call("RemoveBlock", "removed", "POST", "/v1/access/blocks/remove", `{"subject":"uid:4000000001"}`)
	g.call("RemoveBlock", "again", "POST", "/v1/access/blocks/remove", `{"subject":"uid:4000000001"}`)
	g.call("RevokeGrant", "revoked", "POST", "/v1/access/grants/$grant/revoke", "")
	g.call("RevokeGrant", "unknown", "POST", "/v1/access/grants/x/revoke", "")
	g.call("OffboardPerson", "done", "POST", offboard, `{"reason":"left"}`)
	g.call("AcceptAccess", "no reason", "POST", "/v1/access/accept", `{"reason":" "}`)
	g.call("AcceptAccess", "accepted", "POST", "/v1/access/accept", `{"reason":"looked at each"}`)
}
