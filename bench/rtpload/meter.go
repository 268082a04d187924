//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// meter reads the processor time and the memory of a process. The time includes the softirq thread of the core that the process is
// pinned to: the kernel moves packet work there when there is much of it.
type meter struct {
	pid  int
	soft int // thread of the core; 0: not counted
}

func newMeter(pid, core int) (*meter, error) {
	m := &meter{pid: pid}
	if core < 0 {
		return m, nil
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	want := fmt.Sprintf("ksoftirqd/%d", core)
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == want {
			m.soft, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return m, nil
		}
	}
	return nil, fmt.Errorf("processor time: no thread %s", want)
}

// spent is the time on the processor since the start. The tick counters of /proc/PID/stat are too coarse for this.
func (m *meter) spent() time.Duration {
	run, _ := schedstat(m.pid)
	if m.soft != 0 {
		soft, _ := schedstat(m.soft)
		run += soft
	}
	return run
}

// waited is the time in which a thread of the process could run and something else had its core.
func (m *meter) waited() time.Duration {
	_, wait := schedstat(m.pid)
	return wait
}

func schedstat(pid int) (run, wait time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/schedstat", pid))
	if err != nil {
		return 0, 0
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		if f := strings.Fields(string(b)); len(f) > 1 {
			r, _ := strconv.ParseInt(f[0], 10, 64)
			w, _ := strconv.ParseInt(f[1], 10, 64)
			run, wait = run+time.Duration(r), wait+time.Duration(w)
		}
	}
	return run, wait
}

// memory is what the process has in RAM, in bytes.
func (m *meter) memory() (int64, error) {
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
