//go:build linux

package main

import (
	"fmt"
	"io"
	"time"
)

// Chosen by us: with both, a search takes at most 16 runs.
const (
	climb  = 1.25 // from one rate to the next while all is carried
	halves = 4    // steps between the last rate that was carried and the first that was not: 1.4 % apart in the end
	climbs = 12
)

// search finds the greatest rate that the proxy carries and prints every run. A rate fails when two runs fail: on a machine
// with other work one may, by chance.
func (l *load) search(out io.Writer, name string, from float64, span time.Duration) result {
	best := result{delay: &histogram{}} // if no rate is carried at all
	try := func(rate float64) bool {
		for range 2 {
			r := l.offer(rate, span)
			fmt.Fprintf(out, "%s step %s\n", name, r)
			if r.passed() {
				if r.rate() > best.rate() || best.took == 0 {
					delay := *r.delay
					r.delay = &delay
					best = r
				}
				return true
			}
		}
		return false
	}
	low, high := from, from
	for range climbs {
		if !try(high) {
			break
		}
		low, high = high, high*climb
	}
	if best.took == 0 { // not even the first: look below it
		low = from / 4
	}
	for range halves {
		if mid := (low + high) / 2; try(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return best
}
