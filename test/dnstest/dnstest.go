// Package dnstest is a DNS server inside a test: every name below its zones is
// 127.0.0.1 until the test says otherwise. It answers by UDP and TCP on one
// port of the loopback interface, counts what it is asked, and can be told to
// fail, to be slow, or to keep silent. A small HTTP interface lets the hook
// scripts of ACME clients set TXT records.
//
// Enter at Start. It is not a resolver: names outside its zones do not exist.
package dnstest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Server is a running name server. Its methods may be called at any time.
type Server struct {
	addr    string
	zones   []string
	control *httptest.Server

	mu      sync.Mutex
	records map[string][]dns.RR // by lower-case name with trailing dot
	faults  map[string]Fault
	counts  map[question]int
	bare    bool
}

// Fault is what a name does instead of answering. The zero value answers.
type Fault struct {
	Type     uint16        // only for questions of this type; 0 is all
	Rcode    int           // answer with this code and no records
	Delay    time.Duration // wait before the answer
	Silent   bool          // no answer at all
	Truncate bool          // by UDP, say only that the answer is too long
	Cut      bool          // say so by TCP as well
	Garbage  bool          // octets that are no DNS message
	Mismatch bool          // answer another question
	NoEDNS   int           // answer a question that has EDNS with this code and nothing else
	Lame     bool          // answer as a server that is not the zone's own
}

type question struct {
	name string
	typ  uint16
}

// Start runs a server for zones, lab.test if none is given, until the test ends.
func Start(t testing.TB, zones ...string) *Server {
	t.Helper()
	s, stop, err := New(zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// New is Start for programs that are no tests; stop ends the server.
func New(zones ...string) (s *Server, stop func(), err error) {
	if len(zones) == 0 {
		zones = []string{"lab.test"}
	}
	s = &Server{records: map[string][]dns.RR{}, faults: map[string]Fault{}, counts: map[question]int{}}
	for _, z := range zones {
		s.zones = append(s.zones, key(z))
	}
	pc, l, err := listen()
	if err != nil {
		return nil, nil, fmt.Errorf("listen for DNS: %w", err)
	}
	s.addr = pc.LocalAddr().String()
	udp := &dns.Server{PacketConn: pc, Handler: s}
	tcp := &dns.Server{Listener: l, Handler: s}
	var running sync.WaitGroup
	for _, srv := range []*dns.Server{udp, tcp} {
		up := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(up) }
		running.Go(func() { _ = srv.ActivateAndServe() })
		<-up
	}
	s.control = httptest.NewServer(http.HandlerFunc(s.serveControl))
	return s, func() {
		_ = udp.Shutdown()
		_ = tcp.Shutdown()
		s.control.Close()
		running.Wait()
	}, nil
}

// listen finds one port that is free for UDP and TCP.
func listen() (net.PacketConn, net.Listener, error) {
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return pc, l, nil
		}
		_ = l.Close()
	}
	return nil, nil, errors.New("no port is free for both UDP and TCP")
}

// Addr is HOST:PORT of the server.
func (s *Server) Addr() string { return s.addr }

// Add puts records, in zone file form, beside those that are there. An A or
// AAAA record replaces the 127.0.0.1 of its name.
func (s *Server) Add(t testing.TB, records ...string) {
	t.Helper()
	if err := s.AddRecords(records...); err != nil {
		t.Fatal(err)
	}
}

// AddRecords is Add for programs that are no tests.
func (s *Server) AddRecords(records ...string) error {
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil || rr == nil {
			return fmt.Errorf("DNS record %q: %w", text, err)
		}
		s.put(rr)
	}
	return nil
}

func (s *Server) put(rr dns.RR) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key(rr.Header().Name)
	s.records[k] = append(s.records[k], rr)
}

// Remove takes all records and faults of a name away.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, key(name))
	delete(s.faults, key(name))
}

// SetTXT adds a TXT record made of strings.
func (s *Server) SetTXT(name string, strings ...string) {
	s.put(&dns.TXT{Hdr: header(name, dns.TypeTXT), Txt: strings})
}

// ClearTXT takes a name's TXT records away: those with the value, or all if the
// value is empty.
func (s *Server) ClearTXT(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[key(name)] = slices.DeleteFunc(s.records[key(name)], func(rr dns.RR) bool {
		txt, ok := rr.(*dns.TXT)
		return ok && (value == "" || strings.Join(txt.Txt, "") == value)
	})
}

// SetFault makes a name misbehave.
func (s *Server) SetFault(name string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[key(name)] = f
}

