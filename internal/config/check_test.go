package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

func TestDevConfigurationIsGood(t *testing.T) {
	t.Parallel()
	cfg, err := Load(newLab(t).file())
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Digest()) != 16 {
		t.Errorf("digest %q", cfg.Digest())
	}
}

// TestCheck changes one thing of a good configuration and reads what check says
// about it.
func TestCheck(t *testing.T) {
	t.Parallel()
	noModule, noModuleFile := "no PKCS#11 module is named", "/gone.so: no such file"
	if err := keys.Ref("pkcs11:token=ca;object=x").Available("/gone.so"); strings.Contains(err.Error(), "CGO_ENABLED") {
		noModule, noModuleFile = "CGO_ENABLED=1", "CGO_ENABLED=1"
	}
	for name, tc := range map[string]struct{ from, to, key, what string }{
		"no https URL":             {"  https: https://localhost", "  #", "public_urls.https", "required"},
		"path in URL":              {"  http: http://localhost", "  http: http://localhost/x", "public_urls.http", "nothing after it"},
		"wrong scheme":             {"  https: https://", "  https: http://", "public_urls.https", "want https://"},
		"no database":              {"url: sqlite:privyseal.db", "url: ''", "database.url", "required"},
		"unknown database":         {"url: sqlite:privyseal.db", "url: mysql://x", "database.url", "want sqlite:PATH"},
		"password in the URL":      {"url: sqlite:privyseal.db", "url: postgres://u:hunter2@h/d", "database.url", "by reference"},
		"password as parameter":    {"url: sqlite:privyseal.db", "url: postgres://u@h/d?password=hunter2", "database.url", "by reference"},
		"database of systemd":      {"url: sqlite:privyseal.db", "url: credential:a/b", "database.url", "which has no / and no colon"},
		"database by reference":    {"url: sqlite:privyseal.db", "url: env:NO_SUCH_VARIABLE", "database.url", "secret env:NO_SUCH_VARIABLE: the variable is not set"},
		"missing secret":           {"file:secrets/kek", "file:secrets/gone", "key_encryption", "secret file:secrets/gone: no such file"},
		"secret itself":            {"file:secrets/kek", "hunter2", "key_encryption", "want a reference"},
		"no key-encryption key":    {"file:secrets/kek", "file:secrets/audit", "key_encryption", "line 1: want 32 bytes in base64"},
		"no secret":                {"key_encryption: file:secrets/kek", "key_encryption: ''", "key_encryption", "required"},
		"missing key":              {"file:keys/dev-a-1.key", "file:keys/gone.key", "issuers[0].key", "no such file"},
		"token without module":     {"file:keys/dev-a-1.key", "pkcs11:token=ca;object=x", "issuers[0].key", noModule},
		"module that is missing":   {"file:keys/dev-a-1.key", "pkcs11:token=ca;object=x?module-path=/gone.so", "issuers[0].key", noModuleFile},
		"PIN in the reference":     {"file:keys/dev-a-1.key", "pkcs11:token=ca;object=x?pin-value=1234", "issuers[0].key", "does not belong in a reference"},
		"token without PIN":        {"    key: file:keys/dev-a-1.key\n    passphrase: file:secrets/issuer", "    key: pkcs11:token=ca;object=x\n    passphrase: ''", "issuers[0].passphrase", "required"},
		"unknown kind of key":      {"file:keys/dev-a-1.key", "vault:x", "issuers[0].key", "want file:PATH"},
		"missing passphrase":       {"passphrase: file:secrets/issuer", "passphrase: ''", "issuers[0].passphrase", "required"},
		"missing certificate":      {"certificate: chain.pem", "certificate: gone.pem", "issuers[0].certificate", "no such file"},
		"root as issuer":           {"certificate: chain.pem", "certificate: root.pem", "issuers[0].certificate", "a root does not sign"},
		"bad issuer id":            {"- id: dev-a-1", "- id: Dev A", "issuers[0].id", "lower-case"},
		"two of one name":          {"- id: dev-root", "- id: dev-a-1", "offline[0].id", "defined twice"},
		"missing list":             {"crl: root.crl", "crl: gone.crl", "offline[0].crl", "no such file"},
		"list that is none":        {"crl: root.crl", "crl: root.pem", "offline[0].crl", "want X509 CRL"},
		"pool of an issuer's name": {"    certificate: chain.pem\n", "    certificate: chain.pem\n    pool: dev-a-1\n", "issuers[0].pool", "is the id of an issuer"},
		"bad pool name":            {"    certificate: chain.pem\n", "    certificate: chain.pem\n    pool: A B\n", "issuers[0].pool", "lower-case"},
		"member instead of pool":   {"    certificate: chain.pem\n", "    certificate: chain.pem\n    pool: web\n", "endpoints[0].issuer", "want one of web"},
		"succeeds nobody":          {"    certificate: chain.pem\n", "    certificate: chain.pem\n    succeeds: dev-a-0\n", "issuers[0].succeeds", "there is none"},
		"succeeds itself":          {"    certificate: chain.pem\n", "    certificate: chain.pem\n    succeeds: dev-a-1\n", "issuers[0].succeeds", "there is none"},
		"no cross-certificate":     {"    certificate: chain.pem\n", "    certificate: chain.pem\n    chains: [gone.pem]\n", "issuers[0].chains[0]", "no such file"},
		"responder key in a file":  {"    certificate: chain.pem\n", "    certificate: chain.pem\n    ocsp: {key: 'file:x', passphrase: 'file:secrets/issuer'}\n", "issuers[0].ocsp.key", "want pkcs11:"},
		"responder without PIN":    {"    certificate: chain.pem\n", "    certificate: chain.pem\n    ocsp: {key: 'pkcs11:token=ca;object=x'}\n", "issuers[0].ocsp.passphrase", "required"},
		"RA key in a file":         {"      path: default\n", "      path: default\n      ra_key_ref: file:x\n", "endpoints[3].scep.ra_key_ref", "want pkcs11:"},
		"two RA keys in a token":   {"      path: default\n", "      path: default\n      ra_key_ref: pkcs11:token=ca;object=x\n      separate_ra_keys: true\n", "endpoints[3].scep.separate_ra_keys", "leave it out"},
		"cipher that is none":      {"triple_des: true\n      sha1: true\n      single_des: true\n", "ciphers: [aes-ecb]\n", "endpoints[3].scep.ciphers", "want some of aes-gcm"},
		"ciphers and old ones":     {"      path: default\n", "      path: default\n      ciphers: [aes-gcm]\n", "endpoints[3].scep.ciphers", "leave out triple_des"},
		"CA profile":               {"- tls-server\n", "- issuing-ca\n", "endpoints[0].profiles[0]", "makes CAs"},
		"unknown issuer":           {"issuer: dev-a-1\n    profiles", "issuer: dev-b-1\n    profiles", "endpoints[0].issuer", `did you mean "dev-a-1"?`},
		"unknown profile":          {"- tls-server\n", "- tls-sever\n", "endpoints[0].profiles[0]", `did you mean "tls-server"?`},
		"usage not in issuer":      {"- tls-server-short\n", "- odd\n", "endpoints[0].profiles[1]", "issuer dev-a-1 cannot sign it"},
		"no profiles":              {"    profiles:\n      - tls-server\n      - tls-server-short\n      - tls-client\n", "", "endpoints[0].profiles", "required"},
		"unknown protocol":         {"protocol: acme", "protocol: acne", "endpoints[0].protocol", `did you mean "acme"?`},
		"unknown account rule":     {"external_account: optional", "external_account: never", "endpoints[0].external_account", "want one of optional, required"},
		"endpoint twice":           {"- name: eab", "- name: default", "endpoints[1].name", "defined twice"},
		"bad challenge network":    {"- 127.0.0.0/8", "- 0.0.0.0/0", "challenge", "0.0.0.0/0"},
		"bad limit":                {"pending_orders: 300", "pending_orders: -1", "limits.pending_orders", "negative"},
		"no address":               {"  https:\n    addr: 127.0.0.1", "  https:\n    addr: ''\n    #", "listeners.https.addr", "required"},
		"no port":                  {"  ops:\n    addr: 127.0.0.1:", "  ops:\n    addr: 127.0.0.1 #", "listeners.ops.addr", "want HOST:PORT"},
		"a name as address":        {"  ops:\n    addr: 127.0.0.1:", "  ops:\n    addr: ca.example.org:", "listeners.ops.addr", "not a name"},
		"TLS names":                {"names:\n        - localhost", "names:\n        - local_host", "listeners.https.tls.names[0]", "local_host"},
		"two keys of a kind":       {"tls:\n      issuer: dev-a-1", "tls:\n      algorithms: [rsa-2048, rsa-4096]\n      issuer: dev-a-1", "listeners.https.tls.algorithms[1]", "of this kind already"},
		"a key nobody knows":       {"tls:\n      issuer: dev-a-1", "tls:\n      algorithms: [dsa-1024]\n      issuer: dev-a-1", "listeners.https.tls.algorithms[0]", "want one of"},
		"everybody a balancer":     {"  ops:\n", "  ops:\n    connections: { proxy_from: [0.0.0.0/0] }\n", "listeners.ops.connections.proxy_from[0]", "everybody"},
		"everybody a proxy":        {"  http:\n", "  http:\n    connections: { forwarded_from: ['10.0.0.1/32', '::/0'] }\n", "listeners.http.connections.forwarded_from[1]", "everybody"},
		"a mapped network":         {"  ops:\n", "  ops:\n    connections: { proxy_from: ['::ffff:10.0.0.0/104'] }\n", "listeners.ops.connections.proxy_from[0]", "IPv4's own form"},
		"no such header":           {"  http:\n", "  http:\n    connections: { forwarded_header: x-real-ip }\n", "listeners.http.connections.forwarded_header", "want one of"},
		"negative connections":     {"  http:\n", "  http:\n    connections: { max: -1 }\n", "listeners.http.connections.max", "negative"},
		"a SCEP path of ours":      {"challenge: file:scep-challenge", "paths: [/crl/x]\n      challenge: file:scep-challenge", "endpoints[3].scep.paths[0]", "has /crl itself"},
		"no SCEP path":             {"challenge: file:scep-challenge", "paths: [cgi-bin]\n      challenge: file:scep-challenge", "endpoints[3].scep.paths[0]", "want a path"},
		"a SCEP path twice":        {"challenge: file:scep-challenge", "paths: [/a, /a]\n      challenge: file:scep-challenge", "endpoints[3].scep.paths[1]", "already"},
		"TLS issuer":               {"tls:\n      issuer: dev-a-1", "tls:\n      issuer: nobody", "listeners.https.tls.issuer", "want one of dev-a-1"},
		"TLS without source":       {"tls:\n      issuer: dev-a-1", "tls:\n      issuer: ''", "listeners.https.tls", "required"},
		"TLS from both":            {"tls:\n      issuer: dev-a-1", "tls:\n      certificate: x.pem\n      issuer: dev-a-1", "listeners.https.tls", "either"},
		"TLS from missing files":   {"tls:\n      issuer: dev-a-1", "tls:\n      certificate: gone.pem\n      key: file:gone.key\n      passphrase: file:secrets/state\n      #", "listeners.https.tls.certificate", "no such file"},
		"retention, no archive":    {"  passphrase: file:secrets/audit", "  passphrase: file:secrets/audit\n  retention: 24h", "audit.retention", "audit.archive"},
		"log level":                {"audit:\n  key", "log: {level: loud}\naudit:\n  key", "log.level", "want one of debug"},
		"OCSP mode":                {"    certificate: chain.pem", "    certificate: chain.pem\n    ocsp: {mode: nonces}", "issuers[0].ocsp.mode", "want one of presigned, live"},
		"OCSP unknown":             {"    certificate: chain.pem", "    certificate: chain.pem\n    ocsp: {unknown: revoked}", "issuers[0].ocsp.unknown", "extended-revoked"},
		"OCSP validity":            {"    certificate: chain.pem", "    certificate: chain.pem\n    ocsp: {validity: 5s}", "issuers[0].ocsp.validity", "want from 1m"},
		"OCSP outage":              {"    certificate: chain.pem", "    certificate: chain.pem\n    ocsp: {outage: -5s}", "issuers[0].ocsp", "negative"},
		"OCSP signer":              {"    certificate: chain.pem", "    certificate: chain.pem\n    ocsp: {signer: root}", "issuers[0].ocsp.signer", "want one of delegated, issuer"},
		"OCSP of an offline CA":    {"    crl: root.crl", "    crl: root.crl\n    ocsp: {certificate: gone.pem, key: 'file:keys/gone.key', passphrase: 'file:secrets/issuer'}", "offline[0].ocsp.certificate", "no such file"},
		"known keys missing":       {"endpoints:", "blocked_keys: [{file: gone.txt}]\nendpoints:", "blocked_keys[0].file", "no such file"},
		"known keys, no list":      {"endpoints:", "blocked_keys: [{file: chain.pem}]\nendpoints:", "blocked_keys[0].file", "line 1: want 64"},
		"no state passphrase":      {"  passphrase: file:secrets/state", "  passphrase: ''", "state.passphrase", "required"},
		"unknown key":              {"listeners:", "listenrs:", "listenrs", `did you mean "listeners"?`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if name == "usage not in issuer" {
				l.change(t, "endpoints:", "profiles: {odd: {ext_key_usage: [ipsecIKE], san: {dns: {}}}}\nendpoints:")
			}
			l.change(t, tc.from, tc.to)
			_, err := Load(l.file())
			if err == nil {
				t.Fatal("nothing was found wrong")
			}
			problems, ok := err.(strictyaml.Problems) //nolint:errorlint // Load returns it as it is
			if !ok {
				t.Fatalf("got a %T: %v", err, err)
			}
			found := false
			for _, p := range problems {
				found = found || p.Key == tc.key && strings.Contains(p.What, tc.what)
			}
			if !found {
				t.Errorf("want %s: …%s…, got:\n%v", tc.key, tc.what, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown:\n%v", err)
			}
		})
	}
}

