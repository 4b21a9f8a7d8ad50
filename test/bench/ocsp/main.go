// Command ocsp measures the OCSP responder: GET from memory and POST under load,
// beside an nginx that serves the same octets as a static file in the same run,
// and live signing beside raw signing. Server, nginx and load are three processes
// on this machine. It prints its figures; it fails only when something answers
// wrongly.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	serve := flag.Bool("serve", false, "be the server of a measurement (internal)")
	dir := flag.String("dir", "", "folder of the server (internal)")
	round := flag.Duration("round", 4*time.Second, "length of one round")
	rounds := flag.Int("rounds", 5, "rounds of each kind, in turn; the median counts")
	conns := flag.Int("conns", 64, "connections of the load")
	flag.Parse()
	var err error
	if *serve {
		err = runServer(*dir)
	} else {
		err = measure(*round, *rounds, *conns)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ocsp bench:", err)
		os.Exit(1)
	}
}

// setup is what the server tells the load.
type setup struct {
	Addr  string
	Get   []byte // whole HTTP requests
	Post  []byte
	Nonce []byte // a POST whose nonce the load changes
	At    int    // where the nonce is in it
	Body  []byte // the answer to Get and Post
}

func measure(round time.Duration, rounds, conns int) error {
	dir, err := os.MkdirTemp("", "privyseal-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, s, err := startServer(dir)
	if err != nil {
		return err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	static, err := startNginx(dir, s.Body)
	if err != nil {
		return err
	}
	defer static.stop()

	web, us := static.cmd.Process.Pid, server.Process.Pid
	kinds := []kind{
		{"nginx, static file, GET", static.addr, getRequest(static.addr, "/response"), s.Body, 0, web},
		{"OCSP GET from memory", s.Addr, s.Get, s.Body, 0, us},
		{"OCSP POST from memory", s.Addr, s.Post, s.Body, 0, us},
		{"OCSP POST with a nonce, signed live", s.Addr, s.Nonce, nil, s.At, us},
	}
	rates, costs := map[string][]float64{}, map[string][]float64{}
	for range rounds {
		for _, k := range kinds {
			rate, cost, err := k.run(conns, round)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			rates[k.name], costs[k.name] = append(rates[k.name], rate), append(costs[k.name], cost)
		}
		raw, cost, err := rawSigning(round / 4)
		if err != nil {
			return err
		}
		rates[rawName], costs[rawName] = append(rates[rawName], raw), append(costs[rawName], cost)
	}
	report(kinds, rates, costs, s, conns, rounds, round)
	return nil
}

const rawName = "raw P-256 signatures, all processors"

// kind is one thing to measure.
type kind struct {
	name, addr string
	request    []byte
	want       []byte
	nonceAt    int
	pid        int // who answers
}

// run returns answers in a second, and the microseconds of CPU time that each
// cost the one who answered.
func (k kind) run(conns int, length time.Duration) (rate, cost float64, err error) {
	before, began := cpuOf(k.pid), time.Now()
	rate, err = load(k.addr, k.request, k.want, k.nonceAt, conns, length)
	answers := rate * time.Since(began).Seconds()
	return rate, float64((cpuOf(k.pid) - before).Microseconds()) / answers, err
}

func report(kinds []kind, rates, costs map[string][]float64, s *setup, conns, rounds int, round time.Duration) {
	fmt.Printf("OCSP on %d processors, %d connections, answer of %d octets, median of %d rounds of %v (lowest to "+
		"highest)\n\n",
		runtime.NumCPU(), conns, len(s.Body), rounds, round)
	base, cheapest := median(rates[kinds[0].name]), median(costs[kinds[0].name])
	fmt.Printf("  %-38s %10s %24s %9s %12s %9s\n", "", "answers/s", "", "of nginx", "CPU µs each", "of nginx")
	for _, k := range kinds {
		r, c := rates[k.name], median(costs[k.name])
		spread := fmt.Sprintf("(%.0f to %.0f)", slices.Min(r), slices.Max(r))
		fmt.Printf("  %-38s %10.0f %24s %9.2f %12.1f %9.2f\n", k.name, median(r), spread, median(r)/base, c, cheapest/c)
	}
	raw, live := rates[rawName], median(rates[kinds[3].name])
	fmt.Printf("  %-38s %10.0f %24s %9s %12.1f\n", rawName, median(raw),
		fmt.Sprintf("(%.0f to %.0f)", slices.Min(raw), slices.Max(raw)), "", median(costs[rawName]))
	fmt.Printf("\nlive signing over HTTP is %.2f of raw signing; server, nginx and load share the processors\n",
		live/median(raw))
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// startServer runs this program as the server and reads what it tells.
func startServer(dir string) (*exec.Cmd, *setup, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, "-serve", "-dir", dir) //nolint:gosec // this program
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	line, err := bufio.NewReaderSize(out, 1<<20).ReadString('\n')
	if err != nil {
		return nil, nil, fmt.Errorf("the server did not start: %w", err)
	}
	var s setup
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		return nil, nil, err
	}
	return cmd, &s, nil
}

func getRequest(addr, path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
}

func postRequest(addr, path string, body []byte) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: "+
		"application/ocsp-request\r\nContent-Length: %d\r\n\r\n",
		path, addr, len(body))
	return append([]byte(head), body...)
}

type nginx struct {
	cmd  *exec.Cmd
	addr string
}

// startNginx serves body with all that makes a static file fast.
func startNginx(dir string, body []byte) (*nginx, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		if _, err = os.Stat("/usr/sbin/nginx"); err != nil {
			return nil, fmt.Errorf("nginx is not installed: %w", err)
		}
		path = "/usr/sbin/nginx"
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nginx may run its workers as another user
		return nil, err
	}
	conf := strings.NewReplacer("DIR", dir, "ADDR", addr, "N", fmt.Sprint(runtime.NumCPU())).Replace(`
daemon off; worker_processes N; pid DIR/nginx.pid; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; open_file_cache max=16 inactive=1h; open_file_cache_valid 1h;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  default_type application/ocsp-response;
  server { listen ADDR; location / { root DIR/static; expires 5m; } }
}
`)
	if err := os.MkdirAll(dir+"/static", 0o755); err != nil { //nolint:gosec // as above
		return nil, err
	}
	for name, data := range map[string][]byte{"static/response": body, "nginx.conf": []byte(conf)} {
		if err := os.WriteFile(dir+"/"+name, data, 0o644); err != nil { //nolint:gosec // as above
			return nil, err
		}
	}
	cmd := exec.Command(path, "-p", dir, "-c", dir+"/nginx.conf") //nolint:gosec // see LookPath
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	n := &nginx{cmd, addr}
	if err := awaitListener(addr); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

func (n *nginx) stop() {
	_ = n.cmd.Process.Signal(os.Interrupt)
	_ = n.cmd.Wait()
}
