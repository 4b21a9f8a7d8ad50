package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// yamlBlock is a part of a configuration in a page.
var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestFR18_ClientsPage: what the page of clients tells to write is read, and taken.
func TestFR18_ClientsPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllSubmatch(text, -1)
	if len(blocks) < 4 {
		t.Fatalf("%d parts of a configuration", len(blocks))
	}
	for _, b := range blocks {
		var c Config
		if err := strictyaml.Decode("clients.md", b[1], &c).Err(); err != nil {
			t.Error(err)
		}
		for _, e := range c.Endpoints {
			ep := est.Endpoint{Name: e.Name, Issuer: e.Issuer, Profiles: e.Profiles, WrapBase64: e.EST.WrapBase64}
			if err := ep.Check(); e.Protocol == ProtocolEST && err != nil {
				t.Error(err)
			}
			if err := e.SCEP.Check(); err != nil {
				t.Error(err)
			}
		}
		for _, is := range c.Issuers {
			if is.OCSP.Mode != "" && is.OCSP.Mode != "live" {
				t.Errorf("mode %q", is.OCSP.Mode)
			}
		}
	}
	if !strings.Contains(string(text), "dev --unconstrained") {
		t.Error("the page does not say how strongSwan takes the development root")
	}
}
