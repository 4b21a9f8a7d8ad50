package main

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

// cpu returns the CPU time that a process has used, and its ended children.
func cpu(pid int) time.Duration {
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

// treeCPU returns the CPU time of a process and its descendants.
func treeCPU(root int) time.Duration {
	if root == 0 {
		return 0
	}
	total := time.Duration(0)
	for _, pid := range tree(root) {
		total += cpu(pid)
	}
	return total
}

// peakRSS returns the most memory that a process has held, in MiB.
func peakRSS(pid int) float64 {
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

// timings collects how long each step took.
type timings struct {
	mu    sync.Mutex
	steps map[string][]time.Duration
}

func (t *timings) add(step string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.steps == nil {
		t.steps = map[string][]time.Duration{}
	}
	t.steps[step] = append(t.steps[step], took)
}

// quantiles returns the median and the 99th percentile of a step, in
// milliseconds.
func (t *timings) quantiles(step string) (p50, p99 float64) {
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
