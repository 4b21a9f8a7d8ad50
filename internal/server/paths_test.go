package server

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/api"
)

// TestFR11_Paths: a device's own path leads to its SCEP endpoint, also after a reload;
// what leads nowhere names what does; and / says what there is.
func TestFR11_Paths(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const line = "challenge: file:scep-challenge"
	l.change(t, line, "paths: [/cgi-bin/pkiclient.exe]\n      "+line)
	l.serve(t)
	plain := "http://" + l.addr.http
	_, port, _ := net.SplitHostPort(l.addr.https)
	acme := "https://localhost:" + port
	_, port, _ = net.SplitHostPort(l.addr.est)
	est := "https://localhost:" + port
	expect := func(url string, status int, words ...string) {
		t.Helper()
		res, body := l.get(t, url)
		for _, w := range words {
			if !strings.Contains(string(body), w) {
				t.Errorf("%s does not name %s: %s", url, w, body)
			}
		}
		if res.StatusCode != status {
			t.Errorf("%s: %d %s", url, res.StatusCode, body)
		}
	}
	const ask = "?operation=GetCACaps"
	directory := acme + "/acme/default/directory"
	expect(plain+"/cgi-bin/pkiclient.exe"+ask, 200, "POSTPKIOperation")
	expect(plain+"/scep/default/pkiclient.exe"+ask, 200, "POSTPKIOperation")
	expect(plain+"/scep/default/scep.exe"+ask, 404, "/scep/default itself", "/certsrv/mscep/mscep.dll")
	expect(plain+"/scep/other"+ask, 404, "/scep/default", "/cgi-bin/pkiclient.exe")
	expect(plain+"/scep"+ask, 404, "/scep/default")
	expect(plain+"/cgi-bin/other.exe"+ask, 404, "/ says")
	expect(plain+"/", 200, "/roots.pem", "/scep/default", "/cgi-bin/pkiclient.exe", "/ocsp/ID")
	expect(acme+"/", 200, directory)
	expect(acme+"/directory", 404, "/ says")
	for _, path := range []string{"/acme", "/acme/", "/acme/default", "/acme/default/dir", "/acme/other/directory"} {
		expect(acme+path, 404, directory)
	}
	expect(est+"/", 200, "/.well-known/est")
	for _, path := range []string{"/.well-known/est", "/.well-known/est/other/cacerts", "/.well-known/est/cacert"} {
		expect(est+path, 404, "/.well-known/est", "/simpleenroll")
	}
	expect("http://"+l.addr.ops+"/", 200, "/metrics")
	l.change(t, "/cgi-bin/pkiclient.exe", "/certsrv/mscep/mscep.dll")
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	expect(plain+"/certsrv/mscep/mscep.dll"+ask, 200, "POSTPKIOperation")
	expect(plain+"/cgi-bin/pkiclient.exe"+ask, http.StatusNotFound, "/ says")
	_, body := l.get(t, "http://"+l.addr.ops+"/metrics")
	if want := `listener="http",method="GET",route="/{scep-path}"`; !strings.Contains(string(body), want) {
		t.Errorf("metrics lack %s", want)
	}
}
