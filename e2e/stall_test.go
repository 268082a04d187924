//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pulse is a watch on the machine itself: how much longer than asked a sleep took, and how long a thread of a program waited for a processor.
type pulse struct{ longest, lateOver, waited atomic.Int64 }

// feel starts one, also on the threads of programs; it ends with the test.
func feel(t *testing.T, programs ...*process) *pulse {
	p := new(pulse)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		waits := map[string]int64{}
		for n := 0; ; n++ {
			start := time.Now()
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			late := int64(time.Since(start) - 10*time.Millisecond)
			p.longest.Store(max(p.longest.Load(), late))
			if late > int64(5*time.Millisecond) {
				p.lateOver.Add(late)
			}
			for _, program := range programs {
				if n%5 == 0 {
					p.look(program, waits)
				}
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
	return p
}

// look reads how long each thread was ready to run and did not (the second number of schedstat). A wait is booked when it ends, so what a thread
// has more than at the last look is one long wait, or some short ones.
func (p *pulse) look(program *process, waits map[string]int64) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", program.cmd.Process.Pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		if fields := strings.Fields(string(b)); len(fields) == 3 {
			if wait, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				if before, known := waits[f]; known {
					p.waited.Store(max(p.waited.Load(), wait-before))
				}
				waits[f] = wait
			}
		}
	}
}

func (p *pulse) String() string {
	return fmt.Sprintf("the machine was late by %v at once and %v in all, a thread of the edge waited %v for a processor", time.Duration(p.longest.Load()).Round(time.Millisecond),
		time.Duration(p.lateOver.Load()).Round(time.Millisecond), time.Duration(p.waited.Load()).Round(time.Millisecond))
}

// reset forgets what was before.
func (p *pulse) reset() { p.longest.Store(0); p.lateOver.Store(0); p.waited.Store(0) }

// stoodStill tells if somebody was late by more than the buffers of sockets hold at the rates of the attacks.
func (p *pulse) stoodStill() bool {
	return time.Duration(max(p.longest.Load(), p.waited.Load())) > 80*time.Millisecond
}

// judge fails the test if a time is over its limit, unless the machine was late itself: then it says that it does not know.
func (p *pulse) judge(t *testing.T, what string, took, limit time.Duration) {
	t.Helper()
	longest, late := time.Duration(p.longest.Load()), time.Duration(p.lateOver.Load())
	switch {
	case took <= limit:
	case longest > 50*time.Millisecond || late > took/20:
		t.Logf("%s: %v, limit %v: NOT JUDGED, the machine itself was late by %v at once and %v in all", what, took, limit, longest.Round(time.Millisecond), late.Round(time.Millisecond))
	default:
		t.Errorf("%s: %v, want at most %v (the machine was late by %v at once)", what, took, limit, longest.Round(time.Millisecond))
	}
}
