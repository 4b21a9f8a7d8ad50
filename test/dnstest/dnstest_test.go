package dnstest

import (
	"net/http"
	"os/exec"
	"testing"

	"github.com/miekg/dns"

	"github.com/privyseal/privyseal/test/need"
)

func ask(t *testing.T, s *Server, network, name string, typ uint16) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), typ), s.Addr())
	if err != nil {
		t.Fatalf("ask %s: %v", name, err)
	}
	return m
}

func TestAnswers(t *testing.T) {
	s := Start(t, "lab.test", "two.test")
	s.Add(t, "a.lab.test. IN AAAA ::1", "c.lab.test. IN CNAME b.two.test.")
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range []struct {
			name  string
			typ   uint16
			n     int
			rcode int
		}{
			{"X.lab.test", dns.TypeA, 1, 0},
			{"x.lab.test", dns.TypeTXT, 0, 0},
			{"a.lab.test", dns.TypeA, 0, 0}, // it has an address of its own
			{"a.lab.test", dns.TypeAAAA, 1, 0},
			{"c.lab.test", dns.TypeA, 2, 0},
			{"other.example", dns.TypeA, 0, dns.RcodeNameError},
		} {
			m := ask(t, s, network, c.name, c.typ)
			if len(m.Answer) != c.n || m.Rcode != c.rcode {
				t.Errorf("%s %s %d: %v", network, c.name, c.typ, m)
			}
		}
	}
	if n := s.Count("x.lab.test", dns.TypeA); n != 2 {
		t.Errorf("counted %d questions, want 2", n)
	}
}

func TestControl(t *testing.T) {
	s := Start(t)
	for _, c := range []struct {
		method, query string
		status        int
	}{
		{http.MethodPost, "?name=t.lab.test&value=one", 200},
		{http.MethodPost, "?name=t.lab.test.&value=two", 200},
		{http.MethodDelete, "?name=T.lab.test&value=one", 200},
		{http.MethodPost, "?value=x", 400},
		{http.MethodGet, "?name=t.lab.test", 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.ControlURL()+"/"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.query, resp.StatusCode, c.status)
		}
	}
	if m := ask(t, s, "udp", "t.lab.test", dns.TypeTXT); len(m.Answer) != 1 || m.Answer[0].(*dns.TXT).Txt[0] != "two" {
		t.Errorf("answer %v", m.Answer)
	}
}

func TestHook(t *testing.T) {
	need.Program(t, "curl")
	s := Start(t)
	hook := s.Hook(t)
	for _, args := range [][]string{{"present", "h.lab.test.", "a-_b"}, {"timeout"}} {
		if out, err := exec.CommandContext(t.Context(), hook, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if m := ask(t, s, "udp", "h.lab.test", dns.TypeTXT); len(m.Answer) != 1 {
		t.Fatalf("after present: %v", m.Answer)
	}
	if out, err := exec.CommandContext(t.Context(), hook, "cleanup", "h.lab.test.", "a-_b").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if m := ask(t, s, "udp", "h.lab.test", dns.TypeTXT); len(m.Answer) != 0 {
		t.Errorf("after cleanup: %v", m.Answer)
	}
}
