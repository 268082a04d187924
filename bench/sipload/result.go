//go:build linux

package main

import (
	"fmt"
	"time"
)

// result is what one run has shown.
type result struct {
	offered   float64       // messages out of the proxy per second, if it does its work
	span      time.Duration // for which calls were started
	took      time.Duration // the part of it that rates and processor time are of
	perCall   float64
	planned   int // calls
	calls     int // started
	completed uint64
	refused   uint64
	sent      uint64 // messages into the proxy that must come out
	came      uint64 // of these
	out       uint64 // messages that came within took
	good      uint64 // calls completed within took
	twice     uint64
	strange   uint64
	self      uint64 // lost by ourselves
	size      float64
	cpu       time.Duration
	waited    time.Duration // that the proxy was ready to run, and something else ran on its core
	busy      float64       // share of the time in which we had work
	stall     time.Duration // the longest time in which we did not run
	delay     *histogram
}

func (r *result) loss() float64 {
	if r.sent == 0 {
		return 1
	}
	return 1 - float64(r.came)/float64(r.sent)
}

// rate is the number of messages out of the proxy per second.
func (r *result) rate() float64 { return float64(r.out) / r.took.Seconds() }

// limited tells that we were the limit, not the proxy.
func (r *result) limited() bool {
	return float64(r.calls) < 0.98*float64(r.planned) || r.self > 0
}

// passed tells that the proxy carried what was offered.
func (r *result) passed() bool {
	return r.loss() < maxLoss && r.refused == 0 && r.rate() > 0.97*r.offered
}

// maxLoss is the share of messages that may be lost at a rate that counts as carried.
const maxLoss = 0.001

// String is one line of name=value, for people and for awk.
func (r result) String() string {
	us := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/1000) }
	perMessage := 0.0
	if r.out > 0 {
		perMessage = float64(r.cpu) / 1000 / float64(r.out)
	}
	line := fmt.Sprintf("offered=%.0f rate=%.0f loss=%.4f%% calls=%d completed=%d good=%.0f refused=%d p50_us=%s p99_us=%s p999_us=%s",
		r.offered, r.rate(), 100*r.loss(), r.calls, r.completed, float64(r.good)*r.perCall/r.took.Seconds(), r.refused,
		us(r.delay.quantile(0.5)), us(r.delay.quantile(0.99)), us(r.delay.quantile(0.999)))
	line += fmt.Sprintf(" cpu_us=%.2f core=%.0f%% waited=%.1f%% bytes=%.0f twice=%d strange=%d self=%d busy=%.0f%% stall_ms=%.1f",
		perMessage, 100*r.cpu.Seconds()/r.took.Seconds(), 100*r.waited.Seconds()/r.took.Seconds(), r.size, r.twice, r.strange, r.self, 100*r.busy,
		float64(r.stall)/1e6)
	if r.limited() {
		line += " GENERATOR-LIMITED"
	}
	return line
}
