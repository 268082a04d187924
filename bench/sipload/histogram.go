//go:build linux

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are 1/32 of their value wide, from 1 us to minutes.
type histogram struct {
	buckets [32 * 28]uint64
	count   uint64
}

// bucket is the index for a number of microseconds: exact below 32, then 32 steps per power of two.
func bucket(us uint64) int {
	if us < 32 {
		return int(us)
	}
	shift := bits.Len64(us) - 6
	return min((shift+1)*32+int(us>>shift)-32, len(histogram{}.buckets)-1)
}

// lowest is the least number of microseconds in a bucket.
func lowest(i int) uint64 {
	if i < 64 {
		return uint64(i)
	}
	shift := i/32 - 1
	return uint64(32+i%32) << shift
}

func (h *histogram) add(ns int64) {
	h.buckets[bucket(uint64(max(ns, 0))/1000)]++
	h.count++
}

// quantile is the duration below which a share q of all lies.
func (h *histogram) quantile(q float64) time.Duration {
	want := uint64(q * float64(h.count))
	var seen uint64
	for i, n := range h.buckets {
		seen += n
		if n > 0 && seen >= want {
			return time.Duration(lowest(i)) * time.Microsecond
		}
	}
	return 0
}