// Bare makes the server answer an alias with the CNAME record alone, as an
// authoritative server does that does not hold the target.
func (s *Server) Bare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bare = true
}

// Count returns how often a question came.
func (s *Server) Count(name string, typ uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[question{key(name), typ}]
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	if len(req.Question) != 1 {
		return
	}
	q := req.Question[0]
	m := new(dns.Msg).SetReply(req)
	m.RecursionAvailable = true
	name := key(q.Name)
	s.mu.Lock()
	s.counts[question{name, q.Qtype}]++
	f := s.faults[name]
	if f.Type != 0 && f.Type != q.Qtype {
		f = Fault{}
	}
	m.Answer, m.Rcode = s.answer(name, q.Qtype)
	s.mu.Unlock()
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	m.Authoritative = !f.Lame
	if f.Delay > 0 {
		<-time.After(f.Delay)
	}
	switch {
	case f.Silent:
		return
	case f.Garbage:
		_, _ = w.Write(append([]byte{byte(req.Id >> 8), byte(req.Id)}, "\x81\x80\x00\x01garbage"...))
		return
	case f.NoEDNS != 0 && req.IsEdns0() != nil:
		m.Rcode, m.Answer, m.Question = f.NoEDNS, nil, nil
	case f.Rcode != 0:
		m.Rcode, m.Answer = f.Rcode, nil
	case f.Truncate && udp, f.Cut:
		m.Truncated, m.Answer = true, nil
	case f.Mismatch:
		m.Question[0].Name = "other.lab.test."
	}
	if udp {
		size := uint16(dns.MinMsgSize)
		if opt := req.IsEdns0(); opt != nil {
			size = opt.UDPSize()
		}
		m.Truncate(int(size))
	}
	_ = w.WriteMsg(m)
}

// answer returns the records for a question. The caller holds the lock.
func (s *Server) answer(name string, typ uint16) ([]dns.RR, int) {
	var out []dns.RR
	for range 32 {
		if !s.holds(name) {
			return out, dns.RcodeNameError
		}
		var alias *dns.CNAME
		found, address := false, false
		for _, rr := range s.records[name] {
			if c, ok := rr.(*dns.CNAME); ok {
				alias = c
			}
			address = address || rr.Header().Rrtype == dns.TypeA || rr.Header().Rrtype == dns.TypeAAAA
			if rr.Header().Rrtype == typ {
				found = true
				out = append(out, rr)
			}
		}
		if alias != nil && !found {
			out = append(out, alias)
			if s.bare {
				return out, dns.RcodeSuccess
			}
			name = key(alias.Target)
			continue
		}
		if typ == dns.TypeA && !address {
			out = append(out, &dns.A{Hdr: header(name, dns.TypeA), A: net.IPv4(127, 0, 0, 1)})
		}
		return out, dns.RcodeSuccess
	}
	return out, dns.RcodeServerFailure
}

func (s *Server) holds(name string) bool {
	return slices.ContainsFunc(s.zones, func(zone string) bool {
		return name == zone || strings.HasSuffix(name, "."+zone)
	})
}

// ControlURL is where TXT records are set over HTTP: POST or DELETE with the
// form values name and value.
func (s *Server) ControlURL() string { return s.control.URL }

func (s *Server) serveControl(w http.ResponseWriter, r *http.Request) {
	name, value := r.FormValue("name"), r.FormValue("value")
	switch {
	case name == "":
		http.Error(w, "name is missing", http.StatusBadRequest)
	case r.Method == http.MethodPost:
		s.SetTXT(name, value)
	case r.Method == http.MethodDelete:
		s.ClearTXT(name, value)
	default:
		http.Error(w, "POST or DELETE", http.StatusMethodNotAllowed)
	}
}

// Hook writes a shell script for clients that call one with the words
// «present NAME VALUE» and «cleanup NAME VALUE», and returns its path. It
// needs curl.
func (s *Server) Hook(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dns-hook")
	script := `#!/bin/sh
set -e
case "$1" in
present) method=POST ;;
cleanup) method=DELETE ;;
*) exit 0 ;;
esac
exec curl -fsS --noproxy '*' -X "$method" "` + s.ControlURL() + `/?name=$2&value=$3"
`
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatalf("write hook: %v", err)
	}
	return path
}

func header(name string, typ uint16) dns.RR_Header {
	return dns.RR_Header{Name: key(name), Rrtype: typ, Class: dns.ClassINET}
}

func key(name string) string { return strings.ToLower(dns.Fqdn(name)) }
