//go:build linux

// Package meter tells what a process under a benchmark takes of the machine: processor time by schedstat, since the tick counters of
// /proc/PID/stat are too coarse, and memory.
package meter

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Meter reads the processor time of a process, of its children, and of the softirq thread of the core that they are pinned to: the
// kernel moves packet work there when there is much of it.
type Meter struct {
	pid  int // 0: nothing is measured
	soft int // thread of the core; 0: not counted
}

// New measures a process; pid 0 measures nothing, core -1 leaves the softirq thread out.
func New(pid, core int) (*Meter, error) {
	m := &Meter{pid: pid}
	if pid == 0 || core < 0 {
		return m, nil
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	want := fmt.Sprintf("ksoftirqd/%d", core)
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == want {
			m.soft, err = strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return m, err
		}
	}
	return nil, fmt.Errorf("processor time: no thread %s", want)
}

// Spent is the time on the processor since the start.
func (m *Meter) Spent() time.Duration {
	run, _ := family(m.pid, 0)
	soft, _ := family(m.soft, 0)
	return run + soft
}

// Waited is the time in which a thread of the process could run and something else had its core.
func (m *Meter) Waited() time.Duration {
	_, waited := family(m.pid, 0)
	return waited
}

// Memory is what the process itself has in RAM, in bytes.
func (m *Meter) Memory() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("memory: process %d has none", m.pid)
}

// family sums the threads of a process and of its children.
func family(pid, depth int) (run, waited time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil || pid == 0 || depth > 4 {
		return 0, 0
	}
	for _, task := range tasks {
		// What cannot be read has ended.
		if b, err := os.ReadFile(task + "/schedstat"); err == nil {
			if f := strings.Fields(string(b)); len(f) > 1 {
				r, _ := strconv.ParseInt(f[0], 10, 64)
				w, _ := strconv.ParseInt(f[1], 10, 64)
				run, waited = run+time.Duration(r), waited+time.Duration(w)
			}
		}
		if b, err := os.ReadFile(task + "/children"); err == nil {
			for _, f := range strings.Fields(string(b)) {
				child, _ := strconv.Atoi(f)
				r, w := family(child, depth+1)
				run, waited = run+r, waited+w
			}
		}
	}
	return run, waited
}