func TestCheckReportsEverythingInOrder(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.change(t, "external_account: required", "external_account: maybe")
	l.change(t, "file:secrets/kek", "file:secrets/gone")
	l.change(t, "certificate: chain.pem", "certificate: gone.pem")
	_, err := Load(l.file())
	if err == nil {
		t.Fatal("nothing was found wrong")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "key_encryption") || !strings.Contains(lines[1], "issuers[0]") || !strings.Contains(lines[2], "endpoints[1]") {
		t.Errorf("got:\n%v", err)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, l.file()+":") {
			t.Errorf("no place in: %s", line)
		}
	}
}

func TestCheckTouchesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	before := listing(t, l.dir)
	if _, err := Load(l.file()); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, l.dir); after != before {
		t.Errorf("check changed the folder from\n%s\nto\n%s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			b.WriteString(path + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDigestIsOfWhatNodesShare(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	digest := func() string {
		cfg, err := Load(l.file())
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Digest()
	}
	first := digest()
	l.change(t, "audit:\n  key", "log: {level: debug}\naudit:\n  key")
	if digest() != first {
		t.Error("the log level changed the digest")
	}
	l.change(t, "external_account: required", "external_account: optional")
	if digest() == first {
		t.Error("an endpoint did not change the digest")
	}
}

func TestReferences(t *testing.T) {
	t.Setenv("PRIVYSEAL_TEST_SECRET", "from the environment")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "s"), []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[Reference]string{"file:s": "from a file", "env:PRIVYSEAL_TEST_SECRET": "from the environment"} {
		got, err := ref.Read(dir)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", ref, got, err)
		}
	}
	for ref, want := range map[Reference]string{"file:empty": "empty", "file:": "reference", "hunter2": "reference", "env:": "reference", "file:gone": "file:gone"} {
		if _, err := ref.Read(dir); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want …%s…", ref, err, want)
		}
	}
}

