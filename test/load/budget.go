package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// lines is the budget: the first line whose mark stands in a sample's stack takes
// the sample. The order settles what is nested, such as a signature that is
// verified by the linter.
var lines = []struct {
	name  string
	marks []string
}{
	{"lint", []string{"zmap/zlint"}},
	{"signatures", []string{"crypto/ecdsa.", "crypto/rsa.", "crypto/ed25519."}},
	{"validation", []string{"internal/challenge."}},
	{"store", []string{"internal/store.", "modernc.org/", "jackc/pgx"}},
	{"HTTP and TLS", []string{"net/http.", "crypto/tls.", "internal/poll."}},
	{"collector", []string{"runtime.gcBgMarkWorker", "runtime.bgsweep", "runtime.bgscavenge"}},
}

// profile reads the server's CPU profile of the given time.
func profile(ops, dir string, length time.Duration) (string, error) {
	resp, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", ops, int(length.Seconds())))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("profile: %s", resp.Status)
	}
	file := filepath.Join(dir, "cpu.pprof")
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return file, err
}

// budget returns the share of each line in a CPU profile.
func budget(binary, file string) (map[string]float64, error) {
	out, err := exec.Command("go", "tool", "pprof", "-traces", "-unit=us", binary, file).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w", err)
	}
	shares, total := map[string]float64{}, 0.0
	for _, trace := range strings.Split(string(out), "-----------+-")[1:] {
		_, stack, _ := strings.Cut(trace, "\n")
		var us float64
		if _, err := fmt.Sscanf(strings.TrimSpace(stack), "%fus", &us); err != nil {
			continue
		}
		total += us
		shares[line(stack)] += us
	}
	for name := range shares {
		shares[name] /= total
	}
	return shares, nil
}

func line(stack string) string {
	for _, l := range lines {
		for _, mark := range l.marks {
			if strings.Contains(stack, mark) {
				return l.name
			}
		}
	}
	return "rest"
}
