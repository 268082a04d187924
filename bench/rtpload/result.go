//go:build linux

package main

import (
	"fmt"
	"time"
)

// result is what one run has shown. Packets are those of the window.
type result struct {
	setUp     time.Duration // processor time of a call's set-up
	setUpTime time.Duration // by the clock
	hangUp    time.Duration // processor time of its end
	idle      int64         // bytes of memory before the first call
	perCall   int64         // bytes of memory that a call added

	sent    uint64
	came    uint64 // whenever they were sent
	inTime  uint64
	strange uint64 // arrivals that are none of the stream's packets
	self    uint64 // lost by ourselves
	span    time.Duration
	cpu     time.Duration
	waited  time.Duration // that the proxy was ready to run, and something else ran on its core
	lag     int64         // ns, the latest that we were
	delays  []int64       // ns, sorted at the end
}

func (r *result) quantile(q float64) float64 {
	if len(r.delays) == 0 {
		return 0
	}
	return float64(r.delays[min(int(q*float64(len(r.delays))), len(r.delays)-1)]) / 1000
}

// line is the result as name=value, for people, awk and --table.
func (r *result) line(name string, calls int) string {
	perPacket, lost := 0.0, 100.0
	if r.came > 0 {
		perPacket = float64(r.cpu) / 1000 / float64(r.came)
	}
	if r.sent > 0 {
		lost = 100 * (1 - float64(r.inTime)/float64(r.sent))
	}
	return fmt.Sprintf("%s calls=%d cpu_us=%.2f core=%.1f%% late_or_lost=%.3f%% p50_us=%.0f p99_us=%.0f setup_cpu_us=%.0f setup_us=%.0f delete_cpu_us=%.0f "+
		"idle_kB=%d call_kB=%.1f sent=%d came=%d strange=%d self=%d waited=%.1f%% lag_ms=%.1f", name, calls, perPacket,
		100*r.cpu.Seconds()/r.span.Seconds(), lost, r.quantile(0.5), r.quantile(0.99), float64(r.setUp)/1000, float64(r.setUpTime)/1000, float64(r.hangUp)/1000,
		r.idle>>10, float64(r.perCall)/1024, r.sent, r.came, r.strange, r.self, 100*r.waited.Seconds()/r.span.Seconds(), float64(r.lag)/1e6)
}
