// Package meter measures other processes on Linux (CPU time, memory, descriptors) and
// how long steps take, for the programs that print such figures.
package meter

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clockTick is the unit of CPU times in /proc: 1/100 s on every Linux that Go
// runs on (USER_HZ).
const clockTick = 10 * time.Millisecond

// CPU returns the CPU time that a process has used, and its ended children.
func CPU(pid int) time.Duration {
	fields := stat(pid)
	if fields == nil {
		return 0
	}
	total := 0
	for _, at := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, _ := strconv.Atoi(fields[at])
		total += n
	}
	return time.Duration(total) * clockTick
}

// stat returns the fields of /proc/PID/stat that follow the program's name.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)
}

// tree returns a process and all that descend from it.
func tree(root int) []int {
	pids := []int{root}
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	parent := map[int]int{}
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if fields := stat(pid); err == nil && fields != nil {
			parent[pid], _ = strconv.Atoi(fields[1])
		}
	}
	for i := 0; i < len(pids); i++ {
		for pid, up := range parent {
			if up == pids[i] {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// TreeCPU returns the CPU time of a process and its descendants.
func TreeCPU(root int) time.Duration {
	if root == 0 {
		return 0
	}
	total := time.Duration(0)
	for _, pid := range tree(root) {
		total += CPU(pid)
	}
	return total
}

// PeakRSS returns the most memory that a process has held, in MiB.
func PeakRSS(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kb) / 1024
		}
	}
	return 0
}

// Timings collects how long each step took.
type Timings struct {
	mu    sync.Mutex
	steps map[string][]time.Duration
}

// Add takes one more time of a step.
func (t *Timings) Add(step string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.steps == nil {
		t.steps = map[string][]time.Duration{}
	}
	t.steps[step] = append(t.steps[step], took)
}

// Quantiles returns the median and the 99th percentile of a step, in
// milliseconds.
func (t *Timings) Quantiles(step string) (p50, p99 float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.steps[step]
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	at := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000 }
	return at(0.5), at(0.99)
}

// Descriptors returns how many files and connections a process has open.
func Descriptors(pid int) int {
	open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)) // none of a process that has ended
	return len(open)
}
