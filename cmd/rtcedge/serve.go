package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"
)

// part is one thing that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// drainer is how a role ends without dropping a call (B10).
type drainer struct {
	notice time.Duration // between "not ready" and the refusal of new calls: the time a load balancer needs to notice
	limit  time.Duration // how long existing calls may go on after that
	ready  func(bool)    // nil: nothing to tell
	refuse func()        // refuse new dialogs from now on
	calls  func() int    // calls that still go on

	started <-chan struct{} // closed when the parts can take calls; nil: at once
}

// serve runs the parts, given in the order in which they start. When ctx ends it drains and then ends them in reverse order,
// each after the one that needs it. A part that ends by itself ends all, with its error.
func serve(ctx context.Context, log *slog.Logger, d drainer, parts ...part) error {
	type running struct {
		part
		cancel context.CancelFunc
		done   chan error
	}
	failed := make(chan struct{}, len(parts))
	all := make([]running, len(parts))
	for i, p := range parts {
		pctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		all[i] = running{p, cancel, make(chan error, 1)}
		go func() {
			all[i].done <- p.run(pctx)
			failed <- struct{}{}
		}()
	}
	started := d.started
	if started == nil {
		now := make(chan struct{})
		close(now)
		started = now
	}
	for on := true; on; {
		select {
		case <-started:
			if d.ready != nil {
				d.ready(true)
			}
			started = nil
		case <-ctx.Done():
			d.drain(log, failed)
			on = false
		case <-failed:
			on = false
		}
	}
	if d.ready != nil {
		d.ready(false)
	}
	var first error
	for i := len(all) - 1; i >= 0; i-- {
		all[i].cancel()
		if err := <-all[i].done; err != nil && first == nil {
			first = fmt.Errorf("%s: %w", all[i].name, err)
		}
	}
	return first
}

// drain returns when no call is left, the limit is reached, or a part has failed.
func (d drainer) drain(log *slog.Logger, failed <-chan struct{}) {
	if d.ready != nil {
		d.ready(false)
	}
	count := func() int {
		if d.calls == nil {
			return 0
		}
		return d.calls()
	}
	log.Info("draining", "calls", count(), "notice", d.notice, "limit", d.limit)
	if !sleep(d.notice, failed) {
		return
	}
	if d.refuse != nil {
		d.refuse()
	}
	for end := time.Now().Add(d.limit); count() > 0 && time.Now().Before(end); {
		if !sleep(50*time.Millisecond, failed) {
			return
		}
	}
	log.Info("drained", "calls", count())
}

func sleep(d time.Duration, failed <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-failed:
		return false
	}
}

// heapFloor is memory that nobody touches, so that it takes none of the machine's. The collector counts it, and begins when the heap has
// grown by as much, in place of each 4 MB: that many are 100 calls or less, and a collection with what it wakes was a fifth of their set-up
// (bench/MEDIA.md). Who sets GOGC or GOMEMLIMIT has an opinion of his own.
func heapFloor() []byte {
	const floor = 12 << 20
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	return make([]byte, floor)
}

// spareProcessor gives the runtime one processor more than there are workers. A worker lends its own at each wait for packets; with
// no spare one the runtime's monitor takes it back thousands of times a second, which cost a fifth of the CPU of a relay and a tenth of that of
// a forwarded message (bench/MEDIA.md, bench/README.md).
func spareProcessor(workers int) {
	if workers == 0 {
		workers = runtime.NumCPU()
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), workers+1))
	}
}