// TestFS6_SharedChallenge: one that any device has for any name is warned of, and
// names that hold nothing are refused.
func TestFS6_SharedChallenge(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.change(t, "challenge_any_name: true", "challenge_names: [\"*.devices.test\"]")
	if f, err := Load(l.file()); err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v %+v", err, f.Warnings)
	}
	l.change(t, "      challenge_names: [\"*.devices.test\"]\n", "")
	f, err := Load(l.file())
	if err != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0].What, "challenge_any_name: true") {
		t.Fatalf("%v %+v", err, f.Warnings)
	}
	const line = "      challenge: file:scep-challenge\n"
	l.change(t, line, line+"      challenge_names: [10.0.0.1/8]\n")
	if _, err := Load(l.file()); err == nil || !strings.Contains(err.Error(), "did you mean 10.0.0.0/8") {
		t.Errorf("%v", err)
	}
}

// TestFS9_ProfilesThatACMEDoesNotProve are warned of: what they would take is left out.
func TestFS9_ProfilesThatACMEDoesNotProve(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if f, err := Load(l.file()); err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v %+v", err, f.Warnings)
	}
	l.change(t, "- tls-server\n", "- device\n")
	f, err := Load(l.file())
	if err != nil || len(f.Warnings) != 1 || f.Warnings[0].Key != "endpoints[0].profiles[0]" ||
		!strings.Contains(f.Warnings[0].What, "takes serialNumber, C, ST, L, O, dnQualifier, UID, OU, DC from requests") {
		t.Errorf("%v %+v", err, f.Warnings)
	}
}
