//go:build linux

package transport

import (
	"testing"
	"time"
)

// TestGatherOnlyUnderLoad: a worker pauses for company after a busy window only, and stops with the load.
func TestGatherOnlyUnderLoad(t *testing.T) {
	now := time.Unix(1000, 0)
	l := load{since: now}
	step := func(messages int, d time.Duration, want bool) {
		t.Helper()
		l.count += messages
		now = now.Add(d)
		if got := l.busy(now); got != want {
			t.Errorf("%d messages in %v: pause %v, want %v", messages, d, got, want)
		}
	}
	step(10, gatherWindow, false)                                    // 1,000 a second
	step(200, gatherWindow/2, false)                                 // the window is not over
	step(0, gatherWindow/2, true)                                    // 20,000 a second
	step(0, gatherWindow/2, true)                                    // holds for a window
	step(0, gatherWindow/2, false)                                   // silence
	step(gatherRate, 2*time.Second, false)                           // much, but over a long time
	step(int(gatherRate*gatherWindow.Seconds()), gatherWindow, true) // just enough
}
