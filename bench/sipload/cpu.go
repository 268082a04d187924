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

// meter reads the processor time of a process, of its children, and of the softirq thread of the core that they are pinned to:
// the kernel moves packet work there when there is much of it.
type meter struct {
	pid  int // 0: nothing is measured
	core int // -1: no softirq thread
	soft int
}

func newMeter(pid, core int) (*meter, error) {
	m := &meter{pid: pid, core: core}
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
			m.soft, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
		}
	}
	if m.soft == 0 {
		return nil, fmt.Errorf("cpu: no thread %s", want)
	}
	return m, nil
}

// spent is the time on the processor since the start, and the time of waiting for it. The tick counters of /proc/PID/stat are too
// coarse for this.
func (m *meter) spent() (run, waited time.Duration) {
	if m.pid == 0 {
		return 0, 0
	}
	run, waited = family(m.pid, 0)
	if m.soft != 0 {
		r, w := family(m.soft, 0)
		run, waited = run+r, waited+w
	}
	return run, waited
}

func family(pid, depth int) (run, waited time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil || depth > 4 {
		return 0, 0
	}
	for _, task := range tasks {
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
