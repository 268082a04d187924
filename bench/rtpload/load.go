//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rtcedge/bench/meter"
	"rtcedge/media/ng"
)

// load is one run.
type load struct {
	scenario     scenario
	host         netip.Addr
	tick         int64 // ns between the times at which packets leave
	meter        *meter.Meter
	callerFrames [][]byte
	calledFrames [][]byte

	calls   []*call
	parties []*party // in the order in which they send
	fds     []int
	epoll   int
	in      *inbox
	events  [256]unix.EpollEvent

	open, end int64 // the window, ns of the wall clock
	result    result
}

// Fixed by the scenario: 50 packets a second and stream.
const (
	packetTime = int64(20 * time.Millisecond)
	inTime     = int64(50 * time.Millisecond)
)

// warmCalls are set up and deleted before anything is measured.
const warmCalls = 5

// run sets the calls up, talks for the time, and hangs up.
func (l *load) run(ctx context.Context, client *ng.Client, warmUp, span time.Duration) error {
	// The first calls read code from the disk and make what lives as long as the process; that is no cost of a call, on either side.
	for n := range warmCalls {
		c, err := l.setUp(ctx, client, n)
		if err == nil {
			err = l.hangUp(ctx, client, c)
		}
		if err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
	}
	idle, err := l.meter.Memory()
	if err != nil {
		return err
	}
	spent := l.meter.Spent()
	begun := time.Now()
	for n := range l.scenario.calls {
		c, err := l.setUp(ctx, client, n)
		if err != nil {
			return fmt.Errorf("call %d: %w", n+1, err)
		}
		l.calls = append(l.calls, c)
		l.parties = append(l.parties, &c.caller)
	}
	for _, c := range l.calls {
		l.parties = append(l.parties, &c.called)
	}
	l.result.setUp = (l.meter.Spent() - spent) / time.Duration(len(l.calls))
	l.result.setUpTime = time.Since(begun) / time.Duration(len(l.calls))
	if err := l.watch(); err != nil {
		return err
	}
	l.in = newInbox()
	l.talk(warmUp, span)
	loaded, err := l.meter.Memory()
	if err != nil {
		return err
	}
	l.result.idle, l.result.perCall = idle, (loaded-idle)/int64(len(l.calls))
	spent = l.meter.Spent()
	for _, c := range l.calls {
		if err := l.hangUp(ctx, client, c); err != nil {
			return err
		}
	}
	l.result.hangUp = (l.meter.Spent() - spent) / time.Duration(len(l.calls))
	slices.Sort(l.result.delays)
	return nil
}

func (l *load) hangUp(ctx context.Context, client *ng.Client, c *call) error {
	resp, err := client.Delete(ctx, l.scenario.remove(c.id))
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if resp.Result != ng.ResultOK {
		return fmt.Errorf("delete: %s", resp.ErrorReason)
	}
	return nil
}

// talk sends and receives until the window is over and its last packets had their time.
func (l *load) talk(warmUp, span time.Duration) {
	start := wallClock() + int64(10*time.Millisecond)
	l.open = start + int64(warmUp)
	l.end = l.open + int64(span)
	l.result.delays = make([]int64, 0, int(span/time.Millisecond)*len(l.parties)/20+1000)
	step := packetTime / int64(len(l.parties))
	var spent, waited time.Duration
	measuring := false
	for tick := int64(0); ; {
		due := start + tick*step
		due -= (due - start) % l.tick
		now := wallClock()
		if !measuring && now >= l.open {
			measuring, spent, waited = true, l.meter.Spent(), l.meter.Waited()
		}
		if now >= l.end {
			break
		}
		if now >= due {
			l.send(l.parties[tick%int64(len(l.parties))])
			l.result.lag = max(l.result.lag, now-due)
			tick++
			// Arrivals are read now and then, so that a late start fills no socket.
			if tick%16 != 0 {
				continue
			}
		}
		l.receive()
	}
	l.result.cpu, l.result.waited = l.meter.Spent()-spent, l.meter.Waited()-waited
	l.result.span = time.Duration(wallClock() - l.open)
	for last := l.end + inTime; wallClock() < last; {
		l.receive()
	}
}

func (l *load) send(p *party) {
	n, err := p.fill()
	if err != nil {
		l.result.self++
		return
	}
	now := wallClock()
	p.sentAt[p.sent%uint64(len(p.sentAt))] = now
	p.sent++
	if now >= l.open && now < l.end {
		l.result.sent++
	}
	if !p.send(n) {
		l.result.self++
	}
}

// receive reads what has arrived. It never sleeps: to wake us would be work of the proxy's send.
func (l *load) receive() {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if e != 0 {
		return
	}
	for _, ev := range l.events[:n] {
		p := l.parties[ev.Fd]
		b, at, ok := l.in.receive(p.fd)
		if ok {
			l.arrived(p, b, at)
		}
	}
}

func (l *load) arrived(p *party, b []byte, at int64) {
	if len(b) > 1 && b[1] >= 192 && b[1] <= 223 {
		return // RTCP
	}
	within := at >= l.open && at < l.end
	if within {
		l.result.came++
	}
	n, ok := p.number(b, at)
	if !ok {
		if within {
			l.result.strange++
		}
		return
	}
	sent := p.peer.sentAt[n%uint64(len(p.sentAt))]
	if sent < l.open || sent >= l.end {
		return
	}
	delay := at - sent
	if delay <= inTime {
		l.result.inTime++
	}
	l.result.delays = append(l.result.delays, delay)
}

// close releases the sockets.
func (l *load) close() {
	for _, fd := range l.fds {
		unix.Close(fd)
	}
}
